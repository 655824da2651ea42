"""Settings of a fidelity that VASP computes, checked without VASP and without POTCARs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt, model_validator

from defect_mf_flows.campaign.explaining import checked_settings
from defect_mf_flows.campaign.section import Section
from defect_mf_flows.campaign.wording import did_you_mean
from defect_mf_flows.errors import CampaignError

Divisions = Annotated[
    list[Annotated[StrictInt, Field(ge=1, le=64)]], Field(min_length=3, max_length=3)
]

_OF_THE_FUNCTIONAL = (
    "GGA", "METAGGA", "LHFCALC", "AEXX", "HFSCREEN", "AGGAC", "AGGAX", "ALDAC", "AMGGAC", "AMGGAX",
    "CMBJ", "CMBJA", "CMBJB", "HFRCUT", "HFSCREENC", "LHFONE", "LMETAGGA", "LMODELHF", "LRHFCALC",
    "LTHOMAS", "PARAM1", "PARAM2", "VOSKOWN",
)  # fmt: skip
_OF_DISPERSION = (
    "IVDW", "LUSE_VDW", "LVDW_EWALD", "LVDWEXPANSION", "VDW_A1", "VDW_A2", "VDW_C6",
    "VDW_CNRADIUS", "VDW_D", "VDW_R0", "VDW_RADIUS", "VDW_S6", "VDW_S8", "VDW_SR", "ZAB_VDW",
)  # fmt: skip
_OF_CHARGED_CELLS = ("EFIELD", "EPSILON", "IDIPOL", "LDIPOL", "LMONO")

#: Thinner grids of the exact exchange.
_REDUCED = ("NKRED", "NKREDX", "NKREDY", "NKREDZ", "EVENONLY", "ODDONLY")
#: What a hybrid's SCF may need and PBE's must not have.
_HYBRID_ONLY = (*_REDUCED, "ALGO", "TIME", "PRECFOCK", "ENCUTFOCK", "LMAXFOCK")

#: INCAR tags that the engine sets itself, and what decides them.
OWNED: dict[str, str] = {
    "NELECT": "the charge state and the POTCARs",
    **dict.fromkeys(_OF_THE_FUNCTIONAL, "settings.functional"),
    **dict.fromkeys(_OF_DISPERSION, "settings.dispersion"),
    **dict.fromkeys(_OF_CHARGED_CELLS, "the corrections that results are given"),
    "IALGO": "incar.ALGO",
    "LASPH": "the functional, for all fidelities alike",
    "ENCUT": "settings.encut",
    "EDIFF": "settings.ediff",
    "EDIFFG": "fmax of the fidelity",
    "NSW": "steps of the fidelity",
    "IBRION": "whether it is a relaxation",
    "ISIF": "the fixed cell, which all fidelities share",
    "ISYM": "whether the cell holds a defect",
    "ISPIN": "settings.spin",
    "NUPDOWN": "settings.spin and defects.spin",
    "MAGMOM": "settings.magmom",
    "LSORBIT": "settings.soc",
    "LNONCOLLINEAR": "settings.soc",
    "LDAU": "settings.hubbard",
    "LDAUTYPE": "settings.hubbard",
    "LDAUL": "settings.hubbard",
    "LDAUU": "settings.hubbard",
    "LDAUJ": "settings.hubbard",
    "KSPACING": "settings.kpoints",
    "KGAMMA": "settings.kpoints",
    "ICORELEVEL": "settings.write_potential",
    "LVHAR": "settings.write_potential",
    "LVTOT": "settings.write_potential",
    "LWAVE": "the continuation of stopped runs",
    "ISTART": "the continuation of stopped runs",
    "ICHARG": "the continuation of stopped runs",
}


class Hubbard(Section):
    """Hubbard correction of one element (Dudarev)."""

    l: Literal[0, 1, 2, 3] = Field(description="Angular momentum of the corrected shell.")  # noqa: E741
    u: float = Field(ge=0, description="Effective U - J, eV.")


class VaspSettings(Section):
    """What a campaign file may say of a VASP fidelity."""

    functional: Literal["PBE", "HSE06"] = Field(
        description="PBE (GGA = PE), or HSE06 (a quarter of exact exchange, screened with 0.2/A)."
    )
    encut: float = Field(gt=50, le=2000, description="Plane-wave cutoff, eV.")
    ediff: float = Field(1e-6, gt=0, le=1e-3, description="SCF threshold, eV per cell.")
    kpoints: Divisions | None = Field(None, description="Gamma-centred grid: three divisions.")
    kpoint_density: float | None = Field(
        None, gt=0, description="Instead of kpoints: k-points per reciprocal A^3 of the cell."
    )
    gamma_only: bool = Field(
        False, description="Instead of kpoints: Gamma alone, for a coarse search."
    )
    spin: Literal["low", "free", "none"] = Field(
        "low",
        description="low: 0 or 1 unpaired electrons, by parity (ISPIN 1, or NUPDOWN 1); free: "
        "VASP finds the moment; none: no spin polarisation. defects.spin goes before it.",
    )
    spin_guesses: Literal[1, 2] = Field(
        1,
        description="2: also try two more unpaired electrons at the first geometry and go on "
        "with the lower energy.",
    )
    magmom: dict[str, float] = Field(
        default_factory=dict, description="First guess of the moments of elements; spin: free."
    )
    potcar_functional: Literal[
        "PBE", "PBE_52", "PBE_54", "PBE_64", "PBE_52_W_HASH", "PBE_54_W_HASH"
    ] = Field("PBE_54", description="Release of the PBE potentials, as pymatgen calls it.")
    potcars: dict[str, str] = Field(
        default_factory=dict,
        description="Potential per element, for example {Zn: Zn, Ga: Ga_d}; elsewhere that of "
        "the Materials Project's PBE_54 sets.",
    )
    dispersion: Literal["D3", "D3-BJ"] | None = Field(
        None, description="DFT-D3 with zero or Becke-Johnson damping."
    )
    soc: bool = Field(False, description="Spin-orbit coupling; needs spin: free.")
    hubbard: dict[str, Hubbard] = Field(
        default_factory=dict, description="DFT+U per element, for example {Fe: {l: 2, u: 4}}."
    )
    write_potential: list[Literal["core", "LOCPOT"]] = Field(
        default=["core"],
        description="core: ICORELEVEL = 0, for corrections after Kumagai and Oba; LOCPOT: for "
        "those after Freysoldt, Neugebauer and Van de Walle.",
    )
    from_wavecar: bool = Field(
        True,
        description="Start from the WAVECAR that a lower fidelity left for the same geometry, "
        "charge, cutoff and k-points; HSE06 makes one with PBE where there is none.",
    )
    keep_wavecar: bool = Field(
        False,
        description="Keep the WAVECAR of the last geometry for a higher fidelity's from_wavecar; "
        "they are large.",
    )
    high_energy: float | None = Field(
        2.0,
        gt=0,
        description="Stop a distorted start that stays this far above the relaxed unperturbed "
        "one, eV per cell; null: never.",
    )
    high_energy_after: int = Field(
        30, ge=1, description="Ionic steps before a start can be stopped as too high."
    )
    stalled_energy: float = Field(
        0.002, ge=0, description="A relaxation has stalled if its energy stays within this, eV."
    )
    stalled_steps: int = Field(
        50, ge=2, description="Ionic steps of a stalled tail; its end is accepted as a minimum."
    )
    incar: dict[str, bool | int | float | str | list[float]] = Field(
        default_factory=dict,
        description="Further INCAR tags, for example {ALGO: All, NCORE: 4, KPAR: 2}.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> VaspSettings:
        ways = [self.kpoints is not None, self.kpoint_density is not None, self.gamma_only]
        if sum(ways) != 1:
            raise ValueError("give exactly one of kpoints, kpoint_density and gamma_only")
        for tag in self.incar:
            if tag.upper() in OWNED:
                raise ValueError(f"incar.{tag}: decided by {OWNED[tag.upper()]}; leave it out")
        self._check_incar()
        if self.soc and self.spin != "free":
            raise ValueError("soc: needs spin: free; total spin is not conserved with it")
        if self.magmom and self.spin != "free":
            raise ValueError("magmom: needs spin: free; otherwise the total moment is fixed")
        if self.spin_guesses == 2 and self.spin != "low":
            raise ValueError("spin_guesses: two guesses need spin: low")
        return self

    def _check_incar(self) -> None:
        """Refuse values that make another method, or wrong labels, of these settings.

        Raises
        ------
        ValueError
            Naming the tag.
        """
        tags = {tag.upper(): value for tag, value in self.incar.items()}
        algo = str(tags.get("ALGO", "Normal"))
        if self.functional == "HSE06" and algo[:1].upper() in ("F", "V"):
            raise ValueError(
                f"incar.ALGO: {algo} does not converge to the ground state of HSE06; take Normal, "
                "All or Damped"
            )
        if str(tags.get("ISMEAR", 0)) not in ("0", "-1"):
            raise ValueError(
                f"incar.ISMEAR: {tags['ISMEAR']} gives wrong energies or forces where a level of a "
                "defect is partly filled; take 0 (Gaussian) or -1 (Fermi)"
            )
        for tag in _REDUCED:
            if tag in tags:
                self._check_reduced(tag, tags[tag])

    def _check_reduced(self, tag: str, value: Any) -> None:
        if self.functional != "HSE06":
            raise ValueError(f"incar.{tag}: thins out exact exchange, which PBE has not")
        if self.kpoints is None:
            raise ValueError(f"incar.{tag}: must divide the grid, so give kpoints")
        axes = ["XYZ".index(tag[-1])] if tag in _REDUCED[1:4] else [0, 1, 2]
        factor = value if tag.startswith("NKRED") else 2
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
            raise ValueError(f"incar.{tag}: {value!r} is no whole number above 0")
        if any(self.kpoints[axis] % factor for axis in axes):
            raise ValueError(f"incar.{tag}: {factor} does not divide kpoints {self.kpoints}")


def pbe_of(settings: VaspSettings) -> dict[str, Any]:
    """Settings of a PBE calculation whose orbitals a hybrid's can start from.

    Parameters
    ----------
    settings
        Of the hybrid.

    Returns
    -------
    dict
        The same cutoff, grid, spin and potentials, without what only exact exchange needs.
    """
    kept = {tag: v for tag, v in settings.incar.items() if tag.upper() not in _HYBRID_ONLY}
    changed = {"functional": "PBE", "incar": kept, "keep_wavecar": False, "spin_guesses": 1}
    return settings.model_dump(mode="json") | changed


def check_vasp(where: str, settings: dict[str, Any], elements: set[str]) -> VaspSettings:
    """Check the settings of a VASP fidelity.

    Parameters
    ----------
    where
        File and field, for the message.
    settings
        As they stand in the campaign file.
    elements
        Symbols that the cells hold.

    Returns
    -------
    VaspSettings
        With defaults filled in.

    Raises
    ------
    CampaignError
        Naming field, fault and remedy, and the nearest name for one that does not exist.
    """
    checked = checked_settings(where, settings, VaspSettings)
    for tag in checked.incar:
        known = _incar_tags()
        if tag.upper() not in known:
            raise CampaignError(
                f"{where}.incar.{tag}: no INCAR tag of VASP{did_you_mean(tag.upper(), known)}."
            )
    for field in ("potcars", "magmom", "hubbard"):
        for symbol in getattr(checked, field):
            if symbol not in elements:
                raise CampaignError(
                    f"{where}.{field}: {symbol!r} is not in the cells; they hold "
                    f"{sorted(elements)}."
                )
    return checked


def _incar_tags() -> set[str]:
    """INCAR tags that pymatgen knows."""
    import json
    from pathlib import Path

    import pymatgen.io.vasp.inputs as inputs

    return set(json.loads((Path(inputs.__file__).parent / "incar_parameters.json").read_text()))
