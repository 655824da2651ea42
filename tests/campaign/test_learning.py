"""Settings of the learning: their file, and what makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from defect_mf_flows.campaign import LearningSettings, load_learning
from defect_mf_flows.errors import CampaignError
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
