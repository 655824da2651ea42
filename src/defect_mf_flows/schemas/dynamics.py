"""Molecular dynamics of a charged cell on one head of a model."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document


class DynamicsEnd(StrEnum):
    """Why a trajectory ends where it does."""

    DONE = "done"
    EXPLODED = "exploded"


class DynamicsSettings(Document):
    """What makes a trajectory; another value of any makes another one.

    Attributes
    ----------
    temperature
        Of the thermostat, K.
    timestep
        fs.
    friction
        Of the Langevin thermostat, 1/fs.
    every
        Steps between frames.
    seed
        Of velocities and thermostat.
    """

    temperature: float = Field(300.0, gt=0)
    timestep: float = Field(1.0, gt=0)
    friction: float = Field(0.01, gt=0)
    every: int = Field(10, gt=0)
    seed: int = 0


class DynamicsIdentity(Document):
    """Whose trajectory it is: what a continuation must agree with.

    Attributes
    ----------
    defect, charge, spin
        Which cell; ``defect`` is None where a file gave the geometry.
    head
        Head that computes the forces; the frames' fidelity.
    model_hash
        SHA-256 of the model.
    start_hash
        SHA-256 of the geometry that it starts from.
    settings
        Of the dynamics.
    """

    defect: str | None = None
    charge: StrictInt
    spin: StrictInt | None = None
    head: str
    model_hash: str
    start_hash: str
    settings: DynamicsSettings


class DynamicsReport(Document):
    """A trajectory in numbers.

    Attributes
    ----------
    identity
        Whose it is.
    trajectory
        Name of its file.
    end, message
        Why it ends, and what was seen.
    steps, continued_from
        Steps in all, and those that earlier calls had made.
    times
        Of the frames, fs.
    temperatures
        Kinetic, K, per frame.
    energies
        Potential energies of the model, eV per cell, per frame.
    mean_temperature, temperature_spread
        Over the second half of the frames, K.
    bonds
        Pair of atoms (``"Zn3-S7"``) to its distance per frame, Angstrom: between the defect's
        neighbours, or from the atom on its site.
    farthest
        Largest displacement of an atom from the start, Angstrom.
    notes
        What the reader must know.
    """

    identity: DynamicsIdentity
    trajectory: str
    end: DynamicsEnd
    message: str = ""
    steps: int
    continued_from: int = 0
    times: list[float]
    temperatures: list[float]
    energies: list[float]
    mean_temperature: float | None
    temperature_spread: float | None
    bonds: dict[str, list[float]] = Field(default_factory=dict)
    farthest: float
    notes: list[str] = Field(default_factory=list)
