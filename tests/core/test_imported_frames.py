"""Which imported frames train, on which side, and which would leak."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.imported_frames import ImportedFrames
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame

MakeStart = Callable[..., StartStructure]
MakeFrame = Callable[..., Frame]


def geometry(make_start: MakeStart, number: int) -> Structure:
    structure: Structure = make_start(0, number).structure
    return structure


def reordered(structure: Structure) -> Structure:
    """The same geometry as another program would write it."""
    sites = [structure[int(i)] for i in np.random.default_rng(1).permutation(len(structure))]
    return with_charge(Structure.from_sites(sites), structure.charge)


def test_what_the_campaign_does_not_know_trains(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    imported = ImportedFrames({"a": [make_frame(structure=geometry(make_start, 1))]})
    imported.compare(make_frame(structure=geometry(make_start, 2)), Split.TEST)
    [(uuid, _, side)], dropped = imported.sided()
    assert (uuid, side, dropped) == ("a", Split.TRAIN, [])


def test_a_copy_of_a_held_out_relaxation_is_held_out_with_it(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    shared, further = geometry(make_start, 1), geometry(make_start, 2)
    frames = [make_frame(fidelity="gfn2", structure=reordered(s)) for s in (shared, further)]
    imported = ImportedFrames({"a": frames})
    imported.compare(make_frame(structure=shared), Split.VALID)
    kept, dropped = imported.sided()
    assert [side for *_, side in kept] == [Split.VALID, Split.VALID]
    assert dropped == []


def test_copies_among_imports_stay_together(make_start: MakeStart, make_frame: MakeFrame) -> None:
    held, one, two = (geometry(make_start, k) for k in (1, 2, 3))
    imported = ImportedFrames(
        {
            "a": [make_frame(fidelity="gfn2", structure=s) for s in (held, one)],
            "b": [make_frame(fidelity="gfn2", structure=s) for s in (one, two)],
        }
    )
    imported.compare(make_frame(structure=held), Split.TEST)
    kept, _ = imported.sided()
    assert {(uuid, side) for uuid, _, side in kept} == {("a", Split.TEST), ("b", Split.TEST)}


def test_a_frame_that_would_leak_is_left_out_and_named(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    held, trained = geometry(make_start, 1), geometry(make_start, 2)
    imported = ImportedFrames(
        {
            "a": [
                make_frame(fidelity="gfn2", structure=s, step=k)
                for k, s in enumerate((held, trained))
            ]
        }
    )
    imported.compare(make_frame(structure=held), Split.TEST)
    imported.compare(make_frame(structure=trained), Split.TRAIN)
    [(_, frame, side)], [failure] = imported.sided()
    assert (frame.lineage.step, side) == (1, Split.TRAIN)
    assert "step 0: copies a geometry on another side" in failure.message
    assert failure.fidelity == "gfn2"


def test_a_label_that_the_campaign_has_counts_once(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    known, new = geometry(make_start, 1), geometry(make_start, 2)
    imported = ImportedFrames(
        {"a": [make_frame(structure=reordered(known), step=0), make_frame(structure=new, step=1)]}
    )
    imported.compare(make_frame(structure=known), Split.TRAIN)
    kept, dropped = imported.sided()
    assert [frame.lineage.step for _, frame, _ in kept] == [1]
    assert dropped == [], "nothing failed"


def test_the_same_geometry_with_another_charge_is_no_copy(
    make_start: MakeStart, make_frame: MakeFrame
) -> None:
    structure = geometry(make_start, 1)
    charged = make_frame(charge=-1, structure=with_charge(structure, -1))
    imported = ImportedFrames({"a": [charged]})
    imported.compare(make_frame(structure=structure), Split.TEST)
    [(_, frame, side)], dropped = imported.sided()
    assert (frame.charge, side, dropped) == (-1, Split.TRAIN, [])
