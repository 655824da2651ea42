from __future__ import annotations

import io

import pytest
from rich.console import Console

from defect_mf_flows.report.terminal import print_summary
from defect_mf_flows.schemas.search import Verdict


def printed(results, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_summary(results, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_are_whole_and_lines_fit(results, width):
    text = printed(results, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for shown in (
        "stand-in engine",
        "-829.976",
        "-830.976",
        "+12.3",
        "0.049",
        "0.051",
        "0.086",
        "+425.6",
        "refuted",
        "(+1/0)",
        "0.400",
        "-0.158",
        "-558.0",
        "28.4",
        "0.92",
        "9168",
        "1402.5",
        "970 evaluations with gfn1",
        "1 confirmed, 1 lower, 1 wrong",
        "1 steps_exhausted",
        "budget",
        "max_rounds = 2",
        "uncorrected for the finite cell",
        "v_Zn -1 wrong: Unperturbed (low) lies 0.074 eV lower",
    ):
        assert shown in text, shown


@pytest.mark.parametrize("width", [80, 120])
def test_long_names_fold_and_numbers_do_not(make_results, width):
    text = printed(make_results(defects=("Zn_i_C3v_S2.34_and_more",)), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "-829.976" in text
    assert "+425.6" in text


def test_markup_in_user_text_is_printed_as_it_is(make_results, make_ground_state):
    ground = make_ground_state("[red]x", 0, Verdict.WRONG, reason="[bold]odd[/bold]")
    text = printed(make_results(ground_states=[ground], campaign="[blue]c"), 80)
    for shown in ("[red]x", "[bold]odd[/bold]", "[blue]c"):
        assert shown in text


def test_an_open_low_fidelity_ground_state_is_told(make_results, make_ground_state):
    unknown = make_ground_state("v_Zn", 0, Verdict.LOWER, low_unfinished=["Bond_Distortion_-20.0%"])
    shown = printed(make_results(ground_states=[unknown]), 80)
    text = " ".join(shown.split())
    assert "v_Zn 0 open: low-fidelity relaxations ran out of steps" in text
    assert "low-fidelity ground state refuted for 0 of 0" in text
    assert "\u2212" not in shown


def test_an_upper_bound_is_told(make_results, make_ground_state):
    ground = make_ground_state("v_Zn", 0, Verdict.WRONG, lower_by=0.487, lower_start="Dimer")
    shown = printed(make_results(ground_states=[ground]), 80)
    assert "v_Zn 0 upper bound: Dimer lies 0.487 eV lower" in " ".join(shown.split())
    assert "\u2212" not in shown


def test_missing_values_and_parts(make_results, make_ground_state):
    ground = make_ground_state(
        "v_Zn",
        0,
        Verdict.WRONG,
        energy_error=None,
        rmsd=float("nan"),
        low_start="",
        low_excess=None,
    )
    text = printed(
        make_results(
            ground_states=[ground],
            transition_levels=[],
            metrics=[],
            cost=[],
            failures=[],
            counts={},
        ),
        80,
    )
    assert "nan" not in text
    assert "No transition levels: a level needs two charge states" in text
    assert "No held-out frames" in text
    assert "Failures: none" in text


def test_levels_are_marked(results):
    text = printed(results, 80)
    assert "*#" in text
    assert "* outside the gap at high fidelity" in text
    assert "# not thermodynamic" in text
    assert "! perturbed host" not in text
    first, *others = results.transition_levels
    shallow = first.model_copy(update={"perturbed_host": [first.to_charge]})
    marked = results.model_copy(update={"transition_levels": [shallow, *others]})
    assert "! perturbed host" in printed(marked, 80)
    assert "~ an energy" not in text
    bound = first.model_copy(update={"unfinished": [first.to_charge]})
    marked = results.model_copy(update={"transition_levels": [bound, *others]})
    assert "~ an energy behind it is an upper bound" in printed(marked, 100)


def test_the_reason_names_charge_states_as_the_tables_do(results):
    text = " ".join(printed(results, 120).split())
    assert "v_Zn -1 still wrong after max_rounds = 2" in text
    assert "v_Zn|-1" not in text


def test_the_order_of_levels_is_told_where_a_committee_knows_it(uncertain, results):
    line = "v_Zn: (+1/0) below (0/-1) with 93 % (committee of 3)"
    assert line in printed(uncertain, 100)
    assert "committee" not in printed(results, 100)


def test_the_terminal_tells_threshold_and_ranking_of_the_search(uncertain):
    text = " ".join(printed(uncertain, 80).split())
    assert "33 % from the first, 100 % from the first 2" in text
    assert "6.5 steps from a minimum of the model" in text
    assert "chosen from the data for 1 of 2 charge states" in text
