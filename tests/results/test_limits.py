"""Chemical-potential limits: formation energies depend on them, levels do not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from doped.chemical_potentials import get_doped_chempots_from_entries
from jobflow import JobStore
from monty.serialization import dumpfn
from pymatgen.analysis.phase_diagram import PDEntry

from defect_mf_flows.cli import main
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.report.diagram import write_diagrams
from defect_mf_flows.results import Records
from defect_mf_flows.results.concentrations import ConcentrationOptions
from defect_mf_flows.results.level_options import read_options
from defect_mf_flows.results.levels import LevelOptions, stored_levels
from defect_mf_flows.schemas.calculation import Calculation
from tests.importing.conftest import OWN
from tests.results.test_levels_own import imported

DEFECTS = ("v_Zn", "v_S")


@pytest.fixture(scope="module")
def store() -> JobStore:
    return imported(OWN)


@pytest.fixture(scope="module")
def unit(store) -> float:
    """Energy of ZnS per formula unit, eV."""
    (host,) = (c for c in Records(store).documents(Calculation) if c.defect is None)
    return host.final_energy / (len(host.final_structure) / 2)


@pytest.fixture
def limits(unit) -> dict[str, dict[str, float]]:
    return {
        "Zn-rich": {"Zn": -1.0, "S": unit + 1.0},
        "S-rich": {"Zn": unit + 4.0, "S": -4.0},
    }


def levels(store, **options):
    return stored_levels(Records(store), LevelOptions(dielectric=[8.9], defects=DEFECTS, **options))


def test_levels_do_not_depend_on_the_limit(store, limits):
    plain, found = levels(store), levels(store, limits=limits)
    assert found.levels == plain.levels
    assert found.negative_u == plain.negative_u
    for limit in found.limits:
        grounds = {(f.defect, f.charge): f.energy for f in limit.formation if f.ground}
        for level in found.levels:
            ends = [grounds[level.defect, q] for q in (level.from_charge, level.to_charge)]
            crossing = (ends[1] - ends[0]) / (level.from_charge - level.to_charge)
            assert crossing == pytest.approx(level.energy, abs=1e-9)


def test_a_vacancy_costs_what_its_atom_gains_in_the_reservoir(store, limits):
    plain, found = levels(store), levels(store, limits=limits)
    assert [limit.name for limit in found.limits] == ["Zn-rich", "S-rich"]
    for limit in found.limits:
        for before, here in zip(plain.states, limit.formation, strict=True):
            assert (here.label, here.charge, here.ground) == (
                before.label, before.charge, before.ground,
            )  # fmt: skip
            element = here.defect.removeprefix("v_")
            assert here.energy == pytest.approx(before.formation + limit.mu[element])
    assert not any("no chemical potentials" in note for note in found.notes)


def test_an_element_that_a_limit_does_not_name_has_its_own_potential(store, limits):
    asked = LevelOptions(dielectric=[8.9], limits=limits, mu={"Al": -3.0})
    found = stored_levels(Records(store), asked)
    assert all(limit.mu["Al"] == -3.0 for limit in found.limits)
    with pytest.raises(ResultsError, match=r"Zn-rich has no chemical potential of Al; S-rich"):
        stored_levels(Records(store), LevelOptions(dielectric=[8.9], limits=limits))


def test_a_limit_that_is_not_in_equilibrium_with_the_host_is_refused(store, limits, unit):
    off = {**limits, "S-rich": {"Zn": unit + 4.0, "S": -4.06}}
    with pytest.raises(ResultsError, match=r"S-rich adds up to .* within 0\.050 eV") as refused:
        levels(store, limits=off)
    assert "Zn-rich" not in str(refused.value)
    near = {**limits, "S-rich": {"Zn": unit + 4.0, "S": -4.04}}
    assert len(levels(store, limits=near).limits) == 2


def test_what_doped_writes_is_read(store, unit, tmp_path):
    entries = [PDEntry("Zn", -1.0), PDEntry("S", -4.0), PDEntry("ZnS", unit)]
    theirs = get_doped_chempots_from_entries(entries, "ZnS")
    dumpfn(theirs, tmp_path / "chempots.json")
    found = read_options(None, {"limits": tmp_path / "chempots.json"})
    assert set(found.limits) == set(theirs["limits"])
    report = levels(store, limits=found.limits)
    rich = next(x for x in report.limits if x.mu["Zn"] == pytest.approx(-1.0))
    assert rich.mu["S"] == pytest.approx(unit + 1.0, abs=1e-3)
    relative = {k: v for k, v in theirs.items() if k != "limits"}
    (tmp_path / "relative.json").write_text(json.dumps(relative))
    again = read_options(None, {"limits": tmp_path / "relative.json"})
    for name, mu in found.limits.items():
        assert again.limits[name] == pytest.approx(mu, abs=1e-3)


def test_limits_stand_in_the_options_or_in_a_file_beside_them(tmp_path):
    options = tmp_path / "levels.yaml"
    options.write_text("limits: {Zn-rich: {Zn: -1, S: -6}}\n")
    assert read_options(options, {}).limits == {"Zn-rich": {"Zn": -1.0, "S": -6.0}}
    (tmp_path / "mu.yaml").write_text("S-rich: {Zn: -3, S: -4}\n")
    options.write_text("limits: mu.yaml\n")
    assert read_options(options, {}).limits == {"S-rich": {"Zn": -3.0, "S": -4.0}}
    for wrong in ("limits: [1, 2]", "limits: {Zn-rich: -1}", "limits: {Zn-rich: {}}"):
        options.write_text(wrong)
        with pytest.raises(ResultsError, match=r"Zn-rich: \{Zn: "):
            read_options(options, {})
    options.write_text("limits: nowhere.yaml\n")
    with pytest.raises(ResultsError, match=r"nowhere\.yaml"):
        read_options(options, {})


def test_each_limit_has_its_own_figure(store, limits, tmp_path):
    report = levels(store, limits={"Zn rich": limits["Zn-rich"], "S-rich": limits["S-rich"]})
    written = write_diagrams(report, tmp_path / "levels.png")
    assert [p.name for p in written] == ["levels-Zn_rich.png", "levels-S-rich.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written)
    assert written[0].read_bytes() != written[1].read_bytes()


def test_concentrations_are_those_of_each_limit(store, unit):
    asked = ConcentrationOptions((900.0,), masses=(0.2, 0.8))
    limits = {f"{mu}": {"Zn": mu, "S": unit - mu} for mu in (-16.0, -15.8)}
    options = LevelOptions(dielectric=[8.9], defects=("v_Zn",), limits=limits, concentrations=asked)
    found = stored_levels(Records(store), options)
    assert found.concentrations == []
    for limit in found.limits:
        alone = replace(options, limits={}, mu=limit.mu)
        assert limit.concentrations == stored_levels(Records(store), alone).concentrations
    rich, poor = ([d.concentration for d in x.concentrations[0].defects] for x in found.limits)
    assert sum(rich) > sum(poor)


def test_no_balance_of_charges_is_a_refusal_and_names_the_cause(store):
    asked = ConcentrationOptions((900.0,), masses=(0.2, 0.8))
    with pytest.raises(ResultsError, match="no Fermi level balances the charges"):
        levels(store, mu={"Zn": -1.0, "S": -104.5}, concentrations=asked)


def test_the_command_prints_a_table_and_writes_a_figure_per_limit(limits, tmp_path):
    folder = str(tmp_path / "imported")
    done = CliRunner().invoke(main, ["import", str(OWN), "--fidelity", "hse06", "--folder", folder])
    assert done.exit_code == 0, done.output
    (tmp_path / "mu.json").write_text(json.dumps(limits))
    done = CliRunner().invoke(
        main,
        ["levels", "--folder", folder, "--dielectric", "8.9",
         "--defect", "v_Zn", "--defect", "v_S", "--limits", str(tmp_path / "mu.json"),
         "--figure", str(tmp_path / "levels.svg")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Formation energies, Zn-rich (Zn -1.000, S " in done.output
    assert (tmp_path / "levels-S-rich.svg").is_file()
