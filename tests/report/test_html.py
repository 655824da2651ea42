from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from defect_mf_flows.report import html as report_html
from defect_mf_flows.report import page as report_page
from defect_mf_flows.report.csv_tables import level_rows
from defect_mf_flows.report.html import render_report, write_report
from defect_mf_flows.report.page import disclaimer_tag, script_json
from defect_mf_flows.schemas.results import FoundMinimum
from defect_mf_flows.schemas.search import Verdict

NAN = float("nan")


@pytest.fixture(scope="module")
def page(results):
    return render_report(results)


def own(page: str) -> str:
    """The page without plotly's own code."""
    return page.replace(get_plotlyjs(), "")


def text(page: str) -> str:
    """What a reader sees outside figures."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", "", own(page), flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", "", bare).replace("&nbsp;", " ").split())


def specs(page: str) -> dict[str, dict]:
    found = re.findall(
        r'<script type="application/json" id="spec-([\w-]+)">(.*?)</script>', page, flags=re.S
    )
    return {name: json.loads(spec) for name, spec in found}


def test_disclaimer_stands_on_top_and_beside_every_figure_and_table(page, results):
    assert f'id="disclaimer" role="note">⚠ {results.disclaimer}' in page
    own_page = own(page)
    for block in re.findall(r"<figure>.*?</figure>", own_page, flags=re.S):
        assert results.disclaimer in block
    for heading in ("ground-states", "levels", "model", "rounds", "cost"):
        section = re.search(rf'<section id="{heading}">(.*?)</section>', own_page, flags=re.S)
        assert section is not None
        assert results.disclaimer in section[1]


def test_no_disclaimer_no_banner(make_results):
    own_page = own(render_report(make_results(disclaimer=None)))
    assert 'id="disclaimer"' not in own_page
    assert 'class="tag"' not in own_page


def test_page_loads_nothing(page):
    own_page = own(page)
    assert page.count(get_plotlyjs()) == 1
    assert not re.search(r"""(src|href|action)\s*=\s*["']?\s*(https?:)?//""", own_page)
    assert "@import" not in own_page
    assert not re.search(r"url\(\s*['\"]?http", own_page)
    assert "default-src 'none'" in own_page
    assert "showSendToCloud: false" in own_page


def test_every_ground_state_with_its_numbers(page):
    section = re.search(r'<section id="ground-states">(.*?)</section>', own(page), flags=re.S)
    assert section is not None
    for charge, energy in (("+1", "−829.976"), ("0", "−830.976"), ("−1", "−831.976")):
        assert f"V<sub>Zn</sub><sup>{charge}</sup>" in section[1]
        assert energy in section[1]
    for shown in ("+12.3", "0.049", "0.051", "0.086", "425.6", "Unperturbed (low) lies 0.074 eV"):
        assert shown in section[1]
    assert [section[1].count(f'class="badge {v.value}"') for v in Verdict] == [1, 1, 1]


def test_every_level_with_its_numbers_and_marks(page):
    section = re.search(r'<section id="levels">(.*?)</section>', own(page), flags=re.S)
    assert section is not None
    for shown in ("ε(+1/0)", "ε(0/−1)", "0.400", "0.412", "+12.0", "−558.0"):
        assert shown in section[1]
    assert 'title="outside the gap">1.110' in section[1]
    assert "none (uncorrected for the finite cell)" in section[1]


def test_figures_are_valid_json_and_have_a_place(page):
    found = specs(page)
    assert {"excess", "bonds", "level-lines", "calls", "seconds", "parity-0"} | {
        "pes-0-low",
        "pes-0-model",
    } <= set(found)
    for name, spec in found.items():
        assert spec["data"], name
        assert name.startswith("structure-") or f'data-spec="{name}"' in page
    assert sum(n.startswith("structure-") for n in found) == 3


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}"[^>]*>(.*?)</section>', own(page), flags=re.S)
    assert found is not None
    return text(found[1])


def test_what_became_of_each_minimum_and_whether_it_may_be_the_lowest(uncertain):
    shown = section(render_report(uncertain), "search")
    for words in (
        "stayed", "migrated by 3.8 Å", "became S_Zn + v_S", "fell apart: S_i + v_S + v_Zn, 6.2 Å",
        "2 ≈ 30.0 50.0 28 % 41.2", "3 60.0 50.0 2 % –",
    ):  # fmt: skip
        assert words in shown
    assert "candidates for verification" in shown


def test_the_search_tells_its_threshold_and_how_its_ranking_held(uncertain, results):
    shown = section(render_report(uncertain), "search")
    for words in (
        "33 % from the first, 100 % from the first 2 (3 charge states)",
        "6.5 steps from a minimum of the model to its own (median of 4)",
        "a SOAP distance of 2.0e-04 to 3.0e-04, chosen from the data for 1 of 2 charge states",
        "2.0e-04 the data 1.0e-05 4.0e-03 12",
        "3.0e-04 the setting – – 0",
    ):
        assert words in shown, words
    older = section(render_report(results), "search")
    assert "SOAP distance" not in older
    assert "from the first" not in older


