"""VASP inputs of charged cells: every tag that decides a label is set here.

One class makes PBE and HSE06, relaxation and single point, host and defect, so that they differ
only where they must: in the functional's tags, in charge and spin, and in symmetry.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from pymatgen.core import SETTINGS, Structure
from pymatgen.io.vasp.inputs import Incar, Kpoints, Potcar
from pymatgen.io.vasp.sets import MPScanRelaxSet, VaspInputSet

from defect_mf_flows.campaign.vasp import OWNED, VaspSettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.engines.spin import check_parity, low_spin
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.structures import symbols_of

FUNCTIONALS: dict[str, dict[str, Any]] = {
    "PBE": {"GGA": "PE"},
    "HSE06": {"GGA": "PE", "LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2, "PRECFOCK": "Normal"},
}

#: VASP knows the damping of PBE; that of HSE06 must be given (zero damping: Grimme's list; BJ:
#: Moellmann and Grimme, J. Phys. Chem. C 118, 7615, 2014).
DISPERSION: dict[tuple[str, str], dict[str, Any]] = {
    ("D3", "PBE"): {"IVDW": 11},
    ("D3-BJ", "PBE"): {"IVDW": 12},
    ("D3", "HSE06"): {"IVDW": 11, "VDW_SR": 1.129, "VDW_S8": 0.109},
    ("D3-BJ", "HSE06"): {"IVDW": 12, "VDW_S8": 2.31, "VDW_A1": 0.383, "VDW_A2": 5.685},
}

#: What all fidelities share. LREAL off and PREC accurate: noise in forces is noise in labels.
#: WAVECARs let a stopped run continue and a higher fidelity start.
BASE: dict[str, Any] = {
    "ALGO": "Normal",
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "LASPH": True,
    "LCHARG": False,
    "LORBIT": 11,
    "LREAL": False,
    "LWAVE": True,
    "NELM": 100,
    "NELMIN": 5,
    "PREC": "Accurate",
}


@lru_cache(maxsize=32)
def _read_potcar(symbols: tuple[str, ...], release: Any, _library: str | None) -> Potcar:
    """Read potentials once: one input set asks for them some ten times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Potcar(symbols, functional=release)


