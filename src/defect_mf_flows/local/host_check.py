"""Whether the pristine host is a minimum of each fidelity, without which no defect means much.

Forces on a perfect crystal vanish by symmetry whatever the method thinks of it: only atoms that
were displaced show it. Where they do not come back, relaxations of defects rebuild the host as
well, and what they gain is no property of the defect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jobflow import JobStore
from maggma.stores import MemoryStore
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from defect_mf_flows.campaign import Campaign, FidelitySettings, load_campaign
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.jobs.common import run_here
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash, structure_key
from defect_mf_flows.settings import get_settings

#: What relaxations leave open: eV per cell, and Angstrom.
DROP, MOVED = 0.05, 0.1


@dataclass(frozen=True)
class HostCheck:
    """Where displaced atoms of the pristine host relax to.

    Attributes
    ----------
    fidelity
        That relaxed them.
    energy
        Of the end minus that of the perfect crystal, eV per cell; None if there is no end.
    moved
        Largest distance of an atom from its site at the end, the cell as a whole apart, Angstrom.
    calls
        That it took.
    trouble
        Why there is no end, or that it is not converged; empty: neither.
    """

    fidelity: str
    energy: float | None
    moved: float | None
    calls: int
    trouble: str = ""

    @property
    def held(self) -> bool:
        """Whether the host is a minimum, as far as one relaxation tells."""
        if self.energy is None or self.moved is None or self.trouble:
            return False
        return abs(self.energy) <= DROP and self.moved <= MOVED


def check_host(file: Path, *, rattle: float, only: tuple[str, ...] = ()) -> Iterator[HostCheck]:
    """Relax the host of a campaign from displaced atoms, on this machine.

    Parameters
    ----------
    file
        Campaign.
    rattle
        Standard deviation of the displacements, Angstrom.
    only
        Fidelities; empty: those of the campaign.

    Returns
    -------
    iterator of HostCheck
        One per fidelity, computed as it is asked for.

    Raises
    ------
    CampaignError
        If the file is wrong, or has no such fidelity.
    """
    campaign, cell = load_campaign(file)
    unknown = sorted(set(only) - set(campaign.fidelities))
    if unknown:
        raise CampaignError(
            f"{file}: fidelities: no {unknown}; the file has {sorted(campaign.fidelities)}."
        )
    defects = generate_defects(cell, host=campaign.host, defects=campaign.defects)
    return _checks(campaign, defects.host.supercell, rattle, only or tuple(campaign.heads))


def _checks(
    campaign: Campaign, host: Structure, rattle: float, names: tuple[str, ...]
) -> Iterator[HostCheck]:
    pristine = _start(host, "host")
    atoms = AseAtomsAdaptor.get_atoms(host)
    atoms.rattle(rattle, seed=campaign.seed)
    displaced = Structure(host.lattice, host.species, atoms.positions, coords_are_cartesian=True)
    start = _start(displaced, f"host_rattled_{rattle:g}")
    for name in names:
        settings = campaign.fidelities[name]
        perfect = _compute(name, settings, CalculationKind.STATIC, pristine)
        if perfect.failure is not None:
            yield HostCheck(name, None, None, perfect.n_calls, perfect.failure.message)
            continue
        relaxed = _compute(name, settings, CalculationKind.RELAX, start)
        yield _judged(name, perfect, relaxed)


def _start(structure: Structure, label: str) -> StartStructure:
    return StartStructure(defect=None, charge=0, label=label, structure=with_charge(structure, 0))


def _compute(
    name: str, settings: FidelitySettings, kind: CalculationKind, start: StartStructure
) -> Calculation:
    """Compute as a job that bears the name of its input: stopped, the same one goes on."""
    content = [name, kind.value, settings.model_dump_json(), structure_key(start.structure)]
    job = reference_maker(name, settings, kind).make(start)
    job.set_uuid(f"host-{content_hash(content)[:32]}")
    with JobStore(MemoryStore(), additional_stores={"data": MemoryStore()}) as store:
        return run_here(job, store, get_settings().scratch / "host_checks")


def _judged(fidelity: str, perfect: Calculation, relaxed: Calculation) -> HostCheck:
    """Compare the end of a relaxation from displaced atoms with the perfect crystal."""
    calls = perfect.n_calls + relaxed.n_calls
    trouble = ""
    if relaxed.failure is not None:
        trouble = relaxed.failure.message
    elif not relaxed.converged:
        trouble = "the relaxation did not converge"
    if relaxed.final_structure is None or relaxed.final_energy is None:
        return HostCheck(fidelity, None, None, calls, trouble or "the relaxation has no end")
    assert perfect.final_energy is not None
    assert perfect.final_structure is not None
    moved = _largest_move(perfect.final_structure, relaxed.final_structure)
    return HostCheck(fidelity, relaxed.final_energy - perfect.final_energy, moved, calls, trouble)


def _largest_move(before: Structure, after: Structure) -> float:
    shift = after.frac_coords - before.frac_coords
    shift -= np.round(shift)
    moved = shift @ before.lattice.matrix
    return float(np.linalg.norm(moved - moved.mean(axis=0), axis=1).max())