def test_what_verification_tried_is_told_with_the_answers(uncertain, results):
    shown = section(render_report(uncertain), "search")
    assert (
        "VZn0 1 minimum 1 of the low fidelity Unperturbed 310 – 420 0 8 the ground state" in shown
    )
    assert "2 minimum 2 of the model" in shown
    assert "20 −456 – – 0 not relaxed: the model is −0.456 eV off the low fidelity" in shown
    assert "What verification tried" not in section(render_report(results), "search")


def test_without_a_committee_there_are_no_columns_of_it(uncertain):
    bare = [
        m.model_copy(update={"spread": None, "share": None, "contender": False})
        for m in uncertain.ranked_minima
    ]
    shown = section(
        render_report(uncertain.model_copy(update={"ranked_minima": bare, "uncertainty": []})),
        "search",
    )
    assert "migrated by 3.8 Å" in shown
    assert "Chance to be the lowest" not in shown
    assert "≈" not in shown


def test_levels_carry_their_uncertainty_and_order(uncertain, results):
    shown = section(render_report(uncertain), "levels")
    for words in ("0.413 23.4 0.362 … 0.462 93 %", "(+1/0) below (0/−1) 93 %", "times 1.50"):
        assert words in shown
    summary = section(render_report(uncertain), "summary")
    assert "(+1/0) below (0/−1) with 93 %; 1 minimum lies within the spread" in summary
    alone = section(render_report(results), "levels")
    assert "training.committee trains several" in alone


def test_the_loop_says_what_it_asked_for(uncertain, results):
    shown = section(render_report(uncertain), "rounds")
    assert "VZn0 1 between two minima between0and1at0.5 210.0 80.0" in shown
    assert "What the loop asked for" not in section(render_report(results), "rounds")


def test_ranks_beyond_the_table_are_counted(uncertain):
    many = [uncertain.ranked_minima[2].model_copy(update={"rank": rank}) for rank in range(2, 40)]
    shown = section(render_report(uncertain.model_copy(update={"ranked_minima": many})), "search")
    assert "32 higher ones are in results.json" in shown


def test_user_text_is_escaped(make_results, make_ground_state):
    evil = "<script>alert(1)</script>"
    ground = make_ground_state("x<b>", 0, Verdict.WRONG, reason=evil, start=evil, low_start=evil)
    page = own(
        render_report(
            make_results(
                campaign=evil,
                disclaimer=evil,
                stop_reason=evil,
                correction=evil,
                ground_states=[ground],
                versions={evil: evil},
                engines={evil: {"a": evil}},
                fidelities={"low": evil, "high": "gfn2"},
            )
        )
    )
    assert evil not in page
    assert "<b>" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "&lt;script&gt;alert(1)" in page


def test_json_cannot_leave_its_script_element():
    value = {"a": "</script><!-- & \u2028"}
    found = script_json(value)
    assert not set("<>&\u2028") & set(found)
    assert json.loads(found) == value


def test_missing_values_are_dashes(make_results, make_ground_state):
    ground = make_ground_state(
        "v_Zn",
        0,
        Verdict.WRONG,
        energy_error=None,
        rmsd=None,
        local_rmsd=NAN,
        max_displacement=None,
        low_start="",
        low_excess=None,
        low_deviation=None,
        shortest_bonds={},
    )
    page = render_report(make_results(ground_states=[ground]))
    assert "nan" not in text(page).lower().split()
    assert "None" not in text(page)
    assert "No low-fidelity ground state was available" in text(page)


def test_the_epoch_of_the_kept_weights_is_told_where_it_is_known(make_results):
    shown = text(render_report(make_results(best_epoch=17)))
    assert "Kept weights of epoch Last validated epoch 17 29" in shown
    assert "Kept weights" not in text(render_report(make_results(best_epoch=None)))


def test_almost_nothing_found(make_results):
    empty = {
        "ground_states": [],
        "transition_levels": [],
        "band_edges": None,
        "metrics": [],
        "parity": [],
        "history": [],
        "rounds": [],
        "counts": {},
        "failures": [],
        "cost": [],
        "pes": [],
        "engines": {},
        "host": {},
    }
    shown = text(render_report(make_results(**empty)))
    assert "No ground state was found" in shown
    assert "band edges are not known" in shown
    assert "No frames were held out" in shown


def test_small_campaign_draws_every_point(page):
    assert "per head are drawn" not in text(page)


def test_one_charge_state_has_no_level(make_results):
    results = make_results(charges=(0,))
    assert results.transition_levels == []
    assert "a level needs two charge states" in text(render_report(results))