@dataclass
class ChargedCellSet(VaspInputSet):
    """Input of one cell at one VASP fidelity, as pymatgen and atomate2 take it.

    Parameters
    ----------
    settings
        Of the fidelity.
    relax
        Relax the atoms (never the cell), or compute a single point.
    fmax, steps
        Relaxations end at this force (eV/A) or after this many ionic steps.
    symmetric
        The cell is the undistorted host; symmetry stays on.
    unpaired
        Unpaired electrons to fix, or None to follow ``settings.spin``.
    with_potcars
        False leaves NELECT out, so that inputs can be shown where there are no POTCARs.
    """

    settings: VaspSettings | None = None
    relax: bool = False
    fmax: float = 0.05
    steps: int = 100
    symmetric: bool = False
    unpaired: int | None = None
    with_potcars: bool = True
    config_dict: dict = field(
        default_factory=lambda: {
            "INCAR": dict(BASE),
            "POTCAR": dict(MPScanRelaxSet.CONFIG["POTCAR"]),
            "POTCAR_FUNCTIONAL": "PBE_54",
        }
    )
    # The order of the atoms is the frame's order; the Maker groups them by element.
    sort_structure: bool = False
    validate_magmom: bool = False
    force_gamma: bool = True

    def __post_init__(self) -> None:
        if self.settings is None:
            raise EngineError("ChargedCellSet: no settings; build it from a campaign's fidelity.")
        self.user_potcar_functional = cast("Any", self.settings.potcar_functional)
        self.user_potcar_settings = {**self.settings.potcars, **self.user_potcar_settings}
        self.user_incar_settings = {
            **{tag.upper(): value for tag, value in self.settings.incar.items()},
            **self.user_incar_settings,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen advises against any change of POTCARs
            super().__post_init__()

    @property
    def incar(self) -> Incar:
        """Every tag.

        Raises
        ------
        EngineError
            If a user setting overrides a tag that the engine owns, or POTCARs are missing.
        """
        stolen = sorted(set(self.user_incar_settings) & set(OWNED))
        if stolen:
            raise EngineError(
                f"INCAR tags {stolen} are set by the engine; leave them out of "
                "user_incar_settings (in a campaign: settings.incar)."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            incar = super().incar
        # pymatgen drops these from single points; VASP's own default for hybrids is ISIF = 0.
        incar.update({"ISIF": 2, "IBRION": 2 if self.relax else -1})
        if "LSORBIT" in incar:  # without ISPIN, which VASP ignores here, pymatgen drops these too
            incar["MAGMOM"] = self._spin()["MAGMOM"]
        return incar

    @property
    def incar_updates(self) -> dict[str, Any]:
        """Tags that depend on fidelity, cell and charge."""
        assert self.settings is not None
        s = self.settings
        tags = {"ENCUT": s.encut, "EDIFF": s.ediff, **FUNCTIONALS[s.functional]}
        tags["NSW"] = self.steps if self.relax else 0
        if self.relax:
            tags["EDIFFG"] = -self.fmax
        if not self.symmetric:
            tags["ISYM"] = 0
        if "core" in s.write_potential:
            tags["ICORELEVEL"] = 0
        if "LOCPOT" in s.write_potential:
            tags["LVHAR"] = True
        if s.dispersion is not None:
            tags.update(DISPERSION[s.dispersion, s.functional])
        if self.with_potcars:
            tags["NELECT"] = self.nelect
        return {**tags, **self._spin(), **self._hubbard()}

    @property
    def nelect(self) -> float:
        """Electrons: valences of the POTCARs minus the charge that the structure carries.

        Raises
        ------
        ChargeError
            If the structure carries no charge.
        EngineError
            If POTCARs are missing.
        """
        structure = self._cell()
        valence = {p.element: p.nelectrons for p in self.potcar}
        total = sum(valence[symbol] for symbol in symbols_of(structure))
        return float(total - charge_of(structure))

    @property
    def potcar(self) -> Potcar:
        """The potentials.

        Raises
        ------
        EngineError
            If a file is missing; names element, release and remedy.
        """
        symbols = self.potcar_symbols
        try:
            library = SETTINGS.get("PMG_VASP_PSP_DIR")
            return _read_potcar(tuple(symbols), self.user_potcar_functional, library)
        except (OSError, ValueError) as error:
            raise EngineError(
                f"no POTCARs {symbols} of release {self.user_potcar_functional}: "
                f"{str(error).splitlines()[0]}; set PMG_VASP_PSP_DIR in ~/.config/.pmgrc.yaml or "
                "in the environment to the folder that `pmg config -p` made of your VASP "
                "licence's files. Charged cells need their valences."
            ) from error

    @property
    def kpoints(self) -> Kpoints:
        """Gamma-centred grid; the same for host and defects, which share a lattice."""
        assert self.settings is not None
        s = self.settings
        if s.gamma_only:
            return Kpoints.gamma_automatic((1, 1, 1))
        if s.kpoints is not None:
            return Kpoints.gamma_automatic((s.kpoints[0], s.kpoints[1], s.kpoints[2]))
        density = cast("Any", s.kpoint_density)  # pymatgen takes fractions, too
        return Kpoints.automatic_density_by_vol(self._cell(), density, force_gamma=True)

    def _cell(self) -> Structure:
        if self.structure is None:
            raise EngineError("ChargedCellSet: no structure; call get_input_set(structure).")
        return self.structure

    def _spin(self) -> dict[str, Any]:
        assert self.settings is not None
        structure, s = self._cell(), self.settings
        if s.soc:
            vectors = [[0.0, 0.0, s.magmom.get(site.specie.symbol, 0.0)] for site in structure]
            return {"LSORBIT": True, "GGA_COMPAT": False, "MAGMOM": vectors}
        where = f"{structure.composition.formula}, charge {charge_of(structure):+d}"
        unpaired = self.unpaired
        if unpaired is None and s.spin == "free":
            guess = [s.magmom.get(site.specie.symbol, 0.6) for site in structure]
            return {"ISPIN": 2, "MAGMOM": guess}
        if unpaired is None and s.spin == "none":
            unpaired, where = 0, f"{where}, settings.spin none"
        if unpaired is None:
            unpaired = low_spin(structure)
        check_parity(structure, unpaired, where=where)
        if unpaired == 0 and s.spin != "free":
            # Vanishing moments stay so in a second spin channel, at twice the cost.
            return {"ISPIN": 1}
        share = unpaired / len(structure)
        return {"ISPIN": 2, "NUPDOWN": unpaired, "MAGMOM": [share] * len(structure)}

    def _hubbard(self) -> dict[str, Any]:
        assert self.settings is not None
        corrected = self.settings.hubbard
        symbols = self.poscar.site_symbols
        if not set(symbols) & set(corrected):
            return {}
        return {
            "LDAU": True,
            "LDAUTYPE": 2,
            "LDAUL": [corrected[s].l if s in corrected else -1 for s in symbols],
            "LDAUU": [corrected[s].u if s in corrected else 0.0 for s in symbols],
            "LDAUJ": [0.0] * len(symbols),
        }
