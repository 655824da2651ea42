"""Langevin dynamics of a charged cell (ASE): resumable, never over another trajectory.

Beside the trajectory lies a checkpoint with positions, momenta, the state of the random numbers
and the length that the trajectory's file had. A continuation cuts off what was written after it
and goes on as if nothing had happened.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from pymatgen.core import Structure

from defect_mf_flows.core.charge import (
    FIDELITY,
    charge_of,
    read_extxyz,
    spin_of,
    to_atoms,
    write_extxyz,
)
from defect_mf_flows.errors import DynamicsError
from defect_mf_flows.learning.files import write_bytes
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import explosion
from defect_mf_flows.schemas.dynamics import (
    DynamicsEnd,
    DynamicsIdentity,
    DynamicsReport,
    DynamicsSettings,
)
from defect_mf_flows.schemas.frame import content_hash, structure_key

#: A kinetic temperature beyond this many times the thermostat's is no fluctuation, ...
TOO_HOT = 6.0
#: ... and not what a small cell sets free on its way to the model's minimum either, K.
RELEASED = 2000.0
#: Energy of the model. Not the key of labels: no dataset must take it for the method's own.
MODEL_ENERGY = "model_energy"
STEP, TIME, TEMPERATURE = "md_step", "md_time_fs", "md_temperature_K"

Progress = Callable[[int, int], None]


def identify(
    structure: Structure,
    head: str,
    model_hash: str,
    settings: DynamicsSettings,
    *,
    defect: str | None = None,
) -> DynamicsIdentity:
    """Say whose trajectory a geometry and a model make.

    Parameters
    ----------
    structure
        Charged geometry to start from.
    head, model_hash
        Head, and SHA-256 of the model.
    settings
        Of the dynamics.
    defect
        Its name.
    """
    return DynamicsIdentity(
        defect=defect,
        charge=charge_of(structure),
        spin=spin_of(structure),
        head=head,
        model_hash=model_hash,
        start_hash=content_hash(structure_key(structure)),
        settings=settings,
    )


def model_dynamics(
    potential: Potential,
    structure: Structure,
    settings: DynamicsSettings,
    path: Path,
    *,
    steps: int,
    defect: str | None = None,
    pairs: list[tuple[int, int]] | None = None,
    progress: Progress = lambda done, total: None,
) -> DynamicsReport:
    """Dynamics on the potential's head; see :func:`run_dynamics`.

    Raises
    ------
    ChargeError
        If the head was not trained on the charge or spin.
    """
    identity = identify(
        structure, potential.head, potential.document.model_hash, settings, defect=defect
    )
    calculator = potential.calculator(structure)
    return run_dynamics(
        structure, calculator, identity, path, steps=steps, pairs=pairs, progress=progress
    )


def run_dynamics(
    structure: Structure,
    calculator: Calculator,
    identity: DynamicsIdentity,
    path: Path,
    *,
    steps: int,
    pairs: list[tuple[int, int]] | None = None,
    progress: Progress = lambda done, total: None,
) -> DynamicsReport:
    """Langevin dynamics up to a number of steps, from where the trajectory ends.

    Parameters
    ----------
    structure
        Charged geometry to start from.
    calculator
        Of that charge, head and cell.
    identity
        Whose trajectory it is.
    path
        Trajectory, extended XYZ; each frame carries charge, spin and fidelity, momenta, and
        ``model_energy`` (eV per cell). Its checkpoint is ``<path>.checkpoint``.
    steps
        In all, those of earlier calls included; none beyond the last frame are made.
    pairs
        Atoms whose distances are followed.
    progress
        Called with steps done and in all.

    Returns
    -------
    DynamicsReport
        Of the whole trajectory. Where atoms explode it ends before the first frame that does.

    Raises
    ------
    DynamicsError
        If the file belongs to another trajectory, or cannot be written.
    """
    run = _Run(structure, calculator, identity, path)
    try:
        state = run.begin()
        began = state.step
        end, message = run.walk(state, steps - steps % identity.settings.every, progress)
    except OSError as error:
        raise DynamicsError(f"{path}: cannot be written: {error}; free the disk.") from None
    return _report(run, end, message, began, pairs or [])


@dataclass(frozen=True)
class _State:
    """Where a trajectory stands, as its checkpoint holds it."""

    step: int
    positions: np.ndarray
    momenta: np.ndarray
    random: dict[str, Any]
    size: int
    exploded: str = ""

    def to_json(self, identity: DynamicsIdentity) -> bytes:
        content = {
            "identity": identity.model_dump(mode="json"),
            "step": self.step,
            "positions": self.positions.tolist(),
            "momenta": self.momenta.tolist(),
            "random": self.random,
            "size": self.size,
            "exploded": self.exploded,
        }
        return json.dumps(content).encode()


class _Run:
    """One trajectory and its files."""

    def __init__(
        self, structure: Structure, calculator: Calculator, identity: DynamicsIdentity, path: Path
    ) -> None:
        self.identity, self.path, self.settings = identity, path, identity.settings
        self.checkpoint = path.with_name(path.name + ".checkpoint")
        self.atoms = to_atoms(structure)
        self.start = self.atoms.get_positions()
        self.atoms.calc = calculator
        self.atoms.set_constraint(FixCom())
        self.random = np.random.default_rng(identity.settings.seed)

    def begin(self) -> _State:
        """Take the checkpoint up, or start anew where there is no file yet."""
        if self.checkpoint.is_file():
            return self._taken_up()
        if self.path.exists():
            raise DynamicsError(
                f"{self.path} exists and has no checkpoint ({self.checkpoint.name}), so nothing "
                "continues it; give another file (--trajectory)."
            )
        kelvin = self.settings.temperature
        MaxwellBoltzmannDistribution(self.atoms, temperature_K=kelvin, rng=self.random)
        Stationary(self.atoms)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("xb"):
            pass
        return self._written(self._state(0, 0))

    def _taken_up(self) -> _State:
        try:
            content = json.loads(self.checkpoint.read_text())
            known = DynamicsIdentity.model_validate(content.pop("identity"))
            state = _State(
                **{
                    **content,
                    "positions": np.array(content["positions"]),
                    "momenta": np.array(content["momenta"]),
                }
            )
            length = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DynamicsError(
                f"{self.checkpoint}: cannot be continued: {str(error)[:200]}; restore it, or give "
                "another file (--trajectory)."
            ) from None
        if known != self.identity:
            raise DynamicsError(
                f"{self.path} is another trajectory ({_difference(known, self.identity)}); give "
                "another file (--trajectory)."
            )
        if length < state.size:
            raise DynamicsError(
                f"{self.path} is shorter than its checkpoint says: it was altered; give another "
                "file (--trajectory)."
            )
        with self.path.open("r+b") as file:  # a kill between a frame and its checkpoint
            file.truncate(state.size)
        self.atoms.set_positions(state.positions, apply_constraint=False)
        self.atoms.set_momenta(state.momenta, apply_constraint=False)
        self.random.bit_generator.state = state.random
        return state

    def walk(self, state: _State, steps: int, progress: Progress) -> tuple[DynamicsEnd, str]:
        """Go on to a step, writing frames and checkpoints."""
        if state.exploded:
            return DynamicsEnd.EXPLODED, state.exploded
        settings = self.settings
        langevin = Langevin(
            self.atoms,
            timestep=settings.timestep * units.fs,
            temperature_K=settings.temperature,
            friction=settings.friction / units.fs,
            fixcm=False,
            rng=self.random,
        )
        step = state.step
        progress(step, steps)
        while step < steps:
            step += 1
            try:
                langevin.step()
                message = self._exploded(self.atoms.get_forces())
            except (ValueError, RuntimeError, FloatingPointError, np.linalg.LinAlgError) as error:
                # The neighbour list of a cell whose atoms have flown apart fails, for one; so does
                # a machine out of memory, which says nothing of the model.
                message = self._exploded(np.zeros_like(self.start))
                if not message:
                    raise DynamicsError(
                        f"{self.path}: step {step} failed ({type(error).__name__}: "
                        f"{str(error)[:200]}); mend the cause, the same command goes on from step "
                        f"{state.step}."
                    ) from error
            if message:
                message = f"step {step}: {message}"
                write_bytes(
                    self.checkpoint, replace(state, exploded=message).to_json(self.identity)
                )
                return DynamicsEnd.EXPLODED, message
            if step % settings.every == 0:
                state = self._written(self._state(step, state.size))
            progress(step, steps)
        return DynamicsEnd.DONE, ""

    def _exploded(self, forces: np.ndarray) -> str:
        message = explosion(forces, self.atoms.get_positions() - self.start)
        kelvin = self.atoms.get_temperature()
        if not message and not kelvin <= TOO_HOT * self.settings.temperature + RELEASED:
            message = f"{kelvin:.0f} K at a thermostat of {self.settings.temperature:g} K"
        return message

    def _state(self, step: int, size: int) -> _State:
        return _State(
            step=step,
            positions=self.atoms.get_positions(),
            momenta=self.atoms.get_momenta(),
            random=dict(self.random.bit_generator.state),
            size=size,
        )

    def _written(self, state: _State) -> _State:
        """Append the present frame, then the checkpoint that knows of it."""
        frame = self.atoms.copy()
        frame.set_constraint()
        frame.calc = None
        frame.info |= {
            FIDELITY: self.identity.head,
            MODEL_ENERGY: float(self.atoms.get_potential_energy()),
            "model_hash": self.identity.model_hash,
            STEP: state.step,
            TIME: state.step * self.settings.timestep,
            TEMPERATURE: float(self.atoms.get_temperature()),
        }
        write_extxyz(self.path, [frame], append=True)
        state = replace(state, size=self.path.stat().st_size)
        write_bytes(self.checkpoint, state.to_json(self.identity))
        return state


def _difference(known: DynamicsIdentity, asked: DynamicsIdentity) -> str:
    one, other = (
        {**i.model_dump(exclude={"settings"}), **i.settings.model_dump()} for i in (known, asked)
    )
    parts = [f"{key} {one[key]}, now {other[key]}" for key in one if one[key] != other[key]]
    return "; ".join(parts)


def _report(
    run: _Run, end: DynamicsEnd, message: str, began: int, pairs: list[tuple[int, int]]
) -> DynamicsReport:
    frames = read_extxyz(run.path)
    kelvins = [float(f.info[TEMPERATURE]) for f in frames]
    late = kelvins[len(kelvins) // 2 :] if len(kelvins) > 1 else []
    moved = max(np.linalg.norm(f.get_positions() - run.start, axis=1).max() for f in frames)
    return DynamicsReport(
        identity=run.identity,
        trajectory=run.path.name,
        end=end,
        message=message,
        steps=int(frames[-1].info[STEP]),
        continued_from=began,
        times=[float(f.info[TIME]) for f in frames],
        temperatures=kelvins,
        energies=[float(f.info[MODEL_ENERGY]) for f in frames],
        mean_temperature=float(np.mean(late)) if late else None,
        temperature_spread=float(np.std(late)) if late else None,
        bonds={_pair(frames[0], i, j): [_length(f, i, j) for f in frames] for i, j in pairs},
        farthest=float(moved),
    )


def _pair(atoms: Atoms, i: int, j: int) -> str:
    return f"{atoms.symbols[i]}{i}-{atoms.symbols[j]}{j}"


def _length(atoms: Atoms, i: int, j: int) -> float:
    return float(atoms.get_distance(i, j, mic=True))
