"""Corrections of stored calculations: computed once per minimum and kept in the store."""

from __future__ import annotations

import logging
import re
import uuid
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from jobflow import JobStore
from monty.json import jsanitize
from pymatgen.core import Structure

from defect_mf_flows.core import corrections
from defect_mf_flows.core.frontier import Frontier
from defect_mf_flows.engines.vasp.eigenvalues import frontier
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod

logger = logging.getLogger(__name__)
_NAMESPACE = uuid.UUID("c2c1e4c6-42cf-4a1c-9a9e-3b5a0a1d7f52")
_ENDING = re.compile(
    r"^(?:OUTCAR|vasprun)(?P<rest>.*?)(?:\.xml)?(?P<rest2>.*?)(?:\.(?:gz|bz2|xz))?$"
)


def beside(calculation: Calculation, name: str) -> Path | None:
    """File of VASP that belongs to an imported calculation.

    Parameters
    ----------
    calculation
        Imported.
    name
        ``"OUTCAR"`` or ``"LOCPOT"``.

    Returns
    -------
    Path or None
        None if it was not imported, or its files are not on this machine.
    """
    if calculation.imported is None:
        return None
    path = Path(calculation.imported.path)
    match = _ENDING.match(path.name)
    if match is None:
        return None
    stem = f"{name}{match['rest']}{match['rest2']}"
    found = (path.parent / f"{stem}{zipped}" for zipped in ("", ".gz", ".bz2", ".xz"))
    return next((p for p in found if p.is_file()), None)


@dataclass
class HostCell:
    """The pristine cell, with what corrections need of it, read when it is needed.

    Parameters
    ----------
    calculation
        Of the pristine cell.
    """

    calculation: Calculation

    @property
    def structure(self) -> Structure:
        """Geometry."""
        assert self.calculation.final_structure is not None
        return self.calculation.final_structure

    @property
    def energy(self) -> float:
        """Energy, eV per cell."""
        assert self.calculation.final_energy is not None
        return self.calculation.final_energy

    @property
    def potentials(self) -> np.ndarray | None:
        """Core potentials, or None if they cannot be read."""
        return self._found[0]

    @property
    def source(self) -> str:
        """Where the core potentials are from; empty if there are none."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[np.ndarray | None, str]:
        return _potentials(self.calculation)

    @cached_property
    def frontier(self) -> Frontier | None:
        """Eigenvalues, or None."""
        return frontier_levels(self.calculation)


@dataclass
class Corrector:
    """Corrects calculations, and keeps what it computed.

    Parameters
    ----------
    store
        Connected job store.
    dielectric
        Shape (3, 3), or None for no correction.
    method
        What to use; None: eFNV where potentials are known, and a refusal where they are not.
    """

    store: JobStore
    dielectric: np.ndarray | None
    method: CorrectionMethod | None = None
    computed: int = field(default=0, init=False)
    reused: int = field(default=0, init=False)

    def correct(self, calculation: Calculation, host: HostCell) -> Correction | None:
        """Correct a calculation's last geometry.

        Parameters
        ----------
        calculation
            With a final geometry.
        host
            Pristine cell on the same lattice.

        Returns
        -------
        Correction or None
            None where nothing is to be corrected. Of a neutral cell it tells the potential far
            away alone.

        Raises
        ------
        ResultsError
            If the files that it needs are missing.
        """
        structure, charge = calculation.final_structure, calculation.charge
        if self.dielectric is None or self.method is CorrectionMethod.NONE or structure is None:
            return None
        method = self.method or CorrectionMethod.EFNV
        key = corrections.correction_key(structure, charge, method, self.dielectric)
        stored = self._stored(_name(calculation.fidelity, key))
        if stored is not None:
            self.reused += 1
            return stored
        made = self._compute(method, calculation, host)
        if made is not None:
            self.computed += 1
            made = self._keep(made, calculation)
        return made

    def _compute(
        self, method: CorrectionMethod, calculation: Calculation, host: HostCell
    ) -> Correction | None:
        structure, charge, name = (
            calculation.final_structure, calculation.charge, calculation.defect,
        )  # fmt: skip
        assert structure is not None
        where = f"{calculation.start} ({name} {charge:+d})"
        if method is CorrectionMethod.POINT_CHARGE:
            return corrections.point_charge(structure, charge, self.dielectric, defect=name)
        if method is CorrectionMethod.FNV:
            if not charge:
                return None
            pair = [beside(c, "LOCPOT") for c in (calculation, host.calculation)]
            if pair[0] is None or pair[1] is None:
                raise ResultsError(
                    f"{where}: no LOCPOT of defect and host beside what was imported; run VASP "
                    "with LVHAR = .TRUE., or choose --correction eFNV."
                )
            return corrections.fnv(
                structure, host.structure, charge, self.dielectric,
                locpot=pair[0], host_locpot=pair[1], defect=name,
            )  # fmt: skip
        potentials, source = _potentials(calculation)
        if potentials is None or host.potentials is None:
            if not charge:
                return None
            raise ResultsError(
                f"{where}: no core potentials of defect and host, which eFNV needs, in the store "
                "or in OUTCARs where they were imported from; bring them back, or choose "
                "--correction point-charge (often no better than none) or none."
            )
        return corrections.efnv(
            structure, host.structure, charge, self.dielectric,
            potentials=potentials, host_potentials=host.potentials,
            defect=name, sources=[source, host.source],
        )  # fmt: skip

    # -- in the store --------------------------------------------------------------------

    def _stored(self, name: str) -> Correction | None:
        if self.store.docs_store.query_one({"uuid": name}, properties=["uuid"]) is None:
            return None
        return read_output(self.store, name, Correction, load=False)

    def _keep(self, made: Correction, calculation: Calculation) -> Correction:
        name = _name(calculation.fidelity, made.key)
        kept = made.model_copy(update={"job_uuid": name})
        document = {
            "uuid": name,
            "index": 1,
            "output": kept,
            "completed_at": datetime.now().isoformat(),
            "metadata": {
                "defect": made.defect,
                "charge": made.charge,
                "fidelity": calculation.fidelity,
                "calculation": calculation.job_uuid,
            },
            "hosts": [],
            "name": f"correction {calculation.start}",
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.store.update(
                jsanitize(document, strict=True, enum_values=True), key=["uuid", "index"]
            )
        return kept


def _potentials(calculation: Calculation) -> tuple[np.ndarray | None, str]:
    """Core potentials of a calculation and where they are from."""
    if calculation.site_potentials is not None:
        return np.array(calculation.site_potentials), f"calculation {calculation.job_uuid}"
    outcar = beside(calculation, "OUTCAR")
    if outcar is None:
        return None, ""
    return corrections.site_potentials(outcar), str(outcar)


def frontier_levels(calculation: Calculation) -> Frontier | None:
    """Levels next to a calculation's gap.

    Parameters
    ----------
    calculation
        A campaign's own or imported.

    Returns
    -------
    Frontier or None
        Those that it keeps, or of the OUTCAR that lies beside what was imported.
    """
    if calculation.frontier is not None:
        return Frontier.of_levels(calculation.frontier)
    outcar = beside(calculation, "OUTCAR")
    found = None if outcar is None else frontier(outcar)
    # K-points as a document keeps them, so that the two compare.
    return None if found is None else Frontier.of_levels(found.levels)


def _name(fidelity: str, key: str) -> str:
    """Uuid of a correction: potentials of another method are others."""
    return str(uuid.uuid5(_NAMESPACE, f"{fidelity}\n{key}"))
