import pytest

from defect_mf_flows.report.figures_pes import FAR, distortion, pes_figure, pes_plots, places


def ends(figure):
    """Traces with end points."""
    return [t for t in figure.data if t.text]


def test_distortions_are_known_by_their_size():
    assert distortion("Bond_Distortion_-30.0%") == (-30.0, False)
    assert distortion("Pair_S19-S27_-40.0%") == (-40.0, True)
    assert distortion("Rattle_0.15") is None


def test_other_starts_stand_right_of_the_distortions():
    starts = [
        "Bond_Distortion_-60.0%", "Bond_Distortion_40.0%", "Pair_S1-S2_-40.0%", "Unperturbed",
        "Dimer_S1-S2", "Rattle_0.05", "Rattle_0.15", "Split_Zn3", "Exchange_S1", "Given_0",
        "Low_+0_1", "Unfinished_+0_Dimer", "Verified_+0_1", "Mine",
    ]  # fmt: skip
    where, ticks = places(starts)
    assert set(where) == set(starts)
    assert where["Pair_S1-S2_-40.0%"].x == -40
    labels = [text for _, text in ticks]
    assert labels == [
        "−60 %", "−40 %", "+40 %", "unperturbed", "dimer", "rattled", "split", "exchanged",
        "given", "from LF", "LF, unfinished", "from verified", "other",
    ]  # fmt: skip
    at = [x for x, _ in ticks]
    assert at == sorted(at)
    assert where["Unperturbed"].x > 40
    assert where["Rattle_0.05"].x < at[labels.index("rattled")] < where["Rattle_0.15"].x
    spots = [p.x for s, p in where.items() if p.shape == "other"]
    assert len(set(spots)) == len(spots)


def test_few_ticks_and_zero_among_them():
    _, ticks = places([f"Bond_Distortion_{x}.0%" for x in range(-60, 61, 10)])
    assert "0 %" in [text for _, text in ticks]
    assert len(ticks) <= 8


def test_starts_without_any_distortion_have_a_place():
    where, ticks = places(["Unperturbed"])
    assert [text for _, text in ticks] == ["unperturbed"]
    assert where["Unperturbed"].shape == "other"


def test_end_points_are_coloured_by_rmsd(results):
    figure = pes_figure(results, "v_Zn", 0, "model")
    points = [p for p in results.pes if (p.charge, p.source) == (0, "model")]
    assert sorted(c for t in ends(figure) for c in t.marker.color) == sorted(p.rmsd for p in points)
    assert sorted(y for t in ends(figure) for y in t.y) == sorted(p.energy for p in points)
    assert figure.layout.coloraxis.cmax == FAR
    (line,) = [t for t in figure.data if t.mode == "lines"]
    assert list(line.x) == [-30, 0]


def test_both_searches_share_their_axes(results):
    low, model = (pes_figure(results, "v_Zn", -1, source) for source in ("low", "model"))
    assert low.layout.xaxis == model.layout.xaxis
    assert low.layout.yaxis == model.layout.yaxis
    top = max(p.energy for p in results.pes if p.charge == -1)
    assert low.layout.yaxis.range[1] > top


def test_panels_of_a_charge_stand_side_by_side(results):
    names = [plot.name for plot in pes_plots(results)]
    assert names[:2] == ["pes-0-low", "pes-0-model"]
    assert len(names) == 6


def test_a_search_without_end_points_has_no_panel(make_results):
    points = [p for p in make_results().pes if p.source == "model"]
    lost = points[0].model_copy(update={"energy": float("nan")})
    results = make_results(pes=[lost, *points[1:]])
    assert [plot.name for plot in pes_plots(results)] == [f"pes-{n}-model" for n in range(3)]
    shown = [y for t in ends(pes_figure(results, "v_Zn", 1, "model")) for y in t.y]
    assert len(shown) == len([p for p in points if p.charge == 1]) - 1


def test_equal_energies_have_an_axis(make_results):
    points = [p.model_copy(update={"energy": 0.0}) for p in make_results().pes]
    low, high = pes_figure(make_results(pes=points), "v_Zn", 0, "low").layout.yaxis.range
    assert low < 0 < high
    assert high == pytest.approx(0.108)
