"""Reference energies per (head, charge, composition), taken out of labels before training.

The charge embedding's energy is summed over atoms, so an offset between charges that it
has to learn grows with the cell. A constant per CELL, fitted to the training labels,
leaves the network only what depends on the geometry. The pristine host's energy per formula
unit carries the constant to cells of another size (``Model.reference``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.dataset import HostLabels, ReferenceEnergy
from defect_mf_flows.schemas.frame import Frame, content_hash, structure_key


@dataclass(frozen=True)
class Label:
    """A training label.

    Attributes
    ----------
    head, charge, structure, energy
        Energy in eV per cell.
    """

    head: str
    charge: int
    structure: Structure
    energy: float

    @property
    def group(self) -> tuple[int, str]:
        """Charge and composition."""
        return self.charge, composition_key(self.structure)


def composition_key(structure: Structure) -> str:
    """Composition of the cell as text, for example ``"S16 Zn15"``."""
    counts = structure.composition.get_el_amt_dict()
    return " ".join(f"{symbol}{int(counts[symbol])}" for symbol in sorted(counts))


def fit_references(labels: list[Label], *, heads: list[str]) -> list[ReferenceEnergy]:
    """Fit one constant per (head, charge, composition).

    Parameters
    ----------
    labels
        Training labels only.
    heads
        Lowest fidelity first.

    Returns
    -------
    list of ReferenceEnergy
        The mean over the lowest fidelity's labels; for a higher fidelity that mean plus the
        mean difference on geometries that both have labelled. A plain mean of the few high
        labels would shift with the choice of frames; the difference does not.

    Raises
    ------
    DatasetError
        If the lowest head has no training label at all.
    """
    groups: dict[tuple[str, int, str], list[Label]] = defaultdict(list)
    for label in labels:
        groups[(label.head, *label.group)].append(label)
    if not any(head == heads[0] for head, _, _ in groups):
        raise DatasetError(f"no training label of {heads[0]!r}; compute or import some.")
    base_energy = {
        content_hash([label.charge, structure_key(label.structure)]): label.energy
        for label in labels
        if label.head == heads[0]
    }
    base_mean = {
        group[1:]: float(np.mean([label.energy for label in members]))
        for group, members in groups.items()
        if group[0] == heads[0]
    }
    references = []
    for (head, charge, composition), members in sorted(groups.items()):
        shifts = [
            label.energy - base_energy[key]
            for label in members
            if (key := content_hash([charge, structure_key(label.structure)])) in base_energy
        ]
        if head != heads[0] and shifts and (charge, composition) in base_mean:
            energy = base_mean[charge, composition] + float(np.mean(shifts))
        else:
            energy = float(np.mean([label.energy for label in members]))
        references.append(
            ReferenceEnergy(
                head=head,
                charge=charge,
                composition=composition,
                energy=energy,
                n_labels=len(members),
            )
        )
    return references


def host_labels(frames: list[Frame], host: Structure) -> HostLabels | None:
    """Energy of the pristine host per formula unit and fidelity.

    Parameters
    ----------
    frames
        Single points of the pristine host, of any size of cell.
    host
        The host; its primitive cell is kept with the energies.

    Returns
    -------
    HostLabels or None
        None without frames.

    Raises
    ------
    DatasetError
        If a frame is charged or is not the host.
    """
    formula = host.composition.reduced_formula
    energies = {}
    for frame in frames:
        if frame.charge != 0 or frame.structure.composition.reduced_formula != formula:
            raise DatasetError(
                f"frame {frame.lineage.start} ({frame.structure.composition.reduced_formula}, "
                f"charge {frame.charge:+d}) is not the neutral host {formula}."
            )
        units = frame.structure.composition.get_reduced_composition_and_factor()[1]
        energies[frame.fidelity] = frame.energy / units
    if not energies:
        return None
    # The default tolerance would merge the sites of a slightly distorted host.
    small = host.get_primitive_structure(tolerance=1e-3)
    return HostLabels(structure=small, energies=energies)
