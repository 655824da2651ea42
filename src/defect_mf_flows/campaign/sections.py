"""The sections of a campaign file. Unknown keys are refused, every field is documented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictInt, model_validator

from defect_mf_flows.campaign.learning import (
    WITHOUT_LOW_HEAD,
    FilterSettings,
    LoopSettings,
    PickSettings,
    SplitSettings,
    TrainingSettings,
)
from defect_mf_flows.campaign.section import Section
from defect_mf_flows.campaign.wording import did_you_mean
from defect_mf_flows.schemas.dielectric import Dielectric

#: Becomes a model's head and a key of documents, in which a dot or a dollar means something.
FidelityName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*$", max_length=50)]
Repeat = Annotated[StrictInt, Field(ge=-100, le=100)]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse what a database cannot keep: dates, sets, references to itself."""
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"settings must be numbers, text, lists and mappings: {error}") from None
    return settings


class HostSettings(Section):
    """The pristine crystal."""

    structure: Path = Field(
        description="Structure file of the host (CIF, POSCAR, ...), relative to the campaign "
        "file. With partial occupancies the supercell is filled at random, by the campaign's seed."
    )
    supercell: (
        Literal["auto"]
        | Annotated[list[Repeat], Field(min_length=3, max_length=3)]
        | Annotated[
            list[Annotated[list[Repeat], Field(min_length=3, max_length=3)]],
            Field(min_length=3, max_length=3),
        ]
    ) = Field(
        "auto",
        description="Three repeats, a 3x3 matrix, or 'auto': doped finds the smallest cell "
        "with min_image_distance.",
    )
    min_image_distance: float = Field(
        10.0, gt=0, description="Smallest distance between periodic images, Angstrom ('auto')."
    )


class DefectSettings(Section):
    """Which defects, in which charge states."""

    include: list[str] = Field(
        default_factory=list,
        description="Defect names as doped gives them, for example v_Zn, S_Zn, Zn_i_Td. "
        "Empty: every defect that doped generates.",
    )
    charges: dict[str, Annotated[list[StrictInt], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Charge states per defect; a defect that is not listed gets doped's guess.",
    )
    interstitials: bool = Field(False, description="Also generate interstitials.")
    environments: bool = Field(
        False,
        description="For alloys: one defect per nearest-neighbour environment of its site, named "
        "after it (v_Zn_S3Se1), instead of one per site that symmetry tells apart.",
    )
    extrinsic: list[str] = Field(default_factory=list, description="Dopant elements.")
    spin: dict[str, dict[int, StrictInt]] = Field(
        default_factory=dict,
        description="Unpaired electrons per defect and charge; elsewhere the engine decides.",
    )

    def spin_of(self, defect: str, charge: int) -> int | None:
        """Unpaired electrons of one charge state, or None to leave them to the engine."""
        return self.spin.get(defect, {}).get(charge)


class StartSettings(Section):
    """Start structures of the low-fidelity search (ShakeNBreak)."""

    distortions: list[Annotated[float, Field(gt=-1, lt=1)]] = Field(
        default=[-0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        description="Changes of the bond length to the distorted neighbours; 0 is the "
        "rattled structure. Every one gets its own rattle seed.",
    )
    rattle: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of the rattle as a fraction of the shortest bond; "
        "null: ShakeNBreak's default, 0.1.",
    )
    dimer_length: float = Field(
        2.0, gt=0.5, description="Distance to which the dimer start pushes two neighbours, A."
    )
    min_neighbours: int = Field(
        2,
        ge=0,
        description="Distort at least this many neighbours: ShakeNBreak distorts one per "
        "excess electron, and none in a fully ionised defect, whose basins the search "
        "would then miss.",
    )
    pair_distortions: list[Annotated[float, Field(gt=-1, lt=1)]] = Field(
        default_factory=list,
        description="Also distort every pair of neighbours; -0.6 to -0.2 finds the dimers of "
        "alloys, where pairs differ.",
    )
    given: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Your own starts per defect: structure files on the campaign's supercell, "
        "relative to the campaign file. Every charge state starts from them, in both searches.",
    )


