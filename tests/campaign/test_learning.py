"""Settings of the learning: their file, and what makes no sense."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from defect_mf_flows.campaign import (
    LearningSettings,
    campaign_hash,
    load_campaign,
    load_learning,
)
from defect_mf_flows.campaign.foundations import ARCHITECTURE
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.testing import write_campaign
from tests.campaign.files import Load, changed


def test_labels_are_asked_for_only_by_a_committee(load: Load) -> None:
    with pytest.raises(CampaignError, match=r"training\.committee to at least 2"):
        load(changed("loop.acquire", 3))


def test_a_settings_file_is_read_and_what_is_wrong_is_named(tmp_path: Path) -> None:
    path = tmp_path / "learn.yaml"
    path.write_text("heads: [a, b]\nsplit: {by: basin}\n")
    assert load_learning(path).split.by == "basin"
    assert load_learning(path).training == LearningSettings().training
    path.write_text("trainings: {max_epochs: 3}\n")
    with pytest.raises(CampaignError, match=r"learn\.yaml: trainings: unknown key.*training"):
        load_learning(path)
    path.write_text("split: {by: luck}\n")
    with pytest.raises(CampaignError, match=r"split\.by: .*got 'luck'"):
        load_learning(path)
    path.write_text("split: {by: frame, labels: 0.1}\n")
    with pytest.raises(CampaignError, match=r"by: frame has no groups"):
        load_learning(path)


# -- a network that could not be trained -------------------------------------------------


@pytest.mark.parametrize(
    "irreps", ["8x1o", "128x", "", "8x0e + 8x0e", "8x0e, 8x1o", "8x0e + 4x1o", "0x0e + 0x1o"]
)
def test_features_that_mace_cannot_use_are_refused_before_labels(
    irreps: str, tmp_path: Path
) -> None:
    with pytest.raises(CampaignError, match=r"hidden_irreps .*'32x0e \+ 32x1o'"):
        load_learning(settings_file(tmp_path, f"hidden_irreps: '{irreps}'"))


@pytest.mark.parametrize("irreps", ["0e", "8x0e", "8x1o+8x0e", "4x0e + 4x1o + 4x2e"])
def test_features_of_one_width_are_taken(irreps: str, tmp_path: Path) -> None:
    training = load_learning(settings_file(tmp_path, f"hidden_irreps: {irreps}")).training
    assert training.hidden_irreps == irreps


# -- the loss ------------------------------------------------------------------------------


def test_weights_that_are_not_given_are_those_of_the_loss(tmp_path: Path) -> None:
    def weights(training: str) -> tuple[float, float, float]:
        found = load_learning(settings_file(tmp_path, training)).training
        return found.energy_weight, found.energy_weight_late, found.forces_weight

    assert weights("r_max: 4.0") == weights("loss: squared") == (100.0, 5000.0, 100.0)
    assert weights("loss: absolute") == (10.0, 300.0, 10.0)
    assert weights("loss: absolute, energy_weight_late: 100.0") == (10.0, 100.0, 10.0)
    # A document says all three, and is read back as it was written.
    written = load_learning(
        settings_file(tmp_path, "loss: absolute, forces_weight: 100.0")
    ).training
    assert type(written).model_validate_json(written.model_dump_json()) == written


# -- files that a training starts from ---------------------------------------------------


def settings_file(folder: Path, training: str) -> Path:
    path = folder / "learn.yaml"
    path.write_text(f"training: {{{training}}}\n")
    return path


def test_a_foundation_becomes_an_absolute_path_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a.model").write_bytes(b"weights")
    training = load_learning(settings_file(tmp_path, "foundation: ./a.model")).training
    assert training.foundation == str(tmp_path / "a.model")
    assert training.foundation_hash == hashlib.sha256(b"weights").hexdigest()
    named = load_learning(settings_file(tmp_path, "foundation: mh-1")).training
    assert (named.foundation, named.foundation_hash) == ("mh-1", None)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("foundation: b.model", r"training\.foundation: .*b\.model does not exist"),
        ("foundation: a.model, r_max: 5.0", r"decides on r_max; remove"),
        ("foundation: a.model, r_max: 4.5", r"decides on r_max; remove"),
        ("foundation: mh-1, hidden_irreps: 8x0e", r"decides on hidden_irreps; remove"),
        ("foundation: a.model, strategy: delta", r"strategy 'delta' learns differences"),
        (f"foundation: a.model, foundation_hash: '{'0' * 64}'", r"foundation_hash: .*has SHA-256"),
        ("foundation_head: pbe", r"foundation_head needs a foundation"),
        ("replay: r.xyz", r"replay needs a foundation"),
        ("foundation: a.model, replay: r.xyz", r"training\.replay: .*r\.xyz does not exist"),
        ("foundation: a.model, replay: a.model, strategy: transfer", r"'joint' and 'high_only'"),
        ("foundation: a.model, replay: a.model, charge_term: per_charge", r"but 'per_charge'"),
        ("foundation: a.model, replay: a.model, replay_charge: 1", r"replay_charge"),
    ],
)
def test_what_contradicts_a_foundation_is_refused(
    training: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.model").write_bytes(b"weights")
    with pytest.raises(CampaignError, match=message):
        load_learning(settings_file(tmp_path, training))


def test_a_foundation_enters_the_campaigns_hash_by_its_content(
    tmp_path: Path, tiny_campaign: Path
) -> None:
    def key(name: str, content: bytes) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.model").write_bytes(content)
        removed = dict.fromkeys(f"training.{field}" for field in ARCHITECTURE)
        path = write_campaign(folder, {**removed, "training.foundation": "./a.model"})
        return campaign_hash(*load_campaign(path))

    assert key("one", b"weights") == key("elsewhere", b"weights")
    assert key("other", b"others") != key("same", b"weights")
    assert key("again", b"weights") != campaign_hash(*load_campaign(tiny_campaign))
