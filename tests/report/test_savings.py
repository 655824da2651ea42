import math

import pytest

from defect_mf_flows.report.savings import saving_caption, saving_figure, saving_table, savings
from defect_mf_flows.schemas.results import StageCost


def costs(**changes):
    """10 starts of 20 steps each; a high-fidelity evaluation takes 10 s."""
    values = {
        "low": (10, 200, 100.0), "labels": (30, 30, 300.0), "training": (1, 0, 500.0),
        "search": (40, 4000, 60.0), "verification": (2, 10, 100.0), **changes,
    }  # fmt: skip
    stages = {
        "low": ("low fidelity", "gfn1"), "labels": ("high fidelity", "gfn2"),
        "training": ("training", None), "search": ("search", None),
        "verification": ("verification", "gfn2"),
    }  # fmt: skip
    return [
        StageCost(stage=stages[k][0], fidelity=stages[k][1], jobs=j, calls=c, seconds=s)
        for k, (j, c, s) in values.items()
    ]


def test_time_saved_in_total_and_at_the_margin(make_results):
    found = savings(make_results(cost=costs()), "s")
    assert found.without == pytest.approx(10 * 20 * 10)
    assert found.fixed == pytest.approx(100 + 300 + 500)
    assert found.marginal == pytest.approx(60 + 100)
    assert found.total_saving == pytest.approx(1 - 1060 / 2000)
    assert found.marginal_saving == pytest.approx(1 - 160 / 2000)
    # Costs are equal where fixed + marginal n = without n.
    n = found.break_even
    assert found.fixed + found.marginal * n == pytest.approx(found.without * n)


def test_evaluations_of_the_high_fidelity_alone(make_results):
    found = savings(make_results(cost=costs()), "calls")
    assert (found.without, found.fixed, found.marginal) == (200, 30, 10)
    assert found.break_even == pytest.approx(30 / 190)
    assert "evaluations it counts those at high fidelity alone" in saving_caption(
        make_results(cost=costs())
    )


def test_break_even_counts_defects_not_charge_states(make_results):
    one = savings(make_results(cost=costs()), "s")
    two = savings(make_results(cost=costs(), defects=("v_Zn", "v_S")), "s")
    assert two.break_even == pytest.approx(2 * one.break_even)


def test_a_campaign_that_cost_more_says_so(make_results):
    results = make_results(cost=costs(verification=(300, 3000, 30000.0)))
    found = savings(results, "s")
    assert found.total_saving < 0
    assert math.isinf(found.break_even)
    row = saving_table(results).rows[1]
    assert "never" in row
    assert any("times as much" in cell for cell in row)
    assert not any(
        "break-even" in (a.text or "") for a in saving_figure(results, found).layout.annotations
    )


def test_total_and_marginal_saving_stand_in_one_row(make_results):
    table = saving_table(make_results(cost=costs()))
    titles = [str(h) for h in table.headers]
    assert titles.index("#Marginal saving") == titles.index("#Total saving") + 1
    assert table.rows[1][5:8] == ["47 %", "92 %", "0.5"]
    assert table.rows[0][1:3] == ["200", "40"]


def test_the_lines_cross_at_the_break_even(make_results):
    results = make_results(cost=costs())
    found = savings(results, "s")
    figure = saving_figure(results, found)
    without, with_model, here = figure.data
    slope = (with_model.y[1] - with_model.y[0]) / with_model.x[1]
    assert with_model.y[0] + slope * found.break_even == pytest.approx(
        without.y[1] / without.x[1] * found.break_even
    )
    assert (here.x[0], here.y[0]) == (1, pytest.approx(found.total))


def test_without_reference_calls_there_is_nothing_to_compare(make_results):
    assert savings(make_results(cost=[]), "s") is None
    imported = costs(labels=(0, 0, 0.0), verification=(0, 0, 0.0))
    assert savings(make_results(cost=imported), "s") is None
    assert saving_table(make_results(cost=[])).rows == []