class FidelitySettings(Section):
    """One method: an engine and its settings."""

    engine: Literal["xtb", "ase", "vasp", "gpaw", "cp2k"] = Field(
        description="'xtb' (tblite), 'gpaw', 'cp2k', 'vasp', or 'ase' for any ASE calculator by "
        "dotted path."
    )
    settings: Annotated[dict[str, Any], AfterValidator(_plain)] = Field(
        default_factory=dict,
        description="For 'xtb': method and any keyword of tblite's calculator. For 'ase': "
        "calculator (dotted path), kwargs, and charge_keyword or charge_info, which say how "
        "the calculator learns the charge; spin_keyword if it takes unpaired electrons. For "
        "'vasp', 'gpaw' and 'cp2k': see docs/vasp.md, docs/gpaw.md and docs/cp2k.md.",
    )
    fmax: float = Field(0.05, gt=0, description="Relaxations end at this force, eV/A.")
    steps: int = Field(100, ge=1, description="Relaxations end after this many steps.")


class RoleSettings(Section):
    """Which fidelity plays which part."""

    low: str = Field(description="Fidelity that relaxes every start structure.")
    high: str = Field(description="Fidelity whose ground states are wanted.")
    extra: list[str] = Field(
        default_factory=list,
        description="Further fidelities: single points on the same picks, a head each.",
    )


class FrameSettings(FilterSettings):
    """Which low-fidelity frames enter the dataset."""

    per_relaxation: int = Field(
        10, ge=2, description="Evenly spaced frames per relaxation, first and last included."
    )
    imported: bool = Field(
        False,
        description="Frames that `defect-mf import` brought into this database under the names "
        "of the campaign's fidelities, of its defects and charges, train too.",
    )


#: Relaxations per job on a CPU, where the campaign does not say.
CPU_BATCH = 12


class SearchSettings(Section):
    """The surrogate search on the high-fidelity head."""

    distortions: list[Annotated[float, Field(gt=-1, lt=1)]] = Field(
        default=[-0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        description="Bond distortions, with other rattle seeds than the reference search.",
    )
    pair_distortions: list[Annotated[float, Field(gt=-1, lt=1)]] = Field(
        default=[-0.5, -0.3], description="Distortions of every pair of neighbours."
    )
    rattles: list[Annotated[float, Field(gt=0)]] = Field(
        default=[0.05, 0.15], description="Rattle amplitudes, fractions of the shortest bond."
    )
    split_vacancies: bool = Field(
        True,
        description="Also start vacancies with a like atom half-way in from the next such site.",
    )
    exchanges: bool = Field(
        True,
        description="Also start vacancies of compounds with an unlike neighbour on the empty site: "
        "an antisite beside the neighbour's vacancy.",
    )
    from_low: bool = Field(
        True, description="Also start from the low-fidelity minima of every charge state."
    )
    fmax: float = Field(0.02, gt=0, description="FIRE ends at this force, eV/A.")
    steps: int = Field(400, ge=1, description="FIRE ends after this many steps.")
    extrapolation: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Drop ends with two atoms closer than any training frame has them, by more "
        "than this fraction.",
    )
    max_gain: float = Field(
        1.0,
        gt=0,
        description="Drop ends whose model energy lies further than this below every label of "
        "their charge, of either fidelity, eV per cell: such minima are holes of the model. Raise "
        "it if the low-fidelity search cannot have come near the ground state.",
    )
    trust: float | None = Field(
        None,
        gt=0,
        description="Drop ends whose atoms have surroundings so unlike all that trained that the "
        "errors of labels held out, where they are as unlike, are larger than this (root mean "
        "square, eV per cell). null: ends are judged by contacts and energy alone.",
    )
    batch: int | None = Field(
        None,
        ge=1,
        description="Relaxations per job; null: 12 on a CPU, and all of a charge state on a GPU, "
        "which relaxes them together.",
    )
    trajectories: bool = Field(False, description="Keep every step of every relaxation.")
    doubt: float | None = Field(
        None,
        gt=0,
        description="eV/A. Where the committee's forces on one atom spread by more on the way of a "
        "relaxation, the geometry asks for a label (needs loop.acquire). Null: only its end can.",
    )
    dtype: Literal["float32", "float64"] | None = Field(
        None, description="Precision of the relaxations; null: that of the training."
    )
    compile: bool = Field(
        False,
        description="On a CPU, compile the force calls of each job, where the network is a single "
        "one (not 'per_charge'). Needs a C++ compiler and, the first time, a minute or two; pays "
        "in jobs of many minutes, so with a larger 'batch'. Ends stay the same but for rounding.",
    )


class MatchSettings(Section):
    """When two minima are the same."""

    soap: float = Field(
        3e-4,
        gt=0,
        description="Cosine distance of SOAP at the defect site; with 'auto' only where the data "
        "choose none.",
    )
    auto: bool = Field(
        True,
        description="Take the middle of the widest gap among the distances that a search finds.",
    )
    energy: float = Field(0.03, gt=0, description="Energy difference, eV per cell.")
    displacement: float = Field(
        0.2,
        gt=0,
        description="Where SOAP does not decide: largest displacement of an atom near the defect, "
        "up to symmetry and exchange of like atoms, A.",
    )


