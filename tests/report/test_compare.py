import json
import re

import pytest
from click.testing import CliRunner
from plotly.offline import get_plotlyjs

from defect_mf_flows.cli import main
from defect_mf_flows.errors import ResultsError, VersionError
from defect_mf_flows.report.compare import (
    cost_table,
    ground_state_table,
    level_table,
    load_results,
    named,
    render_comparison,
)
from defect_mf_flows.results.writing import write_results


@pytest.fixture
def pair(make_results):
    one = make_results(campaign="one")
    lower = [g.model_copy(update={"energy_hf": g.energy_hf - 0.05}) for g in one.ground_states[:2]]
    return [one, make_results(campaign="two", ground_states=lower)]


def plain(cell) -> str:
    return re.sub(r"<[^>]+>", "", str(cell)).replace("&nbsp;", " ")


def test_energies_compare_where_method_and_cell_are_the_same(pair):
    rows = ground_state_table(named(pair)).rows
    assert "+50.0 meV" in plain(rows[0][1])
    assert "0.0 meV" in plain(rows[0][2])
    assert "meV" not in plain(rows[2][1])  # nobody else has this charge
    assert plain(rows[2][2]) == "–"


def test_energies_of_other_settings_are_not_compared(pair):
    other = pair[1].model_copy(update={"engines": {"gfn2": {"engine": "vasp", "settings": {}}}})
    assert "meV" not in plain(ground_state_table(named([pair[0], other])).rows[0][1])


def test_levels_and_costs_stand_side_by_side(pair):
    levels = level_table(named(pair))
    assert levels.rows[0][1:] == ["0.400", "0.412", "0.400", "0.412"]
    assert [row[0] for row in cost_table(named(pair)).rows] == ["one", "two"]


def test_campaigns_of_one_name_are_told_apart(make_results):
    same = [make_results(), make_results(campaign_hash="b" * 64), make_results()]
    assert len(named(same)) == 3


def test_page_holds_everything_and_loads_nothing(pair):
    page = render_comparison(pair)
    own = page.replace(get_plotlyjs(), "")
    for heading in ("Ground states", "Charge transition levels", "Held-out errors", "Cost"):
        assert f"<h2>{heading}</h2>" in own
    for name in ("levels", "errors", "cost"):
        spec = re.search(rf'id="spec-{name}">(.*?)</script>', page, flags=re.S)
        assert spec is not None
        assert json.loads(spec[1])["data"]
    assert not re.search(r"""(src|href|action)\s*=\s*["']?\s*(https?:)?//""", own)
    assert own.count(pair[0].disclaimer) > 4


def test_names_are_escaped(pair):
    evil = "<script>alert(1)</script>"
    page = render_comparison([pair[0], pair[1].model_copy(update={"campaign": evil})])
    assert evil not in page


def test_one_campaign_is_no_comparison(results):
    with pytest.raises(ResultsError, match="two campaigns"):
        render_comparison([results])


def test_what_is_no_result_is_refused_with_its_file(results, tmp_path):
    with pytest.raises(ResultsError, match="does not exist"):
        load_results(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ResultsError, match="cannot be read as JSON"):
        load_results(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"results\.json: no results: campaign"):
        load_results(tmp_path)
    write_results(results, tmp_path / "results.json")
    assert load_results(tmp_path) == load_results(tmp_path / "results.json")
    newer = {**json.loads((tmp_path / "results.json").read_text()), "schema_version": 99}
    (tmp_path / "results.json").write_text(json.dumps(newer))
    with pytest.raises(VersionError, match="99"):
        load_results(tmp_path)


def test_the_command_reads_folders_and_files(pair, tmp_path):
    folders = []
    for r in pair:
        folders.append(tmp_path / r.campaign)
        folders[-1].mkdir()
        write_results(r, folders[-1] / "results.json")
    output = tmp_path / "page.html"
    done = CliRunner().invoke(
        main, ["compare", str(folders[0]), str(folders[1] / "results.json"), "-o", str(output)]
    )
    assert done.exit_code == 0, done.output
    assert "2 campaigns compared" in output.read_text(encoding="utf-8")
