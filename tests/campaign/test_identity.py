"""The hash changes with what is computed and with nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from defect_mf_flows.campaign import campaign_hash
from defect_mf_flows.schemas.frame import content_hash, structure_key
from tests.campaign.files import BASE, Load, changed


def test_the_hash_does_not_depend_on_name_speed_or_where_the_host_lies(
    load: Load, tmp_path: Path, zns_file: Path
) -> None:
    expected = campaign_hash(*load(BASE))
    (tmp_path / "deep").mkdir()
    shutil.copy(zns_file, tmp_path / "deep" / "other.cif")
    assert campaign_hash(*load(changed("name", "another"))) == expected
    assert campaign_hash(*load(changed("disclaimer", "text"))) == expected
    assert campaign_hash(*load(changed("reuse", True))) == expected
    assert campaign_hash(*load(changed("training.compile", True))) == expected
    assert campaign_hash(*load(changed("search.compile", True))) == expected
    assert campaign_hash(*load(changed("host.structure", "deep/other.cif"))) == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 2),
        ("host.supercell", [2, 2, 2]),
        ("defects.charges", {"v_Zn": [0, 1]}),
        ("defects.spin", {"v_Zn": {0: 2}}),
        ("fidelities.pbe.fmax", 0.01),
        ("fidelities.hse.settings", {"method": "GFN2-xTB", "accuracy": 0.1}),
        ("training.max_epochs", 7),
        ("search.rattles", []),
        ("matching.energy", 0.02),
    ],
    ids=lambda value: str(value),
)
def test_the_hash_changes_with_everything_that_is_computed(
    load: Load, path: str, value: Any
) -> None:
    assert campaign_hash(*load(changed(path, value))) != campaign_hash(*load(BASE))


def test_a_batch_that_is_not_given_keeps_the_hash_of_the_former_default(load: Load) -> None:
    expected = campaign_hash(*load(changed("search.batch", 12)))
    assert campaign_hash(*load(changed("search.batch", None))) == expected
    assert campaign_hash(*load(changed("search.batch", 6))) != expected


def test_the_hash_changes_with_the_host(load: Load, tmp_path: Path) -> None:
    expected = campaign_hash(*load(BASE))
    text = (tmp_path / "ZnS.cif").read_text()
    (tmp_path / "ZnS.cif").write_text(text.replace("5.4093", "5.4094"))
    assert campaign_hash(*load(BASE)) != expected


def test_roles_count_in_the_hash_and_the_order_of_keys_does_not(load: Load) -> None:
    expected = campaign_hash(*load(BASE))
    assert campaign_hash(*load(changed("roles", {"low": "hse", "high": "pbe"}))) != expected
    turned = yaml.safe_dump(dict(reversed(BASE.items())), sort_keys=False)
    assert campaign_hash(*load(turned)) == expected


CAME_LATER = [
    ("frames.imported", False, True),
    ("training.charge_term", "categorical", "intensive"),
    ("training.strategy", "joint", "delta"),
    ("training.spin_embedding", False, True),
    ("training.committee", 1, 3),
    ("picks.sampler", "stratified", "direct"),
    ("split.by", "relaxation", "basin"),
    ("split.labels", None, 0.1),
    ("picks.relaxations", 0, 1),
    ("picks.rattle", 0.05, 0.1),
    ("picks.low_minima", 0, 3),
    ("loop.acquire_energy", 0.5, 0.6),
    ("defects.environments", False, True),
    ("levels.dielectric", None, 8.9),
    ("matching.auto", True, False),
    ("matching.displacement", 0.2, 0.3),
    ("search.split_vacancies", True, False),
    ("search.trajectories", False, True),
    ("starts.pair_distortions", [], [-0.4]),
    ("verification.uncertain", 2, 0),
    ("verification.curvature", False, True),
    ("verification.guided", False, True),
    ("verification.low_check", None, 0.3),
    ("verification.low_asks", 8, 4),
    ("verification.ask_within", None, 0.5),
    ("verification.relax_within", None, 0.5),
    ("search.dtype", None, "float64"),
    ("search.trust", None, 0.3),
    ("training.replay_weight", 1.0, 2.0),
    ("training.replay_charge", None, 0),
    ("training.high_share", None, 0.5),
    ("training.high_prior", None, 0.1),
    ("training.loss", "squared", "absolute"),
    ("training.polish", 0, 50),
]

#: Those that cannot be changed alone.
WITH_OTHERS = [
    "verification.low_minima",
    "loop.low_rounds",
    "verification.relaxations",
    "verification.trace_verified",
    "starts.given",
    "loop.acquire",
    "search.doubt",
    "training.enable_cueq",
    "training.foundation",
    "training.foundation_hash",
    "training.foundation_head",
    "training.replay",
    "training.replay_hash",
]


@pytest.mark.parametrize(("name", "default", "other"), CAME_LATER)
def test_a_setting_that_came_later_counts_only_where_it_is_not_the_default(
    load: Load, name: str, default: Any, other: Any
) -> None:
    """Campaigns of an earlier version keep their hash, and so their database."""
    campaign, host = load(BASE)
    expected = campaign_hash(campaign, host)
    content = json.loads(campaign.model_dump_json(exclude={"name", "disclaimer", "reuse"}))
    content["host"].pop("structure")
    for section in ("training", "search"):
        content[section].pop("compile")
    content["search"]["batch"] = 12  # the former default
    for added in [*(later for later, _, _ in CAME_LATER), *WITH_OTHERS]:
        section, field = added.split(".")
        content[section].pop(field)
    assert content_hash({"campaign": content, "host": structure_key(host)}) == expected
    assert campaign_hash(*load(changed(name, default))) == expected
    assert campaign_hash(*load(changed(name, other))) != expected
