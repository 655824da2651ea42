"""A trained model as a potential: refuses unknown heads and untrained charges."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import (
    MACE_INFO_KEYS,
    SPIN,
    atoms_charge,
    charge_of,
    spin_of,
    to_atoms,
)
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.errors import ChargeError, FidelityError, TrainingError
from defect_mf_flows.learning.acceleration import accelerated
from defect_mf_flows.learning.batches import collate, to_atomic_data
from defect_mf_flows.schemas.model import Member

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from defect_mf_flows.learning.compiling import Batches

logger = logging.getLogger(__name__)


class Potential:
    """Energies and forces of a trained model on one of its heads.

    Parameters
    ----------
    model
        Model document with its blob loaded.
    head
        Head to compute; must be one of the model's.
    device
        torch device. On ``cuda`` a model trained with ``enable_cueq`` takes those kernels.
    dtype
        ``float32`` or ``float64``; None: the precision of the training.

    Raises
    ------
    FidelityError
        If the model has no such head.
    TrainingError
        If the blob is missing or does not match its hash.
    """

    def __init__(
        self, model: Member, *, head: str, device: str = "cpu", dtype: str | None = None
    ) -> None:
        if head not in model.heads:
            raise FidelityError(f"model has no head {head!r}; choose one of {model.heads}.")
        self.document, self.head, self.device = model, head, device
        self.network: Any = load_network(
            model.blob,
            model.model_hash,
            device,
            dtype,
            device.startswith("cuda") and bool(model.settings.get("enable_cueq")),
        )
        self._call: Any = self.network
        self.numbers = [int(z) for z in self.network.atomic_numbers]
        self.cutoff = float(self.network.r_max)
        self._cells = {item.composition for item in model.references}
        if list(self.network.heads) != model.heads:
            raise FidelityError(
                f"model file has heads {self.network.heads}, its document {model.heads}."
            )

    def predict(
        self, structures: list[Structure], *, batch: int = 4
    ) -> list[tuple[float, np.ndarray]]:
        """Energies (eV per cell, reference energy included) and forces (eV/A).

        Parameters
        ----------
        structures
            Charged structures.
        batch
            Structures per call; more than four lose on a CPU.

        Returns
        -------
        list of (float, numpy.ndarray)
            Forces have shape (n_atoms, 3).

        Raises
        ------
        ChargeError
            If a structure has a charge or a spin on which the head was not trained.
        """
        offsets = [self.offset(charge_of(s), s) for s in structures]
        found = self.interaction(structures, batch=batch)
        return [(e + offset, forces) for (e, forces), offset in zip(found, offsets, strict=True)]

    def interaction(
        self, structures: list[Structure], *, batch: int = 4
    ) -> list[tuple[float, np.ndarray]]:
        """Energies without reference energies, and forces: for cells that did not train.

        Only differences within one charge and composition mean anything.

        Parameters
        ----------
        structures, batch
            As for :meth:`predict`.

        Returns
        -------
        list of (float, numpy.ndarray)
            eV per cell; eV/A, shape (n_atoms, 3).

        Raises
        ------
        ChargeError
            If a structure has a charge or a spin on which the head was not trained.
        """
        results: list[tuple[float, np.ndarray]] = []
        for start in range(0, len(structures), batch):
            chunk = structures[start : start + batch]
            for s in chunk:
                self.document.check(head=self.head, charge=charge_of(s))
                self.document.check_spin(head=self.head, charge=charge_of(s), spin=spin_of(s))
            results += self.evaluate([to_atoms(s) for s in chunk])
        return results

    def offset(self, charge: int, structure: Structure) -> float:
        """Reference energy of a cell, eV; refuses what was not trained."""
        self.document.check(head=self.head, charge=charge)
        self.document.check_spin(head=self.head, charge=charge, spin=spin_of(structure))
        cell = composition_key(structure)
        energy = self.document.reference(head=self.head, charge=charge, composition=cell)
        if cell not in self._cells:
            self._cells.add(cell)
            if self.document.settings.get("charge_term") != "intensive":
                logger.warning(
                    "the model was not trained on cells of %s and its charge term is not "
                    "'intensive': its energies there, and offsets between charges above all, "
                    "can be wrong by electronvolts.",
                    cell,
                )
        return energy

    def calculator(self, structure: Structure) -> Calculator:
        """ASE calculator for cells of one charge and composition.

        Parameters
        ----------
        structure
            A charged structure of that kind.

        Returns
        -------
        Calculator
            mace's calculator plus the reference energy; it refuses atoms of another charge,
            or of another spin where the model learns it.
        """
        charge = charge_of(structure)
        offset = self.offset(charge, structure)
        spin = spin_of(structure) if self.document.learns_spin else None
        return build_calculator(self, charge, offset, spin)

    def evaluate(self, atoms: list[Atoms]) -> list[tuple[float, np.ndarray]]:
        """Energies (eV per cell, WITHOUT reference energies) and forces (eV/A), in one batch.

        Parameters
        ----------
        atoms
            Atoms that carry their charge.
        """
        with default_dtype(self.network):
            data = collate([self.graph(item) for item in atoms]).to(self.device)
        output = self._call(data.to_dict(), training=False, compute_force=True)
        energies = output["energy"].detach().cpu().numpy()
        forces = output["forces"].detach().cpu().numpy().astype(float)
        ends = data.ptr.tolist()
        return [(float(energies[k]), forces[ends[k] : ends[k + 1]]) for k in range(len(atoms))]

    def compile(self, batches: Batches | None) -> None:
        """Compute batches of one shape by compiled calls; others as always.

        Parameters
        ----------
        batches
            The shape; None: none from now on. A network that is not a single one stays as it is,
            and the log says so.
        """
        from defect_mf_flows.learning.compiling import compiled_calls

        self._call = self.network if batches is None else compiled_calls(self.network, batches)

    @property
    def compiled(self) -> bool:
        """Whether calls are compiled: not if they could not be, or gave something else."""
        return self._call is not self.network and not self._call.given_up

    def graph(self, atoms: Atoms) -> Any:
        """Atoms as mace's ``AtomicData``, charge and head checked."""
        return to_atomic_data(
            atoms,
            head=self.head,
            heads=self.document.heads,
            atomic_numbers=self.numbers,
            cutoff=self.cutoff,
            spin=self.document.learns_spin,
        )


