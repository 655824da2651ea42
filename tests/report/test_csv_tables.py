import csv

import pytest

from defect_mf_flows.report.csv_tables import TABLES, table_folder, write_tables


def read(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def tables(uncertain, tmp_path):
    return {path.stem: read(path) for path in write_tables(uncertain, tmp_path / "out")}


def test_every_table_is_written_with_units_in_its_headings(tables):
    assert set(tables) == set(TABLES) - {"bonds"}
    headings = {heading for rows in tables.values() for heading in rows[0]}
    assert {
        "energy_verified_eV_per_cell",
        "rmsd_A",
        "wall_time_s",
        "force_rmse_meV_per_A",
    } <= headings


def test_ground_states_are_those_of_the_results(tables, uncertain):
    for row, ground in zip(tables["ground_states"], uncertain.ground_states, strict=True):
        assert (row["defect"], int(row["charge"])) == (ground.defect, ground.charge)
        assert float(row["energy_verified_eV_per_cell"]) == ground.energy_hf
        assert row["verdict"] == ground.verdict.value


def test_levels_carry_their_uncertainty(tables):
    first = tables["levels"][0]
    assert (float(first["verified_eV"]), float(first["model_sd_eV"])) == (0.4, 0.0234)
    assert first["verified_sd_eV"] == ""
    assert tables["level_orders"][0]["probability"] == "0.93"


def test_metrics_cost_and_minima_are_complete(tables, uncertain):
    assert len(tables["metrics"]) == len(uncertain.metrics)
    assert sum(int(r["evaluations"]) for r in tables["cost"]) == sum(
        c.calls for c in uncertain.cost
    )
    assert [r["fate"] for r in tables["minima"]] == [
        "at site", "migrated", "rearranged", "dissociated",
    ]  # fmt: skip
    assert [r["high_fidelity_calls"] for r in tables["tried"]] == ["8", "0"]
    assert tables["tried"][1]["model_minus_low_eV_per_cell"] == "-0.456"
    assert {"total_saving", "marginal_saving"} <= set(tables["savings"][0])


def test_tables_without_rows_leave_no_file(make_results, tmp_path):
    write_tables(make_results(), tmp_path)
    written = write_tables(make_results(cost=[], metrics=[]), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in written}
    assert {p.stem for p in written} == {"ground_states", "levels"}


def test_the_folder_lies_beside_the_page(tmp_path):
    assert table_folder(tmp_path / "report.html") == tmp_path / "report-tables"


def test_bonds_are_those_at_the_defect(detailed, tmp_path):
    written = {path.stem: path for path in write_tables(detailed, tmp_path)}
    rows = read(written["bonds"])
    mine = [r for r in rows if (r["charge"], r["geometry"]) == ("1", "verified")]
    assert len(mine) == 6 + 4
    assert sum("site" in r["atoms"] for r in mine) == 4
    between = [r for r in mine if "site" not in r["atoms"]]
    shortest = min(between, key=lambda r: float(r["distance_A"]))
    ground = detailed.ground_states[0]
    assert float(shortest["distance_A"]) == pytest.approx(ground.shortest_bonds["verified"])
    assert "-S" in shortest["atoms"]
