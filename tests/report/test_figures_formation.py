from defect_mf_flows.report.figures_formation import formation_figure
from defect_mf_flows.report.html import render_report
from defect_mf_flows.schemas.calculation import BandEdges
from defect_mf_flows.schemas.results import FormationEnergies, SkippedCharge

EDGES = BandEdges(vbm=-9.8, cbm=-7.0)
FORMATION = [
    FormationEnergies(defect="v_S", source="hf", charges=[2, 1, 0], energies=[-3.0, -1.0, 0.0]),
    FormationEnergies(defect="v_S", source="model", charges=[2, 1, 0], energies=[-2.9, -1.1, 0]),
    FormationEnergies(defect="v_S", source="low", charges=[2, 1, 0], energies=[-1.5, -1.2, 0.0]),
]


def full_lines(figure, axis):
    """Slope of every full line of a panel: its charge."""
    return [
        round((t.y[1] - t.y[0]) / (t.x[1] - t.x[0]))
        for t in figure.data
        if t.xaxis == axis and t.mode == "lines" and t.line.width == 3 and t.x[0] is not None
    ]


def test_each_source_has_a_panel_with_its_own_stable_charges(make_results):
    figure = formation_figure(make_results(formation=FORMATION, band_edges=EDGES), "v_S")
    assert full_lines(figure, "x") == [2, 0]
    assert full_lines(figure, "x2") == [2, 0]
    assert full_lines(figure, "x3") == [2, 1, 0]
    marks = next(t for t in figure.data if t.xaxis == "x" and t.mode == "markers")
    assert list(marks.text) == ["(+2/0)"]
    assert list(marks.x) == [1.5]


def test_a_source_that_failed_leaves_its_panel_out(make_results):
    figure = formation_figure(make_results(formation=FORMATION[:1], band_edges=None), "v_S")
    assert {t.xaxis for t in figure.data} == {"x"}


def test_the_page_says_where_levels_are_inverted(make_results):
    skipped = [SkippedCharge(defect="v_S", charge=1, source="hf", upper=2.0, lower=1.0)]
    page = render_report(make_results(formation=FORMATION, skipped=skipped, band_edges=EDGES))
    assert (
        "charge +1 is nowhere stable (negative U, -1.000 eV): (+1/0) at 1.000 eV lies below (+2/+1)"
        in page
    )
    assert "charge +1 is nowhere" not in render_report(make_results(formation=FORMATION))