class VerifySettings(Section):
    """High-fidelity verification of the lowest minima."""

    minima: int = Field(2, ge=1, description="Lowest model minima to verify per charge.")
    uncertain: int = Field(
        2,
        ge=0,
        description="Further minima per charge to verify, at most, that lie within the committee's "
        "spread of the lowest; without a committee none.",
    )
    max_local_rmsd: float = Field(
        0.1, gt=0, description="Largest local RMSD of a confirmed ground state, A."
    )
    max_displacement: float = Field(
        0.3, gt=0, description="Largest displacement of an atom of a confirmed ground state, A."
    )
    basin_displacement: float = Field(
        0.6,
        gt=0,
        description="A low-fidelity minimum whose atoms move further than this at high "
        "fidelity has left its basin, A.",
    )
    max_energy_error: float | None = Field(
        None, gt=0, description="Largest model error of a confirmed state, eV per cell."
    )
    energy_tolerance: float = Field(
        0.02, gt=0, description="Energies closer than this count as equal, eV per cell."
    )
    frames: int = Field(
        8, ge=1, description="Frames of each verification relaxation added to the dataset."
    )
    low_check: float | None = Field(
        None,
        gt=0,
        description="The low fidelity computes every predicted minimum first. Where the model's "
        "low head is off by more than this, the high fidelity is not asked, eV per cell. All of "
        "them train in the next round. null: no check.",
    )
    low_asks: int = Field(
        8,
        ge=0,
        description="With low_check, the low fidelity also computes up to so many geometries per "
        "charge at which relaxations left what the model knows; they train in the next round.",
    )
    low_minima: int | None = Field(
        None,
        ge=1,
        description="With low_check, the low fidelity computes up to so many of the lowest "
        "predicted minima per charge. Those that pass and lie lowest, the low head's error taken "
        "off, are the ones that the high fidelity is asked about, as many as 'minima' and "
        "'uncertain' say. null: what is refused leaves its place empty.",
    )
    ask_within: float | None = Field(
        None,
        gt=0,
        description="The high fidelity is not asked about predicted minima that the model puts "
        "further than this above its lowest, the low head's error taken off, eV per cell. null: "
        "about 'minima' and 'uncertain' of them, however high.",
    )
    relax_within: float | None = Field(
        None,
        gt=0,
        description="Every candidate gets a high-fidelity single point first, and only those this "
        "close to the lowest of their charge, or to what earlier rounds relaxed to, are relaxed, "
        "eV per cell; the others stay as labels. "
        "With it, 'minima' can be larger. null: every candidate is relaxed.",
    )
    relaxations: int | None = Field(
        None,
        ge=1,
        description="With relax_within, so many candidates per charge and round are relaxed first, "
        "those with the lowest single points; others that are near enough follow only where they "
        "may end lower by their forces. null: all that are near enough.",
    )
    trace_verified: bool = Field(
        False,
        description="With relax_within, a predicted minimum into which the model relaxes a minimum "
        "of the same charge that an earlier round verified counts as that one, however far it "
        "moved, unless its single point lies lower. false: only where both geometries agree.",
    )
    curvature: bool = Field(
        False,
        description="Begin each relaxation from the model's curvature at its start and not from "
        "springs between neighbours: for a model that knows it well. For engines on ASE; VASP "
        "relaxes by itself.",
    )

    guided: bool = Field(
        False,
        description="The low fidelity guides every high-fidelity relaxation, also those of picks: "
        "each step goes to the minimum of its surface, corrected by what both fidelities said at "
        "the steps before. Fewer high-fidelity calls, for some six low-fidelity calls per step. "
        "VASP then computes single points, between which this package takes the steps; VASP as the "
        "low fidelity guides only VASP.",
    )

    @model_validator(mode="after")
    def _come_with_what_they_need(self) -> VerifySettings:
        if self.guided and self.curvature:
            raise ValueError(
                "guided and curvature both say how a relaxation begins; set one of them."
            )
        for name, needed in (
            ("low_minima", "low_check"),
            ("relaxations", "relax_within"),
            ("trace_verified", "relax_within"),
        ):
            if getattr(self, name) and getattr(self, needed) is None:
                raise ValueError(
                    f"{name} is set and {needed} is not, without which it does nothing; set "
                    f"{needed}, or leave {name} out."
                )
        return self


