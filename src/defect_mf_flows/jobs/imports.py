"""Imported calculations whose frames a campaign may learn from."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from jobflow import JobStore

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.filters import SAME_LATTICE
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.engines.contradictions import contradictions
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.calculation import Calculation, Failure, FailureReason
from defect_mf_flows.schemas.defect import DefectSet, StartStructure

logger = logging.getLogger(__name__)


def usable_imports(
    store: JobStore, defects: DefectSet, methods: Mapping[str, FidelitySettings]
) -> tuple[list[str], list[Failure]]:
    """Find the imported calculations of a campaign's defects, charges and fidelities.

    Parameters
    ----------
    store
        A connected job store.
    defects
        Host and defects; a calculation must have the lattice of the one, and the composition of
        one of the others at one of its charges.
    methods
        Fidelity -> settings; what was imported under another name is never taken.

    Returns
    -------
    uuids
        Sorted, so that the same store gives the same dataset.
    refused
        One failure per calculation of such a defect with another lattice, or with settings that
        contradict the fidelity's.
    """
    wanted = {
        (composition_key(defect.supercell), charge)
        for defect in defects.defects
        for charge in defect.charges
    }
    criteria = {
        "output.@class": "Calculation",
        "output.imported": {"$ne": None},
        "output.fidelity": {"$in": list(methods)},
        "output.charge": {"$in": sorted({charge for _, charge in wanted})},
    }
    usable, refused = [], []
    rows = store.docs_store.query(criteria, properties=["uuid"])
    for uuid in sorted({row["uuid"] for row in rows}):
        found = read_output(store, uuid, Calculation, load=False)
        structure = found.final_structure
        if structure is None or (composition_key(structure), found.charge) not in wanted:
            continue
        why = _contradictions(found, defects, methods[found.fidelity])
        if why:
            refused.append(_refusal(found, why))
        else:
            usable.append(uuid)
    return usable, refused


def _contradictions(
    found: Calculation, defects: DefectSet, settings: FidelitySettings
) -> list[str]:
    record, structure = found.imported, found.final_structure
    if record is None or structure is None:
        return ["it says nothing of its settings"]
    lattice = defects.host.supercell.lattice.matrix
    if not np.allclose(structure.lattice.matrix, lattice, atol=SAME_LATTICE):
        return ["its lattice is not that of the campaign's supercell"]
    start = StartStructure(
        defect=found.defect,
        charge=found.charge,
        spin=found.spin,
        label=found.start,
        structure=structure,
    )
    return contradictions(found, record, settings, start)


def _refusal(found: Calculation, why: list[str]) -> Failure:
    path = found.imported.path if found.imported else found.start
    message = f"{path} does not train: {'; '.join(why)}"
    logger.warning(message)
    return Failure(
        stage="import",
        reason=FailureReason.OTHER,
        message=message,
        fidelity=found.fidelity,
        defect=found.defect,
        charge=found.charge,
        start=found.start,
    )
