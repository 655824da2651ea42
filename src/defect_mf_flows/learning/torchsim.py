"""A model's head for torch-sim, and a FIRE state that carries the charge.

Imports torch-sim at once; reach it through ``batched``, which says what to install.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mace  # noqa: F401  (before e3nn)
import numpy as np
import torch
from mace.data.neighborhood import get_neighborhood
from pymatgen.core import Structure
from torch_sim.models.interface import ModelInterface
from torch_sim.optimizers import FireState
from torch_sim.state import SimState

from defect_mf_flows.core.charge import TOTAL_CHARGE, charge_of, spin_of, to_atoms
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning.potential import Potential, default_dtype

#: torch-sim halves the time step wherever the velocity is zero: once before the first forces
#: are known and once more before the first move, which ASE makes with 0.1.
FIRST_STEP = 0.4
FIRE_ALPHA = 0.1
#: Neighbours are listed this far beyond the cutoff, and anew once an atom moved half of it, A.
SKIN = 0.6


@dataclass(kw_only=True)
class ChargedState(FireState):
    """FIRE state of several systems, each with its charge.

    Attributes
    ----------
    charge
        Shape (n_systems,), whole numbers.
    spin
        Unpaired electrons, shape (n_systems,); -1 for a structure that carries none.
    number
        Position of each system in the call, shape (n_systems,).
    calls
        Force calls of each system so far, shape (n_systems,).
    start
        Positions from which the atoms came, shape (n_atoms, 3).
    """

    charge: torch.Tensor
    spin: torch.Tensor
    number: torch.Tensor
    calls: torch.Tensor
    start: torch.Tensor

    _atom_attributes = FireState._atom_attributes | {"start"}
    _system_attributes = FireState._system_attributes | {"charge", "spin", "number", "calls"}


def charged_state(structure: Structure, number: int, model: HeadModel) -> ChargedState:
    """State of one structure before its first force call.

    Forces and velocities are zero, so that torch-sim's first step moves nothing and fetches the
    forces: a system that comes in late costs the others nothing. (With torch-sim's own start,
    velocities that are not numbers, every other system would skip its FIRE update.)

    Parameters
    ----------
    structure
        Charged structure.
    number
        Its position in the call.
    model
        Gives precision and device.
    """
    atoms = to_atoms(structure)
    n = len(atoms)

    def floats(values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), dtype=model.dtype, device=model.device)

    def integers(values: Any) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=model.device)

    positions = floats(atoms.get_positions())
    return ChargedState(
        positions=positions,
        masses=floats(atoms.get_masses()),
        cell=floats(atoms.cell.array).mT.unsqueeze(0),
        pbc=True,
        atomic_numbers=integers(atoms.get_atomic_numbers()),
        system_idx=integers([0] * n),
        forces=torch.zeros_like(positions),
        velocities=torch.zeros_like(positions),
        energy=floats([0.0]),
        dt=floats([FIRST_STEP]),
        alpha=floats([FIRE_ALPHA]),
        n_pos=torch.zeros(1, dtype=torch.int32, device=model.device),
        charge=integers([charge_of(structure)]),
        spin=integers([spin_number(structure)]),
        number=integers([number]),
        calls=integers([0]),
        start=positions.clone(),
    )


def spin_number(structure: Structure) -> int:
    """Unpaired electrons of a structure, -1 where it carries none."""
    spin = spin_of(structure)
    return -1 if spin is None else spin


class HeadModel(ModelInterface):
    """One head of a model, at the charge that each system carries.

    Energies are the network's, without the reference energies.

    Parameters
    ----------
    potential
        Model and head.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.network = potential.network
        parameter = next(potential.network.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._compute_forces, self._compute_stress = True, False
        self._memory_scales_with = "n_atoms_x_density"
        self.head = potential.document.heads.index(potential.head)
        self.trained = torch.tensor(potential.document.charges[potential.head], device=self._device)
        self.learns_spin = potential.document.learns_spin
        self.neighbours = Neighbours(potential.cutoff)
        species = torch.full((119,), -1, dtype=torch.int64)
        for index, z in enumerate(potential.numbers):
            species[z] = index
        self.species = species.to(self._device)

    def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Energies (eV per cell) and forces (eV/A) of all systems of a state.

        Raises
        ------
        ChargeError
            If the state carries no charges, or one on which the head was not trained.
        """
        if not isinstance(state, ChargedState):
            raise ChargeError(f"a {type(state).__name__} carries no charge; use charged_state().")
        if not torch.isin(state.charge, self.trained).all():
            raise ChargeError(
                f"charges {state.charge.tolist()} reached the model, which was trained on "
                f"{self.trained.tolist()}."
            )
        edges, shifts = self.neighbours.of(state)
        counts = torch.bincount(state.system_idx)
        data = {
            "ptr": torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
            "batch": state.system_idx,
            "node_attrs": torch.nn.functional.one_hot(
                self.species[state.atomic_numbers], num_classes=len(self.network.atomic_numbers)
            ).to(self.dtype),
            "positions": state.positions,
            "cell": state.row_vector_cell.reshape(-1, 3),
            "edge_index": edges,
            "shifts": shifts,
            "unit_shifts": shifts,  # only asked for with stresses
            "head": torch.full_like(state.charge, self.head),
            TOTAL_CHARGE: state.charge.to(self.dtype),
        }
        if self.learns_spin:
            if bool((state.spin < 0).any()):
                raise ChargeError("a structure without spin reached a model that learns the spin.")
            data["total_spin"] = state.spin.to(self.dtype)
        with default_dtype(self.network):
            found = self.network(data, training=False, compute_force=True)
        return {"energy": found["energy"].detach(), "forces": found["forces"].detach()}


class Neighbours:
    """Neighbour lists that outlive some steps.

    Parameters
    ----------
    cutoff
        Of the model, Angstrom.
    """

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff
        #: System -> positions at which its list was made, edges, and shifts in Angstrom.
        self.known: dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}
        self.joined: tuple[list[int], torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def of(self, state: SimState) -> tuple[torch.Tensor, torch.Tensor]:
        """Edges within the cutoff, shape (2, n_edges), and their shifts, shape (n_edges, 3)."""
        numbers = state.number.tolist() if isinstance(state, ChargedState) else []
        if self.joined is None or self.joined[0] != numbers or self._moved(state):
            self._update(state, numbers)
        assert self.joined is not None
        _, _, edges, shifts = self.joined
        vectors = state.positions[edges[1]] - state.positions[edges[0]] + shifts
        near = (vectors**2).sum(dim=1) <= self.cutoff**2
        return edges[:, near], shifts[near]

    def _moved(self, state: SimState) -> bool:
        assert self.joined is not None
        moved = ((state.positions - self.joined[1]) ** 2).sum(dim=1).max()
        return not bool(moved <= (SKIN / 2) ** 2)

    def _update(self, state: SimState, numbers: list[int]) -> None:
        """List anew the systems that are new or moved, and join all lists."""
        counts = torch.bincount(state.system_idx).tolist()
        cells = state.row_vector_cell.detach().cpu().numpy().astype(float)
        parts, first = [], 0
        for place, (number, n) in enumerate(zip(numbers, counts, strict=True)):
            positions = state.positions[first : first + n].detach()
            found = self.known.get(number)
            if found is None or not bool(
                ((positions - found[0]) ** 2).sum(dim=1).max() <= (SKIN / 4) ** 2
            ):
                found = self._list(positions, cells[place])
            parts.append((number, found, first))
            first += n
        self.known = {number: found for number, found, _ in parts}
        self.joined = (
            numbers,
            torch.cat([found[0] for _, found, _ in parts]),
            torch.cat([found[1] + first for _, found, first in parts], dim=1),
            torch.cat([found[2] for _, found, _ in parts]),
        )

    def _list(
        self, positions: torch.Tensor, cell: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        edges, shifts, _, _ = get_neighborhood(
            positions.cpu().numpy().astype(float), self.cutoff + SKIN, (True, True, True), cell
        )
        return (
            positions.clone(),
            torch.as_tensor(edges, dtype=torch.int64, device=positions.device),
            torch.as_tensor(shifts, dtype=positions.dtype, device=positions.device),
        )
