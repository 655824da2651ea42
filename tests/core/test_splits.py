from __future__ import annotations

from collections import Counter, defaultdict
from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from defect_mf_flows.campaign import SplitSettings
from defect_mf_flows.core.splits import check_no_leak, split_relaxations
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.dataset import DatasetEntry, FrameReference, Split

SHARES = st.floats(0.01, 0.88)
COUNTS = st.dictionaries(
    st.sampled_from(["v_Zn|+0", "v_Zn|-1", "v_S|+2"]), st.integers(1, 40), min_size=1
)


def relaxations(counts: dict[str, int]) -> dict[str, str]:
    return {f"{s}|{n}": s for s, count in counts.items() for n in range(count)}


@given(counts=COUNTS, valid=SHARES, test=SHARES, seed=st.integers(0, 10**6))
def test_every_charge_trains_and_from_three_relaxations_on_validates_and_tests(
    counts: dict[str, int], valid: float, test: float, seed: int
) -> None:
    assume(valid + test < 0.9)
    given_ = relaxations(counts)
    sides = split_relaxations(given_, settings=SplitSettings(valid=valid, test=test), seed=seed)
    assert set(sides) == set(given_), "each relaxation is on exactly one side"
    found: dict[str, Counter[Split]] = defaultdict(Counter)
    for key, side in sides.items():
        found[given_[key]][side] += 1
    for stratum, count in counts.items():
        assert found[stratum][Split.TRAIN] >= 1
        if count >= 3:
            assert found[stratum][Split.VALID] >= 1
            assert found[stratum][Split.TEST] >= 1


def test_shares_are_respected_where_there_are_enough_relaxations() -> None:
    sides = split_relaxations(
        relaxations({"a": 100}), settings=SplitSettings(valid=0.2, test=0.1), seed=1
    )
    assert Counter(sides.values()) == {Split.TRAIN: 70, Split.VALID: 20, Split.TEST: 10}


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    given_ = relaxations({"a": 12})
    options = SplitSettings()
    first = split_relaxations(given_, settings=options, seed=1)
    turned = dict(reversed(given_.items()))
    assert split_relaxations(turned, settings=options, seed=1) == first
    assert any(split_relaxations(given_, settings=options, seed=s) != first for s in (2, 3, 4))


def test_what_has_high_fidelity_labels_tests_first_but_half_of_it_trains() -> None:
    given_ = relaxations({"a": 20, "b": 20, "c": 20})
    many = {f"a|{n}": 1 + n % 3 for n in range(18)}
    labels = {**many, "b|3": 1, "b|7": 2, "b|11": 1, "c|5": 4}
    options = SplitSettings(valid=0.1, test=0.1)
    sides = split_relaxations(given_, settings=options, seed=1, labels=labels)
    assert Counter(sides.values()) == {Split.TRAIN: 48, Split.VALID: 6, Split.TEST: 6}
    assert all(key in labels for key in given_ if given_[key] == "a" and sides[key] is Split.TEST)
    few = [sides[key] for key in ("b|3", "b|7", "b|11")]
    assert sorted(few) == sorted([Split.TEST, Split.TRAIN, Split.TRAIN])
    assert sides["c|5"] is Split.TRAIN, "without a label the head could not be trained at all"


@pytest.mark.parametrize(("share", "held"), [(0.0, 0), (0.1, 2), (0.25, 5), (0.5, 10)])
def test_no_larger_share_of_what_has_high_fidelity_labels_is_held_out_than_asked_for(
    share: float, held: int
) -> None:
    given_ = relaxations({"a": 20, "b": 20})
    labels = {key: 1 for key in given_ if int(key.split("|")[1]) < 10}
    options = SplitSettings(valid=0.2, test=0.2, labels=share)
    sides = split_relaxations(given_, settings=options, seed=1, labels=labels)
    assert sum(sides[key] is not Split.TRAIN for key in labels) == held
    assert sum(side is not Split.TRAIN for side in sides.values()) == 16, "others take the places"


def test_where_every_relaxation_has_labels_the_share_of_them_comes_before_the_other_shares() -> (
    None
):
    given_ = relaxations({"a": 20, "b": 20})
    options = SplitSettings(valid=0.2, test=0.2, labels=0.1)
    sides = split_relaxations(given_, settings=options, seed=1, labels=dict.fromkeys(given_, 1))
    assert sum(side is not Split.TRAIN for side in sides.values()) == 4


def entry(relaxation: str, split: Split, content: str, fidelity: str = "low") -> DatasetEntry:
    return DatasetEntry(
        frame=FrameReference(calculation="u", step=0, content_hash=content),
        fidelity=fidelity,
        charge=0,
        defect="v_Zn",
        relaxation=relaxation,
        split=split,
    )


CLEAN = [
    entry("r1", Split.TRAIN, "h1"),
    entry("r1", Split.TRAIN, "h2", "high"),
    entry("r2", Split.VALID, "h3"),
    entry("r3", Split.TEST, "h4"),
]


def test_a_clean_dataset_passes() -> None:
    check_no_leak(CLEAN)


@pytest.mark.parametrize(("home", "away"), permutations(Split, 2))
def test_a_planted_frame_of_a_relaxation_on_another_side_is_found(home: Split, away: Split) -> None:
    planted = [entry("r9", home, "h8"), *CLEAN, entry("r9", away, "h9", "high")]
    with pytest.raises(DatasetError, match=r"relaxation r9 is in .* split by relaxation"):
        check_no_leak(planted)


def test_a_planted_copy_of_a_geometry_under_another_name_is_found() -> None:
    with pytest.raises(DatasetError, match="frame h1"):
        check_no_leak([*CLEAN, entry("r5", Split.TEST, "h1")])
