"""Relaxation in batches with torch-sim (extra ``gpu``), for GPUs.

torch-sim 0.3 knows neither charge nor head; ``ChargedState`` carries the charge through every
split and join, and ``HeadModel`` computes with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, from_atoms, to_atoms
from defect_mf_flows.errors import ChargeError, DefectMFError, EngineError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import (
    MAX_MOVE,
    Limits,
    Problem,
    Relaxed,
    Trajectory,
    explosion,
    lost,
)
from defect_mf_flows.schemas.model import Model

logger = logging.getLogger(__name__)

#: Where there is no memory to measure, atoms times number density (atoms/nm^3) of a batch: a few
#: dozen cells of 31 atoms, which lie in a CPU's caches. A cell that is larger is a batch itself.
CPU_MEMORY = 1e4


def relax_batched(
    structures: Sequence[Structure],
    model: Model,
    head: str,
    limits: Limits,
    *,
    device: str,
    dtype: str | None = None,
    report: Callable[[int], None] = lambda done: None,
    memory: float | None = None,
) -> list[Relaxed]:
    """Relax structures in batches; one that converges makes room for the next.

    Parameters
    ----------
    structures
        Charged structures; sizes and charges may differ.
    model, head
        Model with its blob, and head on which to relax.
    limits
        When to end.
    device
        torch device.
    dtype
        Precision; None: the model's.
    report
        Called with the number of structures done.
    memory
        Largest sum of atoms times number density (atoms/nm^3) in a batch, as torch-sim counts
        memory; None: as much as the device holds, which torch-sim finds out by trying; on a CPU
        ``CPU_MEMORY``.

    Returns
    -------
    list of Relaxed
        In the order of the structures.

    Raises
    ------
    EngineError
        Without torch-sim.
    """
    require_torch_sim()
    potential = Potential(model, head=head, device=device, dtype=dtype)
    if memory is None and not device.startswith("cuda"):
        memory = max([CPU_MEMORY, *(1.01 * memory_of(structure) for structure in structures)])
    run = _Run(structures, potential, limits, report)
    while run.waiting:
        try:
            run.go(run.waiting, memory)
        except Exception as error:
            memory = run.recovered(error, memory)
    return [run.ends[i] for i in range(len(structures))]


def memory_of(structure: Structure) -> float:
    """Memory of a structure as torch-sim counts it: atoms times atoms per nm^3."""
    return float(len(structure) ** 2 / (structure.volume / 1000))


def require_torch_sim() -> None:
    """Say what to install where torch-sim is missing.

    Raises
    ------
    EngineError
        Without it.
    """
    try:
        import mace  # noqa: F401  (before e3nn)
        import torch_sim  # noqa: F401
    except ImportError as error:
        raise EngineError(
            f"relaxing on a GPU needs torch-sim ({error}): pip install 'defect-mf-flows[gpu]', or "
            "set training.device to cpu."
        ) from None


class _Run:
    """The structures of one call, and what became of them so far."""

    def __init__(
        self,
        structures: Sequence[Structure],
        potential: Potential,
        limits: Limits,
        report: Callable[[int], None],
    ) -> None:
        self.structures, self.potential, self.limits = structures, potential, limits
        self.report = report
        self.ends: dict[int, Relaxed] = {}
        self.paths: dict[int, list[tuple[np.ndarray, float]]] = {}
        self.offsets = [potential.offset(charge_of(s), s) for s in structures]
        self.batch: list[int] = []

    @property
    def waiting(self) -> list[int]:
        """Numbers of the structures that are not done, the largest first."""
        left = [i for i in range(len(self.structures)) if i not in self.ends]
        return sorted(left, key=lambda i: -len(self.structures[i]))

    def go(self, numbers: list[int], memory: float | None) -> None:
        """Relax some structures in one pass through the batcher."""
        import torch
        from torch_sim.autobatching import InFlightAutoBatcher
        from torch_sim.optimizers import fire

        from defect_mf_flows.learning.torchsim import HeadModel, charged_state

        self.batch = numbers
        model = HeadModel(self.potential)
        _, step = fire(model)
        batcher = InFlightAutoBatcher(model=model, max_memory_scaler=memory)
        batcher.load_states(charged_state(self.structures[i], i, model) for i in numbers)
        batch, _ = batcher.next_batch(None, None)
        while batch is not None:
            self.batch = batch.number.tolist()
            batch = step(batch)
            batch.calls += 1
            done = self._done(batch)
            if not bool(done.any()) and not self.limits.trajectories:
                continue
            self._keep(batch, done)
            if bool(done.any()):
                batch, _ = batcher.next_batch(batch, done)
                self.report(len(self.ends))
        del model, batcher
        if self.potential.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _done(self, batch: Any) -> Any:
        """Which systems have converged, exploded or run out of steps; stays on the device."""
        import torch

        def largest(values: Any) -> Any:
            return torch.zeros_like(batch.energy).scatter_reduce(
                0, batch.system_idx, values, "amax"
            )

        force = largest(batch.forces.norm(dim=1))
        moved = largest((batch.positions - batch.start).abs().amax(dim=1))
        good = torch.isfinite(force) & (moved <= MAX_MOVE)
        return (force < self.limits.fmax) | ~good | (batch.calls > self.limits.steps)

    def _keep(self, batch: Any, done: Any) -> None:
        """Take trajectories of all systems, and the ends of those that are done."""
        positions, forces, start = (
            x.detach().cpu().numpy().astype(float)
            for x in (batch.positions, batch.forces, batch.start)
        )
        energies = batch.energy.tolist()
        labels = list(zip(batch.charge.tolist(), batch.spin.tolist(), strict=True))
        last = np.cumsum(batch.n_atoms_per_system.tolist())
        for k, (number, ended) in enumerate(zip(self.batch, done.tolist(), strict=True)):
            part = slice(int(last[k - 1]) if k else 0, int(last[k]))
            energy = energies[k] + self.offsets[number]
            if self.limits.trajectories:
                self.paths.setdefault(number, []).append((positions[part], energy))
            if ended:
                self.ends[number] = self._end(
                    number,
                    labels=labels[k],
                    energy=energy,
                    positions=positions[part],
                    forces=forces[part],
                    start=start[part],
                    calls=int(batch.calls[k]),
                )

    def _end(
        self,
        number: int,
        *,
        labels: tuple[int, int],
        energy: float,
        positions: np.ndarray,
        forces: np.ndarray,
        start: np.ndarray,
        calls: int,
    ) -> Relaxed:
        from defect_mf_flows.learning.torchsim import spin_number

        structure = self.structures[number]
        entered = (charge_of(structure), spin_number(structure))
        if labels != entered:
            raise ChargeError(
                f"structure {number} entered the batch with charge and spin {entered} and left it "
                f"with {labels}; this is a bug, report it."
            )
        path = self._trajectory(number)
        message = explosion(forces, positions - start)
        if message:
            return lost(structure, Problem.EXPLODED, message, steps=calls, trajectory=path)
        atoms = to_atoms(structure)
        atoms.set_positions(positions)
        return Relaxed(
            structure=from_atoms(atoms),
            energy=energy,
            converged=bool(np.linalg.norm(forces, axis=1).max() < self.limits.fmax),
            steps=calls,
            trajectory=path,
        )

    def _trajectory(self, number: int) -> Trajectory | None:
        path = self.paths.pop(number, None)
        if path is None:
            return None
        return Trajectory(np.array([p for p, _ in path]), np.array([e for _, e in path]))

    def recovered(self, error: Exception, memory: float | None) -> float | None:
        """Make what is left able to go on after a batch has failed.

        A batch that did not fit is tried again with half the memory. For any other error each
        structure of the batch goes alone, and the one that is to blame is recorded.

        Returns
        -------
        float or None
            The limit for the next batches.
        """
        import torch

        if isinstance(error, DefectMFError):
            raise error
        suspects = [i for i in self.batch if i not in self.ends]
        self.paths.clear()
        if isinstance(error, torch.OutOfMemoryError) and len(suspects) > 1:
            torch.cuda.empty_cache()
            sizes = [memory_of(self.structures[i]) for i in suspects]
            memory = max(0.5 * sum(sizes), *sizes)
            logger.warning("a batch of %d did not fit into memory: half of it next", len(suspects))
            return memory
        logger.warning("a batch failed (%s); its structures go alone", str(error)[:200])
        for number in suspects:
            try:
                self.go([number], float("inf"))
            except DefectMFError:
                raise
            except Exception as own:
                message = f"{type(own).__name__}: {str(own)[:200]}"
                full = isinstance(own, torch.OutOfMemoryError)
                problem = Problem.LOST if full else Problem.EXPLODED
                self.ends[number] = lost(self.structures[number], problem, message)
                self.report(len(self.ends))
        return memory
