from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import FrameSettings
from defect_mf_flows.core.filters import (
    closest_approach,
    extrapolation,
    filter_frames,
    implausible,
    shortest_distances,
)
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.frame import Frame

MakeFrame = Callable[..., Frame]


@pytest.fixture
def host(defect_set: DefectSet) -> Structure:
    return defect_set.host.supercell


def pushed_together(vacancy: Defect) -> Structure:
    """Two atoms 0.8 A apart."""
    structure = vacancy.supercell.copy()
    sites = structure.cart_coords
    direction = (sites[1] - sites[0]) / np.linalg.norm(sites[1] - sites[0])
    structure.translate_sites([1], sites[0] + 0.8 * direction - sites[1], frac_coords=False)
    return structure


def test_every_reason_is_counted_once_and_the_good_frames_stay_in_order(
    make_frame: MakeFrame, vacancy: Defect, host: Structure
) -> None:
    strained = vacancy.supercell.copy()
    strained.apply_strain(0.01)
    force = np.zeros((7, 3))
    force[3] = [0, 60, 60]  # 85 eV/A: above the limit as a vector, not per component
    frames = [
        make_frame(-10.0, step=0),
        make_frame(-10.0, step=1),
        make_frame(-9.0, structure=strained, step=2),
        make_frame(+5.1, step=3),
        make_frame(-8.0, structure=pushed_together(vacancy), step=4),
        make_frame(-7.0, forces=force, step=5),
        make_frame(-6.0, step=6),
    ]
    kept, dropped = filter_frames(frames, settings=FrameSettings(), lattice_of=host)
    assert [frame.lineage.step for frame in kept] == [0, 6]
    assert [failure.reason for failure in dropped] == [
        FailureReason.DUPLICATE,
        FailureReason.EXPLODED,
        FailureReason.UNPHYSICAL_ENERGY,
        FailureReason.ATOMS_TOO_CLOSE,
        FailureReason.EXPLODED,
    ]
    assert [failure.message.split(":")[0] for failure in dropped] == [
        f"step {n}" for n in (1, 2, 3, 4, 5)
    ]
    assert {(f.fidelity, f.defect, f.charge, f.start) for f in dropped} == {("low", "v_Zn", 0, "s")}


def test_a_frame_with_two_problems_is_counted_once(
    make_frame: MakeFrame, vacancy: Defect, host: Structure
) -> None:
    bad = make_frame(900.0, structure=pushed_together(vacancy), forces=np.full((7, 3), 1e4))
    kept, dropped = filter_frames([make_frame(), bad], settings=FrameSettings(), lattice_of=host)
    assert len(kept) == len(dropped) == 1


def test_energies_of_different_charges_are_not_compared(
    make_frame: MakeFrame, host: Structure
) -> None:
    """Absolute energies of two charges have no common zero: GFN1 puts 10 eV between them."""
    frames = [make_frame(-400.0, -1), make_frame(-10.0, 0), make_frame(-9.0, 0)]
    kept, dropped = filter_frames(frames, settings=FrameSettings(), lattice_of=host)
    assert kept == frames
    assert dropped == []


def test_a_lower_energy_known_from_elsewhere_lowers_the_ceiling(
    make_frame: MakeFrame, host: Structure
) -> None:
    frames = [make_frame(-10.0), make_frame(-5.0)]
    kept, dropped = filter_frames(frames, settings=FrameSettings(), lattice_of=host, floor=-22.0)
    assert kept == frames[:1]
    assert [failure.reason for failure in dropped] == [FailureReason.UNPHYSICAL_ENERGY]


def test_nothing_goes_in_and_nothing_comes_out(host: Structure) -> None:
    assert filter_frames([], settings=FrameSettings(), lattice_of=host) == ([], [])


def test_closest_approach_is_a_bond_over_the_covalent_radii_across_cell_borders() -> None:
    """Zn-S with covalent radii 1.22 + 1.05 A, once inside the cell and once through its wall."""
    for fractions in ([0.3, 0.4], [0.95, 0.05]):
        pair = Structure(
            np.eye(3) * 20.0, ["Zn", "S"], [[fractions[0], 0.5, 0.5], [fractions[1], 0.5, 0.5]]
        )
        assert closest_approach(pair) == pytest.approx(2.0 / (1.22 + 1.05))


def test_shortest_distances_are_per_pair_of_elements(host: Structure) -> None:
    shortest = shortest_distances(host)
    side = host.lattice.a
    assert shortest["S-Zn"] == pytest.approx(side * 3**0.5 / 4)
    assert shortest["S-S"] == pytest.approx(side / 2**0.5)
    assert shortest["Zn-Zn"] == pytest.approx(side / 2**0.5)


def test_a_contact_that_no_training_frame_has_is_extrapolation(
    vacancy: Defect, host: Structure
) -> None:
    known = shortest_distances(host)
    assert extrapolation(host, known, tolerance=0.05) is None
    crowded = pushed_together(vacancy)
    pair, distance = min(shortest_distances(crowded).items(), key=lambda item: item[1])
    assert distance < 0.81
    assert f"{pair} at {distance:.2f} A" in str(extrapolation(crowded, known, tolerance=0.05))


def test_a_little_closer_than_training_is_still_within_the_domain(host: Structure) -> None:
    known = {pair: distance / 0.97 for pair, distance in shortest_distances(host).items()}
    assert extrapolation(host, known, tolerance=0.05) is None
    assert extrapolation(host, known, tolerance=0.01) is not None


def test_an_energy_far_below_every_label_is_a_hole_of_the_model() -> None:
    assert implausible(-10.5, -10.0, max_gain=1.0) is None
    assert "2.00 eV below every label" in str(implausible(-12.0, -10.0, max_gain=1.0))
    assert implausible(-12.0, None, max_gain=1.0) is None
