"""The sections about learning: picks, splits, training, and the loop that asks for labels."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from defect_mf_flows.campaign.foundations import ARCHITECTURE
from defect_mf_flows.campaign.section import Fraction, Section

#: Strategies whose models forget the low fidelity, or never saw it.
WITHOUT_LOW_HEAD = ("high_only", "transfer", "transfer_frozen")
#: Of absolute errors, where nothing else is given.
ABSOLUTE_WEIGHTS = {"energy_weight": 10.0, "energy_weight_late": 300.0, "forces_weight": 10.0}


class FilterSettings(Section):
    """Which frames are physical."""

    max_energy: float = Field(
        15.0, gt=0, description="Drop frames this far above the lowest of their charge, eV."
    )
    min_distance: Fraction = Field(
        0.55, description="Drop frames with a bond below this fraction of the covalent radii."
    )
    max_force: float = Field(80.0, gt=0, description="Drop frames with a larger force, eV/A.")


class PickSettings(Section):
    """High-fidelity labels before there is a model: single points on frames, and relaxations."""

    fraction: Fraction = Field(0.1, description="Share of the low-fidelity frames.")
    sampler: Literal["stratified", "even", "random", "farthest", "direct"] = Field(
        "stratified",
        description="How frames are chosen: 'stratified' (charge x basin x energy x step, the "
        "ends of every basin always in), 'even' (evenly spaced along each relaxation), 'random', "
        "'farthest' (farthest points in SOAP space), 'direct' (BIRCH clusters of principal "
        "components of SOAP, as in DIRECT sampling).",
    )
    energy_bins: int = Field(3, ge=1, description="Strata of energy per charge and basin.")
    step_bins: int = Field(3, ge=1, description="Strata of progress along the relaxation.")
    relaxations: int = Field(
        0,
        ge=0,
        description="Also relax so many starts of every charge state at high fidelity before the "
        "first round, displaced at random and not distorted. Their frames train and their ends "
        "are verified minima: for fidelities that disagree about which minimum is low.",
    )
    low_minima: int = Field(
        0,
        ge=0,
        description="Also relax so many of the lowest minima of the low-fidelity search of every "
        "charge state at high fidelity before the first round. What lies high at its single point "
        "may relax to the lowest; no later round asks about them. 0: the lowest alone, in the "
        "first round.",
    )
    rattle: float = Field(
        0.05,
        gt=0,
        description="Standard deviation of those displacements, a fraction of the shortest bond.",
    )


class SplitSettings(Section):
    """Sides of the split; whole relaxations, or more, go to one side."""

    by: Literal["relaxation", "basin", "defect", "composition", "frame"] = Field(
        "relaxation",
        description="What stays together on one side: a 'relaxation', all relaxations that end "
        "in one 'basin', a 'defect', a 'composition' of the cell, or only the 'frame': "
        "neighbours along a relaxation then teach what is tested, and errors come out too small.",
    )
    valid: Fraction = Field(0.1, description="Share of the groups for validation.")
    test: Fraction = Field(0.1, description="Share of the groups held out.")
    labels: float | None = Field(
        None,
        ge=0,
        le=0.5,
        description="Of the groups with high-fidelity labels, hold out no larger share than this; "
        "0 trains on all of them. null: they are held out first, so that errors of the highest "
        "head are seen, and where labels are few that costs up to half of them.",
    )

    @model_validator(mode="after")
    def _leave_training(self) -> SplitSettings:
        if self.valid + self.test >= 0.9:
            raise ValueError("valid + test must leave at least 10 % of relaxations for training")
        return self

    @model_validator(mode="after")
    def _labels_come_in_groups(self) -> SplitSettings:
        if self.labels is not None and self.by == "frame":
            raise ValueError(
                "labels counts groups that have some, and by: frame has no groups; choose another "
                "split.by, or remove labels"
            )
        return self


class TrainingSettings(Section):
    """MACE and its training."""

    foundation: str | None = Field(
        None,
        description="Start from a foundation model: path of a MACE file, relative to this file, "
        "or a name that mace downloads (mh-1, mpa-0, small-omat-0, ...). It decides on r_max, "
        "hidden_irreps, max_ell, correlation, num_interactions, num_radial_basis and "
        "pair_repulsion, which then must not be given.",
    )
    foundation_hash: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the foundation's file. Filled in for a path; give it with a "
        "name to pin the download.",
    )
    foundation_head: str | None = Field(
        None, description="Head of the foundation to start from, if it has several."
    )
    replay: str | None = Field(
        None,
        description="Extended XYZ with labels of the foundation's own method (REF_energy, "
        "REF_forces), trained along on a head of its own so that the network does not forget; "
        "the head is taken off at the end.",
    )
    replay_hash: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of that file; filled in."
    )
    replay_weight: float = Field(1.0, gt=0, description="Weight of one replayed frame.")
    replay_charge: Literal[0] | None = Field(
        None, description="0 states that replayed frames which carry no charge are neutral."
    )
    r_max: float = Field(4.5, gt=1, description="Cutoff of one message-passing step, A.")
    hidden_irreps: str = Field(
        "32x0e + 32x1o",
        description="Features of the network: scalars (0e), vectors (1o), ..., equally many of "
        "each.",
    )
    max_ell: int = Field(2, ge=1, le=11, description="Highest spherical harmonics.")
    correlation: int = Field(2, ge=1, description="Body order of one layer minus one.")
    num_interactions: int = Field(2, ge=1, description="Message-passing layers.")
    num_radial_basis: int = Field(8, ge=2, description="Bessel functions.")
    pair_repulsion: bool = Field(
        True, description="Add the Ziegler-Biersack-Littmark repulsion at short distances."
    )
    charge_term: Literal["none", "categorical", "continuous", "per_charge", "intensive"] = Field(
        "categorical",
        description="How the network learns the charge: 'categorical' (a vector per charge, "
        "arXiv:2603.05238), 'continuous' (a function of the number), 'per_charge' (a network "
        "each), 'intensive' (node energies count from the pristine host's, so that the charge "
        "energy does not grow with the cell), 'none' (a constant per charge and no more).",
    )
    charge_embedding_width: int = Field(16, ge=1, description="Length of the charge vector.")
    spin_embedding: bool = Field(
        False, description="Also learn the number of unpaired electrons; every label needs one."
    )
    strategy: Literal[
        "joint", "high_only", "transfer_frozen", "transfer", "delta", "low_plus_constant"
    ] = Field(
        "joint",
        description="How fidelities are combined: 'joint' (a head each, trained together), "
        "'high_only', 'transfer' (low, then high; '_frozen': readouts alone), 'delta' (low plus "
        "a network for the difference), 'low_plus_constant'. All take the same number of steps.",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Precision.")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:0, ...")
    enable_cueq: bool = Field(
        False,
        description="Train and search with cuequivariance's kernels: NVIDIA GPU only.",
    )
    compile: bool = Field(
        False,
        description="Compile the training step, where the network is a single one (not "
        "'per_charge'). Needs a C++ compiler and, the "
        "first time, a minute or two; pays in trainings of many minutes. Results stay the same "
        "but for rounding.",
    )
    batch_size: int = Field(4, ge=1, description="Frames per optimiser step.")
    max_epochs: int = Field(200, ge=1, description="Passes over the training set.")
    learning_rate: float = Field(0.01, gt=0, description="Initial rate; cosine decay.")
    ema_decay: float = Field(0.99, gt=0, lt=1, description="Average of the weights.")
    loss: Literal["squared", "absolute"] = Field(
        "squared",
        description="What training makes small: the 'squared' errors of energies per atom and of "
        "forces, or the 'absolute' ones, which frames that are far off do not rule.",
    )
    energy_weight: float = Field(
        100.0, gt=0, description="Weight of energies, first stage. 'absolute': 10."
    )
    energy_weight_late: float = Field(
        5000.0, gt=0, description="Weight of energies later. 'absolute': 300."
    )
    energy_stage: float = Field(0.5, ge=0, le=1, description="Epoch fraction of the change.")
    forces_weight: float = Field(100.0, gt=0, description="Weight of forces. 'absolute': 10.")
    high_weight: float = Field(
        3.0, gt=0, description="Weight of one high-fidelity frame against a low-fidelity one."
    )
    high_share: Fraction | None = Field(
        None,
        description="Fill at least this share of an epoch with labels of the highest fidelity, "
        "which repeat, while others wait for another epoch; the number of steps stays. For the "
        "strategy 'joint'. null: every label once per epoch.",
    )
    high_prior: Fraction | None = Field(
        None,
        description="Weight, as a share of their own, with which labels of lower fidelities also "
        "teach the highest head, as if fidelities differed by a constant per charge and "
        "composition: its own labels alone let it go anywhere between them. In each epoch a "
        "quarter of those labels, by chance, does this instead of teaching its own head. For the "
        "strategy 'joint'. null: none.",
    )
    energy_scale: float | None = Field(
        2.0,
        gt=0,
        description="A frame this far above the lowest of its charge counts half, eV per cell; "
        "minima matter more than the rattled starts. null: all count the same.",
    )
    polish: int = Field(
        0,
        ge=0,
        description="Iterations of L-BFGS over all labels at once, after the epochs. Each costs "
        "about an epoch. For energies whose errors stay large on the training labels, too.",
    )
    max_grad_norm: float = Field(10.0, gt=0, description="Gradient clipping.")
    validate_every: int = Field(5, ge=1, description="Epochs between validations.")
    checkpoint_every: int = Field(5, ge=1, description="Epochs between checkpoints.")
    patience: int = Field(
        0, ge=0, description="Stop after this many epochs without a better model; 0: never."
    )
    committee: int = Field(
        1,
        ge=1,
        le=10,
        description="Models trained. The first learns all labels; each further one has another "
        "seed and learns relaxations drawn with replacement. From 2 on, energies of minima "
        "relative to the lowest carry the members' spread; 3 to 5 are sensible.",
    )

    @model_validator(mode="before")
    @classmethod
    def _weigh(cls, data: Any) -> Any:
        """Weights that are not given are those of the loss."""
        if isinstance(data, dict) and data.get("loss") == "absolute":
            return {**ABSOLUTE_WEIGHTS, **data}
        return data

    @model_validator(mode="after")
    def _check_foundation(self) -> Self:
        if self.foundation is None:
            lonely = ("foundation_hash", "foundation_head", "replay")
            given = [name for name in lonely if getattr(self, name) is not None]
            if given:
                raise ValueError(f"{given[0]} needs a foundation; add it, or remove {given[0]}")
            return self
        fields = type(self).model_fields
        own = [n for n in ARCHITECTURE if getattr(self, n) != fields[n].default]
        # A training that has found its foundation knows the architecture by its hash.
        if own and self.foundation_hash is None:
            raise ValueError(
                f"the foundation model decides on {', '.join(own)}; remove them, or foundation"
            )
        if self.strategy == "delta":
            raise ValueError(
                "strategy 'delta' learns differences, which no foundation model has; choose "
                "another strategy, or remove foundation"
            )
        return self

    @model_validator(mode="after")
    def _check_irreps(self) -> Self:
        """Refuse what mace builds and then fails on, after the labels were paid for."""
        if self.foundation is None:
            parts = [part.strip() for part in self.hidden_irreps.split("+")]
            found = [re.fullmatch(r"(?:(\d+)x)?(\d+[eo])", part) for part in parts]
            widths = {int(match[1] or 1) for match in found if match}
            kinds = [match[2] for match in found if match]
            if len(kinds) < len(parts) or "0e" not in kinds or len(set(kinds)) < len(kinds):
                raise ValueError(
                    f"hidden_irreps {self.hidden_irreps!r} is not a sum like '32x0e + 32x1o' with "
                    "scalars (0e) and every kind once"
                )
            if len(widths) > 1 or 0 in widths:
                raise ValueError(
                    f"hidden_irreps {self.hidden_irreps!r} needs equally many of each kind, at "
                    "least one, as in '32x0e + 32x1o'"
                )
        return self

    @model_validator(mode="after")
    def _check_replay(self) -> Self:
        if self.replay is not None:
            if self.strategy not in ("joint", "high_only"):
                raise ValueError("replay works with the strategies 'joint' and 'high_only'")
            if self.charge_term == "per_charge":
                raise ValueError("replay works with every charge_term but 'per_charge'")
            if self.spin_embedding:
                raise ValueError("replayed frames have no known spin; remove spin_embedding")
        return self

    @model_validator(mode="after")
    def _check_mixing(self) -> Self:
        for name in ("high_share", "high_prior"):
            if getattr(self, name) is not None and self.strategy != "joint":
                raise ValueError(
                    f"{name} mixes fidelities in an epoch, which only the strategy 'joint' does; "
                    f"remove {name}"
                )
        return self

    @model_validator(mode="after")
    def _check_cueq(self) -> Self:
        if self.enable_cueq and self.device.startswith("cpu"):
            raise ValueError(
                "enable_cueq needs an NVIDIA GPU; set device: cuda, or remove enable_cueq"
            )
        if self.enable_cueq and self.charge_term in ("intensive", "per_charge"):
            raise ValueError(
                f"enable_cueq works with mace's own network, and charge_term "
                f"{self.charge_term!r} has another; remove enable_cueq"
            )
        return self


class LoopSettings(Section):
    """When to stop."""

    max_rounds: int = Field(2, ge=1, description="Rounds of train, search, verify.")
    low_rounds: int = Field(
        0,
        ge=0,
        description="So many of them, the first, ask the low fidelity alone: it computes what the "
        "model predicts, and that trains, before the high fidelity is asked about any of it. "
        "Needs verification.low_check.",
    )
    max_high_calls: int | None = Field(
        None, ge=1, description="Budget of high-fidelity force calls; null: none."
    )
    acquire: int = Field(
        0,
        ge=0,
        description="High-fidelity single points after each round that did not converge, where "
        "the committee disagrees most: predicted minima that verification did not take, and "
        "geometries between the lowest minima. Needs training.committee of at least 2.",
    )
    acquire_energy: float = Field(
        0.5,
        gt=0,
        description="A geometry this far above the model's lowest minimum is worth 1/e of the "
        "same spread at that minimum, eV per cell.",
    )

    @model_validator(mode="after")
    def _the_high_fidelity_is_asked(self) -> LoopSettings:
        if self.low_rounds >= self.max_rounds:
            raise ValueError(
                f"low_rounds = {self.low_rounds} leaves none of max_rounds = {self.max_rounds} "
                "rounds to the high fidelity; set max_rounds higher"
            )
        return self


class LearningSettings(Section):
    """Settings of ``defect-mf dataset | train``, which work without a campaign."""

    heads: list[str] = Field(
        default_factory=list,
        description="Fidelities in the order of the model's heads, the highest last. Empty: the "
        "one fidelity of the files.",
    )
    seed: int = Field(1, ge=0, lt=2**31, description="Everything random derives from it.")
    frames: FilterSettings = FilterSettings()
    per_relaxation: int | None = Field(
        None, ge=2, description="Evenly spaced frames kept per relaxation; null: all."
    )
    split: SplitSettings = SplitSettings()
    training: TrainingSettings = TrainingSettings()
