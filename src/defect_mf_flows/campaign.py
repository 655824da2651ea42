"""The campaign file: what to compute. Unknown keys are refused, every field is documented."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)
from pymatgen.core import Element, Lattice, Structure

from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.frame import content_hash, structure_key

Fraction = Annotated[float, Field(gt=0, lt=1)]
Repeat = Annotated[StrictInt, Field(ge=-100, le=100)]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse what a database cannot keep: dates, sets, references to itself."""
    try:
        json.dumps(settings, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"settings must be numbers, text, lists and mappings: {error}") from None
    return settings


class Section(BaseModel):
    """A frozen part of the campaign file that refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    def as_dict(self) -> dict[str, Any]:
        """Serialise for monty, which turns a bare pydantic field of a Maker into text."""
        kind = type(self)
        return {
            "@module": kind.__module__,
            "@class": kind.__name__,
            **self.model_dump(mode="json"),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Rebuild from ``as_dict``."""
        return cls(**{k: v for k, v in content.items() if not k.startswith("@")})


class HostSettings(Section):
    """The pristine crystal."""

    structure: Path = Field(
        description="Structure file of the host (CIF, POSCAR, ...), relative to the campaign file."
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


class FidelitySettings(Section):
    """One method: an engine and its settings."""

    engine: Literal["xtb", "ase"] = Field(
        description="'xtb' (tblite), or 'ase' for any ASE calculator by dotted path."
    )
    settings: Annotated[dict[str, Any], AfterValidator(_plain)] = Field(
        default_factory=dict,
        description="For 'xtb': method and any keyword of tblite's calculator. For 'ase': "
        "calculator (dotted path), kwargs, and charge_keyword or charge_info, which say how "
        "the calculator learns the charge; spin_keyword if it takes unpaired electrons.",
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


class FrameSettings(Section):
    """Which low-fidelity frames enter the dataset."""

    per_relaxation: int = Field(
        10, ge=2, description="Evenly spaced frames per relaxation, first and last included."
    )
    max_energy: float = Field(
        15.0, gt=0, description="Drop frames this far above the lowest of their charge, eV."
    )
    min_distance: Fraction = Field(
        0.55, description="Drop frames with a bond below this fraction of the covalent radii."
    )
    max_force: float = Field(80.0, gt=0, description="Drop frames with a larger force, eV/A.")


class PickSettings(Section):
    """Which frames get a high-fidelity single point."""

    fraction: Fraction = Field(0.1, description="Share of the low-fidelity frames.")
    energy_bins: int = Field(3, ge=1, description="Strata of energy per charge and basin.")
    step_bins: int = Field(3, ge=1, description="Strata of progress along the relaxation.")


class SplitSettings(Section):
    """Sides of the split; whole relaxations go to one side."""

    valid: Fraction = Field(0.1, description="Share of relaxations for validation.")
    test: Fraction = Field(0.1, description="Share of relaxations held out.")

    @model_validator(mode="after")
    def _leave_training(self) -> SplitSettings:
        if self.valid + self.test >= 0.9:
            raise ValueError("valid + test must leave at least 10 % of relaxations for training")
        return self


class TrainingSettings(Section):
    """MACE and its training."""

    r_max: float = Field(4.5, gt=1, description="Cutoff of one message-passing step, A.")
    hidden_irreps: str = Field("32x0e + 32x1o", description="Features of the network.")
    max_ell: int = Field(2, ge=1, description="Highest spherical harmonics.")
    correlation: int = Field(2, ge=1, description="Body order of one layer minus one.")
    num_interactions: int = Field(2, ge=1, description="Message-passing layers.")
    num_radial_basis: int = Field(8, ge=2, description="Bessel functions.")
    pair_repulsion: bool = Field(
        True, description="Add the Ziegler-Biersack-Littmark repulsion at short distances."
    )
    charge_embedding_width: int = Field(16, ge=1, description="Length of the charge vector.")
    dtype: Literal["float32", "float64"] = Field("float32", description="Precision.")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:0, ...")
    batch_size: int = Field(4, ge=1, description="Frames per optimiser step.")
    max_epochs: int = Field(200, ge=1, description="Passes over the training set.")
    learning_rate: float = Field(0.01, gt=0, description="Initial rate; cosine decay.")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="Average of the weights.")
    energy_weight: float = Field(100.0, gt=0, description="Weight of energies, first stage.")
    energy_weight_late: float = Field(5000.0, gt=0, description="Weight of energies later.")
    energy_stage: float = Field(0.5, ge=0, le=1, description="Epoch fraction of the change.")
    forces_weight: float = Field(100.0, gt=0, description="Weight of forces.")
    high_weight: float = Field(
        3.0, gt=0, description="Weight of one high-fidelity frame against a low-fidelity one."
    )
    energy_scale: float | None = Field(
        2.0,
        gt=0,
        description="A frame this far above the lowest of its charge counts half, eV per cell; "
        "minima matter more than the rattled starts. null: all count the same.",
    )
    max_grad_norm: float = Field(10.0, gt=0, description="Gradient clipping.")
    validate_every: int = Field(5, ge=1, description="Epochs between validations.")
    checkpoint_every: int = Field(5, ge=1, description="Epochs between checkpoints.")
    patience: int = Field(
        0, ge=0, description="Stop after this many epochs without a better model; 0: never."
    )


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
        description="Drop ends whose model energy lies further than this below every training "
        "label of their charge, eV per cell: such minima are holes of the model. Raise it if "
        "the low-fidelity search cannot have come near the ground state.",
    )
    batch: int = Field(12, ge=1, description="Relaxations per job.")


