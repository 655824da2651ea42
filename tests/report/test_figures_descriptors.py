from defect_mf_flows.report.figures_descriptors import (
    descriptor_caption,
    descriptor_figure,
    descriptor_plots,
)
from defect_mf_flows.report.html import render_report


def test_a_map_with_and_one_without_the_charge(detailed):
    plots = descriptor_plots(detailed)
    assert [str(plot.title) for plot in plots] == [
        "V<sub>Zn</sub>, told the charge",
        "V<sub>Zn</sub>, every frame told charge 0",
    ]
    assert descriptor_plots(detailed.model_copy(update={"descriptors": []})) == []


def test_every_frame_is_a_point_in_the_colour_of_its_charge(detailed):
    (item,) = detailed.descriptors
    figure = descriptor_figure(item, item.with_charge)
    drawn = {}
    for trace in figure.data:
        drawn.setdefault(trace.name, []).extend(zip(trace.x, trace.y, strict=True))
    for charge, name in ((1, "q = +1"), (0, "q = 0"), (-1, "q = −1")):
        wanted = [
            p for p, q in zip(item.with_charge.points, item.charges, strict=True) if q == charge
        ]
        assert sorted(drawn[name]) == sorted(wanted)
    assert len({t.marker.color for t in figure.data}) == 3
    assert sum(bool(t.showlegend) for t in figure.data) == 3
    held_out = [t for t in figure.data if t.marker.symbol == "diamond"]
    assert sum(len(t.x) for t in held_out) == item.splits.count("test")


def test_axes_and_note_tell_variance_and_separation(detailed):
    (item,) = detailed.descriptors
    figure = descriptor_figure(item, item.with_charge)
    share = f"{100 * item.with_charge.explained[0]:.0f} % of the variance"
    assert share in figure.layout.xaxis.title.text
    (note,) = figure.layout.annotations
    assert note.text == f"separation of the charges {item.with_charge.separation:.2f}"
    alone = item.with_charge.model_copy(update={"separation": None})
    assert not descriptor_figure(item, alone).layout.annotations


def test_caption_counts_what_is_left_out(detailed):
    assert "Drawn are 30 of 44 frames." in descriptor_caption(detailed)


def test_the_page_has_the_maps(detailed, results):
    heading = "What the network sees in the defect"
    assert heading in render_report(detailed)
    assert heading not in render_report(results)