@lru_cache(maxsize=4)
def load_network(
    blob: str, expected_hash: str, device: str, dtype: str | None = None, cueq: bool = False
) -> Any:
    """Load a network from its base64 text after checking its hash.

    Parameters
    ----------
    blob, expected_hash
        File and SHA-256.
    device
        torch device.
    dtype
        Precision; None: that of the file.
    cueq
        Take cuequivariance's kernels.

    Raises
    ------
    TrainingError
        If the bytes are missing or altered.
    """
    import mace  # noqa: F401  (before e3nn)
    import torch

    content = base64.b64decode(blob)
    found = hashlib.sha256(content).hexdigest()
    if found != expected_hash:
        raise TrainingError(
            f"model file has hash {found[:12]}, expected {expected_hash[:12]}: its blob was not "
            "loaded or was altered; read the document with load=True."
        )
    network = torch.load(io.BytesIO(content), map_location=device, weights_only=False)
    if dtype is not None:
        network = network.to(getattr(torch, dtype))
    with default_dtype(network):  # the conversion sets it for the whole process
        network = accelerated(network, {"enable_cueq": cueq})
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network.eval()


def default_dtype(network: Any) -> Any:
    """Context in which mace makes tensors of the network's precision."""
    from mace.tools import torch_tools

    name = str(next(network.parameters()).dtype).removeprefix("torch.")
    return torch_tools.default_dtype(name)


def build_calculator(
    potential: Potential, charge: int, offset: float, spin: int | None = None
) -> Calculator:
    """MACECalculator that checks head, charge and spin and adds the reference energy."""
    from mace.calculators import MACECalculator

    class ChargedMACECalculator(MACECalculator):
        """MACECalculator bound to one head, charge and composition."""

        def calculate(self, atoms: Any = None, *arguments: Any, **options: Any) -> None:
            if atoms_charge(atoms) != charge:
                raise ChargeError(
                    f"calculator is for charge {charge:+d}, atoms carry "
                    f"{atoms_charge(atoms):+d}; build one with Potential.calculator()."
                )
            if spin is not None and atoms.info.get(SPIN) != spin:
                raise ChargeError(
                    f"calculator is for {spin} unpaired electrons, atoms carry "
                    f"{atoms.info.get(SPIN)}; build one with Potential.calculator()."
                )
            super().calculate(atoms, *arguments, **options)
            for key in ("energy", "free_energy"):
                if key in self.results:
                    self.results[key] = float(self.results[key]) + offset

    dtype = str(next(potential.network.parameters()).dtype).removeprefix("torch.")
    calculator = ChargedMACECalculator(
        models=[potential.network],
        device=potential.device,
        default_dtype=dtype,
        head=potential.head,
        info_keys=dict(MACE_INFO_KEYS),
    )
    if calculator.head != potential.head:
        raise FidelityError(f"mace chose head {calculator.head!r}, not {potential.head!r}.")
    return calculator