class MatchSettings(Section):
    """When two minima are the same."""

    soap: float = Field(3e-4, gt=0, description="Cosine distance of SOAP at the defect site.")
    energy: float = Field(0.03, gt=0, description="Energy difference, eV per cell.")


class VerifySettings(Section):
    """High-fidelity verification of the lowest minima."""

    minima: int = Field(2, ge=1, description="Lowest model minima to verify per charge.")
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


class LoopSettings(Section):
    """When to stop."""

    max_rounds: int = Field(2, ge=1, description="Rounds of train, search, verify.")
    max_high_calls: int | None = Field(
        None, ge=1, description="Budget of high-fidelity force calls; null: none."
    )


class LevelSettings(Section):
    """Transition levels."""

    vbm: float | None = Field(
        None, description="Valence-band maximum, eV; null: from the engine's host calculation."
    )
    band_gap: float | None = Field(None, gt=0, description="Band gap, eV; null: likewise.")


class Campaign(Section):
    """A whole campaign: host, defects, fidelities, learning, search, levels."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name; a folder.")
    seed: int = Field(1, ge=0, description="Everything random derives from it.")
    disclaimer: str | None = Field(
        None, description="Shown wherever the numbers are shown, for demonstrations."
    )
    host: HostSettings
    defects: DefectSettings = DefectSettings()
    fidelities: dict[str, FidelitySettings] = Field(
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
                near = difflib.get_close_matches(role, self.fidelities, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
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
        return self

    @property
    def heads(self) -> list[str]:
        """Fidelities in the order of the model's heads, the highest last."""
        return [self.roles.low, *self.roles.extra, self.roles.high]


def campaign_schema() -> dict[str, Any]:
    """JSON schema of the campaign file, with the description of every field."""
    return Campaign.model_json_schema()


