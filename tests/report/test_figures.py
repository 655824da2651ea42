from __future__ import annotations

import numpy as np
import pytest

from defect_mf_flows.report.figures import (
    calls_figure,
    levels_figure,
    low_excess_figure,
    shortest_bond_figure,
)
from defect_mf_flows.report.figures_model import learning_figure, parity_figure, thinned
from defect_mf_flows.report.figures_search import (
    bonds,
    element_colours,
    make_view,
    structure_figure,
)
from defect_mf_flows.report.theme import VERMILION, log_ticks
from defect_mf_flows.schemas.model import EpochRecord
from defect_mf_flows.schemas.search import Verdict


def named(figure, name):
    return next(t for t in figure.data if t.name == name)


def test_excess_bars_tell_upheld_from_refuted(results, make_results, make_ground_state):
    bars = low_excess_figure(results).data[0]
    assert list(bars.x) == [0.0, 0.4256, 0.0]
    assert [t.split(", ")[1] for t in bars.text] == ["upheld", "refuted", "upheld"]
    unknown = make_ground_state("v_Zn", 0, Verdict.LOWER, low_unfinished=["Dimer"])
    (text,) = low_excess_figure(make_results(ground_states=[unknown])).data[0].text
    assert text.endswith(", open")
    lowest = make_ground_state(
        "v_Zn", 0, Verdict.WRONG, low_is_ground_state=False, low_excess=-0.487, lower_by=0.487
    )
    figure = low_excess_figure(make_results(ground_states=[lowest]))
    assert figure.data[0].text == ("\u22120.487 eV, open",)
    assert figure.layout.xaxis.range[0] < -0.8, "room for the number beside the bar"
    failed = make_ground_state("v_Zn", 0, Verdict.WRONG, low_excess=None)
    assert low_excess_figure(make_results(ground_states=[failed])).data[0].text == (
        "no high-fidelity energy",
    )


def test_shortest_bonds_of_both_ground_states(results):
    figure = shortest_bond_figure(results)
    assert named(figure, "low-fidelity ground state").x[1] == 3.825
    assert named(figure, "verified ground state").x[1] == pytest.approx(2.14, abs=0.01)


def test_levels_outside_the_gap_are_visible_and_open(results):
    figure = levels_figure(results)
    trace = named(figure, "high fidelity")
    assert list(trace.x) == pytest.approx([0.4, 1.11])
    assert list(trace.marker.symbol) == ["square", "square-open"]
    low, high = figure.layout.xaxis.range
    values = [x for t in figure.data for x in t.x]
    assert low < min(values)
    assert high > max(values)
    assert "outside the gap" in trace.customdata[1]
    assert "+12 meV" in [a.text for a in figure.layout.annotations]


def test_levels_without_band_edges_or_values(make_results):
    level = (
        make_results()
        .transition_levels[0]
        .model_copy(update={"hf": None, "model": float("nan"), "low": 0.3})
    )
    figure = levels_figure(make_results(transition_levels=[level], band_edges=None))
    assert not figure.layout.shapes
    assert list(named(figure, "low fidelity alone").x) == [0.3]
    assert "–" in [a.text for a in figure.layout.annotations]


def test_calls_keep_reference_and_model_apart(results):
    figure = calls_figure(results)
    assert list(named(figure, "model").x) == [0.0, 9168.0]
    assert list(named(figure, "gfn2").x) == [1.0, 80.0, 57.0]


def test_parity_title_has_the_held_out_errors_per_cell_atom_and_angstrom(results):
    figure = parity_figure(results, "gfn2")
    title = figure.layout.title.text
    for shown in ("3 frames", "28.4 meV/cell", "0.92 meV/atom", "33.7 meV/Å"):
        assert shown in title
    names = {t.name for t in figure.data if t.name}
    assert "q = −1, test" in names
    points = [p for p in results.parity if p.head == "gfn2"]
    drawn = [t for t in figure.data if t.name and t.showlegend]
    assert sum(len(t.x) for t in drawn) == len(points)


def test_parity_without_held_out_frames(make_results):
    results = make_results(metrics=[])
    assert "no held-out frames" in parity_figure(results, "gfn1").layout.title.text


def test_thinning_keeps_held_out_points(make_results):
    points = [p for p in make_results(frames=400).parity if p.head == "gfn1"]
    kept = thinned(points, 500)
    assert len(kept) == 500
    assert sum(p.split == "test" for p in kept) == sum(p.split == "test" for p in points)
    assert thinned(points[:5], 10) == points[:5]


def test_learning_curve_leaves_gaps_for_nan_and_zero(make_results):
    history = [
        EpochRecord(epoch=e, train_loss=1.0, valid={"gfn2": {"energy_rmse": v}}, learning_rate=0.01)
        for e, v in enumerate([10.0, float("nan"), 0.0, 5.0])
    ]
    figure = learning_figure(make_results(history=history, metrics=[], parity=[]), "energy_rmse")
    assert list(figure.data[0].y) == [10.0, None, None, 5.0]
    assert figure.layout.yaxis.type == "log"


def test_log_ticks_are_written_in_full():
    assert "20" in log_ticks([8.0, 150.0])["ticktext"]
    assert log_ticks([]) == {"type": "log"}


def test_view_is_centred_on_the_shortest_contact(make_ground_state):
    ground = make_ground_state("v_Zn", 0, Verdict.LOWER)
    view = make_view(ground)
    assert view.contact is not None
    i, j = view.contact
    distance = np.linalg.norm(view.positions[i] - view.positions[j])
    assert distance == pytest.approx(ground.shortest_bonds["verified"], abs=1e-3)
    middle = (view.positions[i] + view.positions[j]) / 2
    assert middle == pytest.approx(view.lattice.sum(axis=0) / 2, abs=1e-6)
    assert (min(i, j), max(i, j)) in bonds(view)


def test_view_without_recorded_contact(make_results, make_ground_state):
    ground = make_ground_state("v_Zn", 0, Verdict.LOWER, shortest_bonds={})
    assert make_view(ground).contact is None
    colours = element_colours(make_results(ground_states=[ground]))
    assert set(colours) == {"S", "Zn"}
    assert VERMILION not in colours.values()
    figure = structure_figure(ground, colours)
    assert {t.name for t in figure.data if t.name} == {"S", "Zn"}
    assert sum(len(t.x) for t in figure.data if t.name) == len(ground.structure)
