import re

import pytest

from defect_mf_flows.report.figures_bonds import (
    bond_figure,
    bond_plots,
    bond_table,
    grouped,
    largest_difference,
)
from defect_mf_flows.report.html import render_report


def named(figure, name):
    return next(t for t in figure.data if t.name == name)


def test_every_pair_of_neighbours_is_a_mark(detailed):
    figure = bond_figure(detailed.ground_states, "between")
    verified = named(figure, "verified")
    assert len(verified.x) == 3 * 6
    contact = detailed.ground_states[0].shortest_bonds["verified"]
    assert min(verified.x) == pytest.approx(contact)
    # No model ended in a ground state for the first charge.
    assert len(named(figure, "model").x) == 2 * 6
    assert {round(x, 3) for x in named(figure, "low fidelity alone").x} == {3.825}
    assert [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1] == [
        pytest.approx(3.825, abs=1e-3)
    ]


def test_distances_to_the_empty_site(detailed):
    figure = bond_figure(detailed.ground_states, "to_centre")
    low = named(figure, "low fidelity alone")
    assert list(low.x) == pytest.approx([2.3426] * 12, abs=1e-3)
    assert all(text.endswith("–site") for text in low.text)
    titles = [str(plot.title) for plot in bond_plots(detailed)]
    assert titles == [
        "V<sub>Zn</sub>: between the neighbours",
        "V<sub>Zn</sub>: from the neighbours to the empty site",
    ]


def test_table_groups_equal_lengths_and_names_the_contact(detailed):
    rows = bond_table(detailed).rows
    assert len(rows) == 3
    assert re.search(r"2\.1\d Å <small>S\d+–S\d+", rows[0][1])
    # Of six pairs, one contracts, four change alike and one stays.
    assert re.fullmatch(r"2\.14, 3\.\d+ \(×4\), 3\.\d+", rows[0][2])
    assert rows[0][4] == "–"
    assert 0 < float(rows[1][4]) < 0.02 < float(rows[1][5])
    assert largest_difference(detailed.ground_states[1], "low") == pytest.approx(1.683, abs=0.01)


def test_groups_do_not_creep():
    assert grouped([2.0, 2.02, 2.01, 2.03]) == [[2.0, 2.01], [2.02, 2.03]]
    assert grouped([]) == []


def test_documents_without_distances_show_the_shortest_contact(results, detailed):
    assert bond_plots(results) == []
    assert bond_table(results).rows == []
    old, new = render_report(results), render_report(detailed)
    assert 'data-spec="bonds"' in old
    assert "Distances at the defect" not in old
    assert 'data-spec="bonds"' not in new
    assert "Distances at the defect" in new
