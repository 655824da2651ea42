"""Fingerprints, copies, basins, and splits by more than the relaxation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import SplitSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.groups import (
    Ending,
    basins,
    copied_relaxations,
    fingerprint,
    frame_side,
    group_relaxations,
    split_groups,
)
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.defect import Defect, StartStructure
from defect_mf_flows.schemas.frame import Frame

MakeStart = Callable[..., StartStructure]
MakeFrame = Callable[..., Frame]


def moved(structure: Structure, seed: int) -> Structure:
    """The same crystal with its atoms in another order and its origin elsewhere."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(structure))
    return Structure(
        structure.lattice,
        [structure[int(i)].specie for i in order],
        structure.frac_coords[order] + rng.uniform(size=3),
    )


def test_a_fingerprint_knows_no_order_and_no_origin(make_start: MakeStart) -> None:
    one, other = make_start(0, 1).structure, make_start(0, 2).structure
    assert fingerprint(moved(one, 3)) == pytest.approx(fingerprint(one), abs=1e-9)
    assert np.abs(fingerprint(one) - fingerprint(other)).max() > 0.05


def relaxation(make_start: MakeStart, make_frame: MakeFrame, seed: int, name: str) -> list[Frame]:
    """Three steps that differ."""
    return [
        make_frame(-10.0 - step, structure=make_start(0, 10 * seed + step).structure, start=name)
        for step in range(3)
    ]


def test_a_copy_of_a_relaxation_under_another_name_is_found(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    frames = {name: relaxation(make_start, make_frame, k, name) for k, name in enumerate("abc")}
    assert copied_relaxations(frames) == []
    frames["planted"] = [
        make_frame(f.energy + 1e-4, structure=moved(f.structure, 5), start="planted")
        for f in frames["b"]
    ]
    assert copied_relaxations(frames) == [("b", "planted")]


def test_one_shared_geometry_is_enough_only_if_it_is_exact(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    frames = {name: relaxation(make_start, make_frame, k, name) for k, name in enumerate("ab")}
    shared = frames["a"][1].structure
    frames["b"].append(make_frame(-3.0, structure=moved(shared, 1), start="b"))
    assert copied_relaxations(frames) == []
    frames["b"].append(make_frame(-3.0, structure=shared, start="b", fidelity="high"))
    assert copied_relaxations(frames) == [("a", "b")]


def test_another_charge_is_no_copy(make_start: MakeStart, make_frame: MakeFrame) -> None:
    a = relaxation(make_start, make_frame, 1, "a")
    b = [make_frame(f.energy, -1, structure=f.structure, start="b") for f in a]
    assert copied_relaxations({"a": a, "b": b}) == []


def endings(vacancy: Defect, count: int, distinct: int) -> list[Ending]:
    """Relaxations that end in a few basins: one sulphur moved by more and more."""
    found = []
    for k in range(count):
        structure = vacancy.supercell.copy()
        structure.translate_sites([0], [0.08 * (k % distinct), 0, 0])
        structure = moved(structure, k)
        energy = -10.0 + 0.2 * (k % distinct)
        found.append(Ending(f"r{k:02d}", "v_Zn", 0, with_charge(structure, 0), energy))
    return found


def test_ends_in_one_basin_have_one_name(vacancy: Defect) -> None:
    given = endings(vacancy, 9, 3)
    named = basins(given)
    assert len(set(named.values())) == 3
    for k in range(9):
        assert named[f"r{k:02d}"] == named[f"r{k % 3:02d}"]


@pytest.mark.parametrize("seed", range(4))
def test_a_split_by_basin_has_no_basin_on_two_sides(vacancy: Defect, seed: int) -> None:
    given = endings(vacancy, 20, 5)
    sides = split_groups(given, settings=SplitSettings(by="basin", valid=0.2, test=0.2), seed=seed)
    named = basins(given)
    for name in set(named.values()):
        assert len({sides[key] for key in named if named[key] == name}) == 1
    assert set(sides.values()) == set(Split)


def test_copies_are_on_one_side_whatever_the_seed(vacancy: Defect) -> None:
    given = endings(vacancy, 12, 12)
    for seed in range(20):
        sides = split_groups(
            given,
            settings=SplitSettings(valid=0.3, test=0.3),
            seed=seed,
            copies=[("r01", "r07"), ("r07", "r10")],
        )
        assert sides["r01"] == sides["r07"] == sides["r10"]


def test_defects_and_compositions_stay_together(vacancy: Defect) -> None:
    given = [
        Ending(f"{name}{k}", name, 0, item.structure, item.energy)
        for name in ("v_Zn", "v_S", "Zn_S", "S_Zn")
        for k, item in enumerate(endings(vacancy, 3, 3))
    ]
    assert len(set(group_relaxations(given, "defect").values())) == 4
    assert len(set(group_relaxations(given, "composition").values())) == 1
    sides = split_groups(given, settings=SplitSettings(by="defect", valid=0.2, test=0.2), seed=1)
    for name in ("v_Zn", "v_S", "Zn_S", "S_Zn"):
        assert len({sides[f"{name}{k}"] for k in range(3)}) == 1
    with pytest.raises(DatasetError, match=r"split.by 'composition' finds 1 groups"):
        split_groups(given, settings=SplitSettings(by="composition"), seed=1)


def test_a_frame_random_split_keeps_the_fidelities_of_a_geometry_together(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    settings = SplitSettings(by="frame", valid=0.3, test=0.3)
    sides = []
    for seed in range(60):
        structure = make_start(0, seed).structure
        low = make_frame(-1.0, structure=structure)
        high = make_frame(-2.0, structure=structure, fidelity="high")
        sides.append(frame_side(low, settings=settings, seed=1))
        assert frame_side(high, settings=settings, seed=1) is sides[-1]
    assert {side: sides.count(side) >= 10 for side in Split} == dict.fromkeys(Split, True)