def test_large_campaign_stays_below_six_megabytes(make_results):
    defects = tuple(f"v_{e}" for e in ("Zn", "S", "Cd", "Te", "Se", "Sb", "Al", "Ga", "In", "As"))
    page = render_report(make_results(defects=defects, charges=(2, 1, 0, -1, -2), frames=1500))
    assert len(page.encode()) < 6e6
    assert len(specs(page)) > 100
    assert "at most 4000 per head are drawn" in text(page)


def test_five_hundred_structures_stay_below_ten_megabytes(make_results, make_cell):
    """500 starts, 25 charge states, cells of 216 atoms, 20,000 labelled frames."""
    defects, charges = ("v_Zn", "v_S", "Zn_i", "S_Zn", "Al_Zn"), (2, 1, 0, -1, -2)
    starts = [f"Bond_Distortion_{n}.0%" for n in range(20)]
    results = make_results(defects=defects, charges=charges, starts=starts, frames=3200)
    big = make_cell((3, 3, 3))
    assert len(big) == 215
    grounds = [g.model_copy(update={"structure": big}) for g in results.ground_states]
    minima = [
        FoundMinimum(
            defect=d, charge=q, rank=rank, energy=0.01 * rank, spread=0.3, share=0.05,
            contender=True, n_starts=1, start=starts[rank],
        )
        for d in defects
        for q in charges
        for rank in range(20)
    ]  # fmt: skip
    page = render_report(
        results.model_copy(update={"ground_states": grounds, "ranked_minima": minima})
    )
    assert sum(p.source == "model" for p in results.pes) == 500
    assert len(results.parity) > 20_000
    assert len(page.encode()) < 10e6
    assert text(page).count("Bond_Distortion") == 0  # brief labels; the full ones are tooltips


def test_view_that_cannot_be_drawn_costs_only_itself(make_results, monkeypatch):
    def broken(*_):
        raise ValueError("no such element")

    monkeypatch.setattr(report_html.figures_search, "structure_figure", broken)
    page = render_report(make_results(frames=2))
    assert "Verified geometries" not in page
    assert "−829.976" in page


def test_write_is_atomic(results, tmp_path: Path, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    assert write_report(results, path) == path
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!DOCTYPE html>")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(report_page.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(results, path)
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]


def test_tag_cuts_long_disclaimers_at_a_word():
    assert disclaimer_tag(None) == ""
    assert disclaimer_tag("Short one.") == "Short one."
    cut = disclaimer_tag("word " * 60)
    assert cut.endswith("word …")
    assert len(cut) < 115


def test_a_charge_in_the_hosts_bands_is_marked_wherever_its_levels_are(results):
    seen = "electron in the conduction band (highest occupied level +0.02 eV from the host's CBM)"
    ground = results.ground_states[0]
    shallow = results.model_copy(
        update={
            "ground_states": [
                ground.model_copy(update={"perturbed_host": seen}),
                *results.ground_states[1:],
            ],
            "transition_levels": [
                level.model_copy(update={"perturbed_host": [ground.charge]})
                if level.defect == ground.defect and ground.charge in level_charges(level)
                else level
                for level in results.transition_levels
            ],
        }
    )
    marked = sum(bool(level.perturbed_host) for level in shallow.transition_levels)
    assert marked > 0
    page = render_report(shallow)
    shown = text(page)
    assert "‡ Perturbed host, see below." in shown
    assert "perturbed host state, electron in the conduction band" in shown
    assert own(page).count("yes ‡") + own(page).count("no † ‡") == marked
    assert (
        sum("‡" in name for name in specs(page)["level-lines"]["layout"]["yaxis"]["ticktext"])
        == marked
    )
    rows = level_rows(shallow)
    assert sum(row["perturbed_host_charges"] != "" for row in rows) == marked
    assert "‡" not in own(render_report(results))


def test_a_level_of_an_unfinished_relaxation_is_marked_wherever_it_is(results):
    ground = results.ground_states[0]
    bound = results.model_copy(
        update={
            "ground_states": [
                ground.model_copy(update={"residual_force": 0.36}),
                *results.ground_states[1:],
            ],
            "transition_levels": [
                level.model_copy(update={"unfinished": [ground.charge]})
                if level.defect == ground.defect and ground.charge in level_charges(level)
                else level
                for level in results.transition_levels
            ],
        }
    )
    marked = sum(bool(level.unfinished) for level in bound.transition_levels)
    assert marked > 0
    page = render_report(bound)
    assert "ran out of steps at forces of 0.36 eV/Å: its energy is an upper bound" in text(page)
    assert own(page).count("yes §") + own(page).count("no † §") == marked
    names = specs(page)["level-lines"]["layout"]["yaxis"]["ticktext"]
    assert sum("§" in name for name in names) == marked
    assert sum(row["unfinished_charges"] != "" for row in level_rows(bound)) == marked
    assert "§" not in own(render_report(results))


def level_charges(level):
    return (level.from_charge, level.to_charge)