def load_campaign(path: Path) -> tuple[Campaign, Structure]:
    """Read a campaign file, check it, and read the host it names.

    Parameters
    ----------
    path
        YAML file.

    Returns
    -------
    campaign
        The checked campaign.
    structure
        The host's cell.

    Raises
    ------
    CampaignError
        With the file, the field and the remedy, before anything is computed.
    """
    if not _is_file(path):
        raise CampaignError(f"{path}: no such campaign file; give the path of a YAML file.")
    try:
        content = yaml.safe_load(path.read_text())
    except Exception as error:  # PyYAML raises ValueError and worse on odd dates and tags
        raise CampaignError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise CampaignError(f"{path}: must be a mapping of sections; see `validate --schema`.")
    try:
        campaign = Campaign.model_validate(content)
    except ValidationError as error:
        raise CampaignError(_explain(path, error)) from None
    structure = read_host(path, campaign)
    check_physics(path, campaign, structure)
    return campaign, structure


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def read_host(path: Path, campaign: Campaign) -> Structure:
    """Read the host structure that a campaign file names.

    Raises
    ------
    CampaignError
        If it is missing or not a structure.
    """
    source = path.parent / campaign.host.structure
    where = f"{path}: host.structure"
    if not _is_file(source):
        raise CampaignError(f"{where}: {source} does not exist; paths are relative to the file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = Structure.from_file(source)
    except Exception as error:
        raise CampaignError(f"{where}: {source} is not a structure file: {error}") from None
    if not structure.is_ordered:
        raise CampaignError(f"{where}: {source} has partial occupancies; order it first.")
    structure.remove_oxidation_states()
    return structure


def campaign_hash(campaign: Campaign, structure: Structure) -> str:
    """SHA-256 of everything that decides what a campaign computes.

    The host enters by its content and not by its path; the name does not enter.
    """
    content = json.loads(campaign.model_dump_json(exclude={"name", "disclaimer"}))
    content["host"].pop("structure")
    return content_hash({"campaign": content, "host": structure_key(structure)})


# -- physics that can be checked without computing anything ----------------------------

DEFECT_NAME = re.compile(
    r"^(?:v_(?P<removed>[A-Z][a-z]?)(?:_[\w.]+)?|(?P<new>[A-Z][a-z]?)_(?P<site>[\w.]+))$"
)


def check_physics(path: Path, campaign: Campaign, structure: Structure) -> None:
    """Refuse what cannot be computed, before anything is computed.

    Raises
    ------
    CampaignError
        Unknown species, impossible charge, repeated charge, cell too small, engine settings
        that do not say how the charge is passed.
    """
    elements = {element.symbol for element in structure.composition.elements}
    _check_cell(f"{path}: host.supercell", structure, campaign)
    for symbol in campaign.defects.extrinsic:
        if not Element.is_valid_symbol(symbol):
            raise CampaignError(
                f"{path}: defects.extrinsic: {symbol!r} is no element; write symbols such as Mg."
            )
    for field in ("include", "charges", "spin"):
        for name in getattr(campaign.defects, field):
            _check_defect_name(f"{path}: defects.{field}", name, elements, campaign)
    for name, charges in campaign.defects.charges.items():
        _check_charges(f"{path}: defects.charges.{name}", charges, structure, campaign)
    for name, fidelity in campaign.fidelities.items():
        _check_fidelity(f"{path}: fidelities.{name}", fidelity, elements)


def _check_defect_name(where: str, name: str, elements: set[str], campaign: Campaign) -> None:
    match = DEFECT_NAME.match(name)
    if match is None:
        raise CampaignError(f"{where}: {name!r} is no defect name; write v_Zn, S_Zn or Zn_i.")
    known = elements | set(campaign.defects.extrinsic)
    symbols = [s for s in (match["removed"], match["new"]) if s]
    if match["site"] and not match["site"].startswith("i"):
        symbols.append(match["site"].split("_")[0])
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise CampaignError(f"{where}: {name!r} names {symbol!r}, which is no element.")
        if symbol not in known:
            raise CampaignError(
                f"{where}: {name!r} names {symbol}, but the host has {sorted(elements)}; "
                "list dopants in defects.extrinsic."
            )
    chosen = campaign.defects.include
    if chosen and name not in chosen:
        raise CampaignError(f"{where}: {name!r} is not in defects.include; add it there.")


def _check_charges(
    where: str, charges: list[int], structure: Structure, campaign: Campaign
) -> None:
    if len(set(charges)) != len(charges):
        raise CampaignError(f"{where}: {charges} repeats a charge; list each once.")
    repeats = _n_cells(campaign)
    electrons = repeats * sum(site.specie.Z for site in structure)
    limit = min(electrons, 12)
    for charge in charges:
        if charge >= electrons:
            raise CampaignError(
                f"{where}: charge {charge:+d} leaves no electrons in a cell with {electrons}; "
                "charges are in elementary charges, positive for missing electrons."
            )
        if abs(charge) > limit:
            raise CampaignError(
                f"{where}: charge {charge:+d} is beyond +-{limit}; no point defect has it."
            )


def _n_cells(campaign: Campaign) -> int:
    if campaign.host.supercell == "auto":
        return 1
    matrix = np.array(campaign.host.supercell)
    return round(abs(np.prod(matrix) if matrix.ndim == 1 else np.linalg.det(matrix)))


def _check_cell(where: str, structure: Structure, campaign: Campaign) -> None:
    """No atom may see its own image within the model's cutoff."""
    if campaign.host.supercell == "auto":
        shortest = campaign.host.min_image_distance
    else:
        if _n_cells(campaign) < 1:
            raise CampaignError(
                f"{where}: {campaign.host.supercell} has no volume; give three repeats of at "
                "least 1, or a 3x3 matrix."
            )
        repeats = np.array(campaign.host.supercell)
        matrix = np.diag(repeats) if repeats.ndim == 1 else repeats
        # The lattice alone: the atoms of an absurdly large cell would fill the memory.
        lattice = Lattice(matrix @ structure.lattice.matrix)
        shortest = min(lattice.get_lll_reduced_lattice().abc)
    if shortest <= campaign.training.r_max:
        raise CampaignError(
            f"{where}: images of the defect are {shortest:.2f} A apart, within the model's "
            f"cutoff training.r_max = {campaign.training.r_max} A; enlarge the supercell."
        )


#: Keywords of tblite's ASE calculator but for charge and multiplicity, which the defect decides.
#: tblite itself takes any keyword and ignores those that it does not know.
XTB_KEYS = {
    "method",
    "accuracy",
    "guess",
    "max_iterations",
    "mixer",
    "mixer_memory",
    "mixer_damping",
    "annealing",
    "electric_field",
    "spin_polarization",
    "solvation",
    "electronic_temperature",
    "cache_api",
    "verbosity",
    "xtb_config",
    *(f"{m}_solvation" for m in ("alpb", "gbsa", "cosmo", "cpcm", "pcm", "gbe", "gb")),
}


def _check_fidelity(where: str, fidelity: FidelitySettings, elements: set[str]) -> None:
    settings = fidelity.settings
    if fidelity.engine == "xtb":
        method = settings.get("method")
        if method not in ("GFN1-xTB", "GFN2-xTB", "IPEA1-xTB"):
            raise CampaignError(
                f"{where}.settings.method: {method!r}; choose GFN1-xTB, GFN2-xTB or IPEA1-xTB."
            )
        heavy = [s for s in elements if Element(s).Z > 86]
        if heavy:
            raise CampaignError(f"{where}: xTB knows elements up to Rn, not {heavy}.")
        if "charge" in settings:
            raise CampaignError(f"{where}.settings.charge: set per defect, in defects.charges.")
        unknown = sorted(set(settings) - XTB_KEYS)
        if unknown:
            raise CampaignError(
                f"{where}.settings: unknown {unknown}, which tblite would ignore; known are "
                f"{sorted(XTB_KEYS)}."
            )
        return
    path = settings.get("calculator")
    if not isinstance(path, str) or "." not in path:
        raise CampaignError(f"{where}.settings.calculator: give the dotted path of a class.")
    if ("charge_keyword" in settings) == ("charge_info" in settings):
        raise CampaignError(
            f"{where}.settings: give either charge_keyword (the calculator's argument for the "
            "total charge) or charge_info (its key in atoms.info); without it the calculator "
            "would compute every charge state as neutral."
        )
    known = {"calculator", "kwargs", "charge_keyword", "charge_info", "spin_keyword"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise CampaignError(f"{where}.settings: unknown {unknown}; known are {sorted(known)}.")


# -- messages --------------------------------------------------------------------------


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        location = ".".join(str(part) for part in item["loc"]) or "campaign"
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: {location}: unknown key{_nearest(item['loc'])}.")
        else:
            message = item["msg"].removeprefix("Value error, ")
            given = (
                "" if item["type"] in ("missing", "value_error") else f" (got {item['input']!r})"
            )
            lines.append(f"{path}: {location}: {message}{given}.")
    return "\n".join(lines)


def _nearest(location: tuple[int | str, ...]) -> str:
    """Name the nearest valid key of the section in which an unknown one stands."""
    model: Any = Campaign
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        annotation = field.annotation if field is not None else None
        if annotation is not None and hasattr(annotation, "model_fields"):
            model = annotation
        elif part in ("fidelities",):
            model = {"fidelities": FidelitySettings}["fidelities"]
    fields = list(getattr(model, "model_fields", {}))
    near = difflib.get_close_matches(str(location[-1]), fields, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; valid keys: {', '.join(fields)}"


# -- for people ------------------------------------------------------------------------


def summary(campaign: Campaign, structure: Structure) -> list[str]:
    """Describe a checked campaign in a few lines.

    Parameters
    ----------
    campaign, structure
        From :func:`load_campaign`.

    Returns
    -------
    list of str
        Lines for a terminal.
    """
    c = campaign
    defects = ", ".join(c.defects.include) or "all that doped generates"
    n_atoms = f"{_n_cells(c) * len(structure)} atoms" if c.host.supercell != "auto" else "auto"
    lines = [
        f"campaign    {c.name}: valid",
        f"host        {structure.composition.reduced_formula}, supercell of {n_atoms}",
        f"defects     {defects}",
    ]
    for name, charges in c.defects.charges.items():
        lines.append(f"charges     {name}: {', '.join(f'{q:+d}' if q else '0' for q in charges)}")
    for role, name in (("low", c.roles.low), ("high", c.roles.high)):
        fidelity = c.fidelities[name]
        lines.append(f"{role:<11} {name}: {fidelity.engine} {fidelity.settings}")
    lines.append(f"starts      {len(c.starts.distortions) + 2} per charge state")
    return lines


def describe_fields() -> list[str]:
    """Every field of a campaign file with its default and meaning, as commented YAML."""
    lines = ["# Fields of a campaign file. (required) has no default.", ""]
    lines += _describe(Campaign, indent=0)
    return lines


def _describe(model: type[BaseModel], *, indent: int) -> list[str]:
    lines: list[str] = []
    pad = "  " * indent
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        text = field.description or (section.__doc__ or "").split("\n")[0] if section else ""
        text = text or field.description or ""
        lines += [f"{pad}# {line}" for line in textwrap.wrap(text, 96 - 2 * indent)]
        if section is not None and name == "fidelities":
            lines += [f"{pad}{name}:", f"{pad}  NAME:", *_describe(section, indent=indent + 2)]
        elif section is not None:
            lines += [f"{pad}{name}:", *_describe(section, indent=indent + 1)]
        else:
            default = field.get_default(call_default_factory=True)
            shown = "(required)" if field.is_required() else json.dumps(default, default=str)
            lines.append(f"{pad}{name}: {shown}")
        if indent == 0:
            lines.append("")
    return lines


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Section class behind an annotation, also of ``dict[str, Section]``."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((a for a in candidates if isinstance(a, type) and issubclass(a, Section)), None)
