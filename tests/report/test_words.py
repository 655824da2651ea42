from __future__ import annotations

from defect_mf_flows.report.words import stop_sentence, summary, upper_bound
from defect_mf_flows.schemas.loop import StopVerdict
from defect_mf_flows.schemas.search import Verdict


def said(results) -> str:
    return " ".join(summary(results))


def test_counts_follow_the_data(make_results, make_ground_state):
    wrong = make_results()
    assert "<strong>1 wrong</strong>" in said(wrong)
    flipped = make_results(
        ground_states=[
            make_ground_state(g.defect, g.charge, Verdict.CONFIRMED) for g in wrong.ground_states
        ]
    )
    assert "<strong>3 confirmed</strong>" in said(flipped)
    assert "wrong" not in said(flipped)
    assert "<strong>refuted" not in said(flipped)


def test_refuted_states_are_named_with_their_amount_the_worst_first(
    make_results, make_ground_state
):
    grounds = [
        make_ground_state("v_Zn", 0, Verdict.LOWER, low_excess=0.111),
        make_ground_state("v_Zn", -1, Verdict.LOWER, low_excess=0.333),
        make_ground_state("v_Zn", -2, Verdict.LOWER, low_excess=None),
    ]
    text = said(make_results(ground_states=grounds))
    assert "refuted for 3 of 3 charge states" in text
    assert text.index("0.333 eV above") < text.index("0.111 eV above")
    assert "has no high-fidelity energy" in text


def test_an_unfinished_low_fidelity_search_is_neither_upheld_nor_refuted(
    make_results, make_ground_state
):
    unknown = make_ground_state("v_Zn", 0, Verdict.LOWER, low_unfinished=["Bond_Distortion_20.0%"])
    alone = said(make_results(ground_states=[unknown]))
    assert "refuted" not in alone
    assert "upholds" not in alone
    assert "ran out of steps below the lowest that ended" in alone
    both = said(make_results(ground_states=[unknown, make_ground_state("v_Zn", -1, Verdict.LOWER)]))
    assert "refuted for 1 of 1 charge state<" in both
    assert "not known, nor are its levels; raise its steps" in both


def test_a_low_fidelity_ground_state_that_lies_lowest_is_not_called_refuted(
    make_results, make_ground_state
):
    ground = make_ground_state(
        "v_Zn",
        0,
        Verdict.WRONG,
        low_is_ground_state=False,
        low_excess=-0.487,
        lower_by=0.487,
        lower_start="Bond_Distortion_-60.0%",
    )
    text = said(make_results(ground_states=[ground]))
    assert "<strong>refuted" not in text
    assert "neither upheld nor refuted" in text
    assert ground.is_upper_bound
    assert "0.487 eV lower at high fidelity and has not been relaxed to an end" in upper_bound(
        ground
    )


def test_an_upper_bound_says_why(make_ground_state):
    stopped = make_ground_state("v_Zn", 0, Verdict.WRONG, residual_force=0.21)
    assert "ran out of steps at forces of 0.21" in upper_bound(stopped)
    both = stopped.model_copy(update={"lower_by": 0.1, "lower_start": "Dimer"})
    assert upper_bound(both).startswith("the high-fidelity relaxation ran out")
    assert "from there. Dimer lies 0.100 eV lower" in upper_bound(both)


def test_long_lists_refer_to_the_table(make_results, make_ground_state):
    grounds = [make_ground_state("v_Zn", q, Verdict.WRONG) for q in range(-5, 5)]
    assert "and 4 more (see the table)" in said(make_results(ground_states=grounds))


def test_levels_name_the_largest_miss(make_results):
    text = said(make_results())
    assert "12 meV at most" in text
    assert "558 meV at most" in text
    assert "uncorrected for the finite cell" in text


def test_held_out_errors_and_cost(make_results):
    text = said(make_results())
    assert "gfn2 28.4 meV/cell (0.92 meV/atom) and 33.7 meV/Å on 3 frames" in text
    assert "970 energy-and-force evaluations with gfn1" in text
    assert "1 failure was recorded" in text


def test_stop_sentence_writes_states_properly(make_results):
    text = stop_sentence(make_results())
    assert "budget, 2 rounds" in text
    assert "V<sub>Zn</sub><sup>−1</sup> still wrong" in text
    converged = stop_sentence(make_results(stop=StopVerdict.CONVERGED, stop_reason=""))
    assert "The loop converged" in converged