class LevelSettings(Section):
    """Transition levels."""

    vbm: float | None = Field(
        None,
        description="Valence-band maximum at high fidelity, eV; null: from the engine's host "
        "calculation. The low fidelity counts from its own alone.",
    )
    band_gap: float | None = Field(
        None, gt=0, description="Band gap at high fidelity, eV; null: likewise."
    )
    dielectric: Dielectric | None = Field(
        None,
        description="Static dielectric constant of the host, ionic part included: a number, three "
        "or three rows of three. Charged cells are then corrected: eFNV where the engine gives "
        "core potentials (VASP), else for the images of point charges alone.",
    )


class Campaign(Section):
    """A whole campaign: host, defects, fidelities, learning, search, levels."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100, description="Name; a folder."
    )
    seed: int = Field(1, ge=0, lt=2**31, description="Everything random derives from it.")
    disclaimer: str | None = Field(
        None, description="Shown wherever the numbers are shown, for demonstrations."
    )
    reuse: bool = Field(
        False,
        description="Take over reference calculations of other campaigns in the same database "
        "whose input is identical: structure, charge, spin, engine, version, settings; and what "
        "the same model has relaxed from the same starts.",
    )
    host: HostSettings
    defects: DefectSettings = DefectSettings()
    fidelities: dict[FidelityName, FidelitySettings] = Field(
        min_length=2, description="Methods by name; names become the model's heads."
    )
    roles: RoleSettings
    starts: StartSettings = StartSettings()
    frames: FrameSettings = FrameSettings()
    picks: PickSettings = PickSettings()
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
    search: SearchSettings = SearchSettings()
    matching: MatchSettings = MatchSettings()
    verification: VerifySettings = VerifySettings()
    loop: LoopSettings = LoopSettings()
    levels: LevelSettings = LevelSettings()

    @model_validator(mode="after")
    def _roles_exist_and_differ(self) -> Campaign:
        wanted = [self.roles.low, *self.roles.extra, self.roles.high]
        for role in wanted:
            if role not in self.fidelities:
                hint = did_you_mean(role, self.fidelities)
                raise ValueError(
                    f"roles: {role!r} is not one of fidelities {list(self.fidelities)}{hint}"
                )
        if len(set(wanted)) != len(wanted):
            raise ValueError(f"roles: each fidelity can play one part, not several: {wanted}")
        unused = set(self.fidelities) - set(wanted)
        if unused:
            raise ValueError(f"fidelities: {sorted(unused)} play no part; list them in roles")
        low, high = self.fidelities[self.roles.low], self.fidelities[self.roles.high]
        if (low.engine, low.settings) == (high.engine, high.settings):
            raise ValueError(
                "roles: low and high fidelity have the same engine and settings; "
                "change the method of one of them"
            )
        if self.frames.imported and self.split.by not in ("relaxation", "frame"):
            raise ValueError(
                f"frames.imported: an import is no {self.split.by} of its own that could be held "
                "out; set split.by to relaxation"
            )
        if self.verification.guided and low.engine == "vasp" != high.engine:
            raise ValueError(
                "verification.guided lets the low fidelity guide the steps of the high one, and "
                "VASP guides only VASP; leave guided out, or choose other engines"
            )
        if self.loop.acquire and self.training.committee < 2:
            raise ValueError(
                "loop.acquire asks for labels where a committee disagrees; set training.committee "
                "to at least 2, or loop.acquire to 0"
            )
        if self.loop.low_rounds and self.verification.low_check is None:
            raise ValueError(
                "loop.low_rounds lets the low fidelity alone look over predictions, which it does "
                "only with verification.low_check; set that, or loop.low_rounds to 0"
            )
        if self.verification.low_check is not None and self.training.strategy in WITHOUT_LOW_HEAD:
            raise ValueError(
                "verification.low_check compares the model's low head with the low fidelity, and "
                f"the strategy {self.training.strategy!r} keeps none; choose another strategy, or "
                "leave low_check out"
            )
        if self.search.doubt is not None and not self.loop.acquire:
            raise ValueError(
                "search.doubt asks for labels that nobody computes; set loop.acquire, or "
                "search.doubt to null"
            )
        return self

    @property
    def heads(self) -> list[str]:
        """Fidelities in the order of the model's heads, the highest last."""
        return [self.roles.low, *self.roles.extra, self.roles.high]


def section_of(annotation: Any) -> type[Section] | None:
    """Section class behind an annotation, also of ``dict[str, Section]``."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((a for a in candidates if isinstance(a, type) and issubclass(a, Section)), None)
