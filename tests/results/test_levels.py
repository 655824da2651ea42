import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from doped.thermodynamics import DefectThermodynamics
from jobflow import JobStore
from maggma.stores import MemoryStore
from monty.serialization import loadfn

from defect_mf_flows.core import corrections
from defect_mf_flows.core.concentrations import neutrality, parabolic_dos
from defect_mf_flows.core.defects import quiet
from defect_mf_flows.engines.vasp.eigenvalues import frontier
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.storing import StoredImports, carry_out
from defect_mf_flows.importing.walk import walk
from defect_mf_flows.jobs.levels import CampaignLevels
from defect_mf_flows.report.diagram import envelope, write_diagram
from defect_mf_flows.report.level_tables import levels_csv, remark, remarks
from defect_mf_flows.results import Records
from defect_mf_flows.results.concentrations import ConcentrationOptions
from defect_mf_flows.results.correcting import beside
from defect_mf_flows.results.level_options import read_options
from defect_mf_flows.results.levels import LevelOptions, stored_levels
from defect_mf_flows.schemas.calculation import BandEdges, Calculation
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod
from tests.importing.conftest import REAL

#: As the authors of the data have them (doped); eV above the VBM.
PUBLISHED = {
    ("v_Zn", 0, -1): 0.926,
    ("v_Zn", -1, -2): 1.164,
    ("v_S", 2, 0): 1.730,
    ("Al_Zn", 1, 0): 3.749,
    ("Al_Zn", 0, -1): 3.996,
    ("Al_i", 3, 1): 2.129,
}
OPTIONS = LevelOptions(dielectric=[8.9])

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"NO REAL VASP OUTPUT: {REAL} is absent; levels are not tested"
)


def imported(folder) -> JobStore:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    known = StoredImports(store, "hse06")
    carry_out(make_plan(walk([folder]), "hse06", known=known), store)
    return store


@pytest.fixture(scope="module")
def store() -> JobStore:
    return imported(REAL)


@pytest.fixture(scope="module")
def report(store):
    return stored_levels(Records(store), OPTIONS)


def test_levels_of_real_data_are_the_published_ones(report):
    stable = {
        (lv.defect, lv.from_charge, lv.to_charge): round(lv.energy, 3)
        for lv in report.levels
        if lv.stable
    }
    assert stable == PUBLISHED
    assert report.band_edges.vbm == pytest.approx(1.2707)
    assert report.band_edges.gap == pytest.approx(3.3084)


def test_corrections_are_those_of_doped(report):
    with quiet():
        entries = loadfn(REAL / "ZnS_thermo.json").defect_entries
    checked = 0
    for state in report.states:
        if not state.charge:
            continue
        theirs = entries[state.label.split("/")[0]].corrections["kumagai_charge_correction"]
        assert state.correction.energy == pytest.approx(theirs, abs=2e-6)
        checked += 1
    assert checked == 14


def test_order_inversions_and_minima_above_the_lowest_are_told(report):
    assert {(n.defect, n.charge) for n in report.negative_u} == {("v_S", 1), ("Al_i", 2)}
    above = {s.label.split("/")[0]: s.above for s in report.states if not s.ground}
    assert above["inter_27_Al_1"] == pytest.approx(0.0201, abs=1e-4)
    assert all(value >= 0 for value in above.values())


def test_shallow_states_are_recognised_and_deep_ones_are_not(report):
    found = {(s.defect, s.charge) for s in report.states if s.perturbed_host}
    assert found == {("Al_Zn", 0), ("Al_Zn", -1)}
    outside = {lv.defect for lv in report.levels if not lv.in_gap}
    assert outside == {"Al_Zn"}
    assert any("perturbed host" in line for line in remarks(report))
    marked = {(lv.from_charge, lv.to_charge): lv.perturbed_host for lv in report.levels
              if lv.defect == "Al_Zn"}  # fmt: skip
    assert marked == {(1, 0): [0], (0, -1): [0, -1]}
    assert not any(lv.perturbed_host for lv in report.levels if lv.defect != "Al_Zn")
    assert remark(next(lv for lv in report.levels if lv.defect == "Al_Zn")) == (
        "outside the gap, perturbed host"
    )
    assert "Al_Zn,0,-1" in levels_csv(report)
    assert ",0 -1\n" in levels_csv(report).replace("+0", "0")


def as_a_campaign_keeps_them(store):
    """The same calculations without their files: what a campaign's own VASP runs leave."""
    for found in Records(store).documents(Calculation):
        outcar = beside(found, "OUTCAR")
        yield found.model_copy(
            update={
                "imported": None,
                "frontier": frontier(outcar).levels,
                "site_potentials": corrections.site_potentials(outcar).tolist(),
            }
        )


def test_a_campaigns_own_calculations_tell_shallow_states_without_their_files(store):
    kept = list(as_a_campaign_keeps_them(store))
    host = next(c for c in kept if c.defect is None)
    own = {(c.defect, c.charge): c for c in kept if c.defect is not None}
    assert all(beside(c, "OUTCAR") is None for c in kept)
    again = {k: Calculation.model_validate_json(c.model_dump_json()) for k, c in own.items()}
    made = CampaignLevels(
        SimpleNamespace(roles=SimpleNamespace(high="hse06")), None, None, {"hse06": host}, [], again
    )
    assert set(made.perturbed) == {("Al_Zn", 0), ("Al_Zn", -1)}
    assert all("electron in the conduction band" in why for why in made.perturbed.values())


def test_corrections_are_computed_once(store, report, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("computed again")

    assert Records(store).count(Correction) == 17
    monkeypatch.setattr(corrections, "efnv", never)
    assert stored_levels(Records(store), OPTIONS) == report
    with pytest.raises(AssertionError, match="computed again"):
        stored_levels(Records(store), LevelOptions(dielectric=[9.0], defects=("v_Zn",)))


def test_without_and_with_point_charges_alone_the_reader_is_told(store):
    plain = stored_levels(Records(store), LevelOptions(defects=("v_Zn",)))
    assert any("no finite-size correction" in n for n in plain.notes)
    chosen = LevelOptions(dielectric=[8.9], method=CorrectionMethod.POINT_CHARGE, defects=("v_Zn",))
    point = stored_levels(Records(store), chosen)
    assert any("point-charge correction only" in n for n in point.notes)
    energies = {s.charge: s.correction.energy for s in point.states}
    assert energies[-2] == pytest.approx(4 * energies[-1])
    assert energies[0] == 0.0


def test_chemical_potentials_move_formation_energies_and_no_level(store, report):
    moved = stored_levels(Records(store), LevelOptions(dielectric=[8.9], mu={"Zn": -1.5}))
    before = {s.label: s.formation for s in report.states}
    change = {s.defect: s.formation - before[s.label] for s in moved.states}
    expected = {"v_Zn": -1.5, "Al_Zn": -1.5, "v_S": 0.0, "Al_i": 0.0}
    assert change == {k: pytest.approx(v) for k, v in expected.items()}
    assert [lv.energy for lv in moved.levels] == pytest.approx([lv.energy for lv in report.levels])


def test_a_missing_outcar_is_a_refusal_that_says_what_to_do(tmp_path):
    for name in ("bulk", "vac_1_Zn_-2"):
        shutil.copytree(REAL / name, tmp_path / "tree" / name)
    store = imported(tmp_path / "tree")
    (tmp_path / "tree" / "vac_1_Zn_-2" / "vasp_std" / "OUTCAR.gz").unlink()
    with pytest.raises(ResultsError, match="bring them back"):
        stored_levels(Records(store), OPTIONS)


@pytest.fixture(scope="module")
def theirs():
    """Entries of the vacancies as the authors of the data stored them, degeneracies included."""
    with quiet():
        entries = loadfn(REAL / "ZnS_thermo.json").defect_entries
    return {name: entry for name, entry in entries.items() if name.startswith("vac_")}


def vacancies(store, theirs, **options) -> tuple[LevelOptions, dict[str, float]]:
    bulk = next(iter(theirs.values())).bulk_entry
    unit = bulk.energy / bulk.composition["Zn"]
    mu = {"Zn": -2.2, "S": unit + 2.2}
    asked = ConcentrationOptions(masses=(0.2, 0.8), **options)
    return LevelOptions(dielectric=[8.9], mu=mu, defects=("v_Zn", "v_S"), concentrations=asked), mu


@pytest.mark.slow
def test_concentrations_of_real_data_are_those_of_doped(store, theirs):
    """Entries that we build from stored calculations against those that doped parsed."""
    options, mu = vacancies(store, theirs, temperatures=(900.0,))
    (found,) = stored_levels(Records(store), options).concentrations
    entry = next(iter(theirs.values()))
    edges = BandEdges(vbm=1.2707, cbm=1.2707 + 3.3084)
    dos, _ = parabolic_dos(entry.bulk_supercell, edges, electron=0.2, hole=0.8)
    with quiet():
        thermo = DefectThermodynamics(
            list(theirs.values()), vbm=edges.vbm, band_gap=edges.gap, check_compatibility=False,
            bulk_dos=dos, skip_dos_check=True,
        )  # fmt: skip
        level = thermo.get_equilibrium_fermi_level(temperature=900.0, chempots=mu)
        table = thermo.get_equilibrium_concentrations(
            temperature=900.0, chempots=mu, fermi_level=level, skip_formatting=True
        )
    assert found.fermi_level == pytest.approx(level, abs=1e-4)
    wanted = sorted(float(x) for x in table["Concentration (cm^-3)"])
    assert sorted(d.concentration for d in found.defects) == pytest.approx(wanted, rel=1e-3)
    assert {(d.defect, d.charge) for d in found.defects} == {
        ("v_Zn", 0), ("v_Zn", -1), ("v_Zn", -2), ("v_S", 2), ("v_S", 1), ("v_S", 0),
    }  # fmt: skip
    assert neutrality(found) < 1e-6


def test_concentrations_need_a_density_of_states_and_chemical_potentials(store, theirs):
    options, mu = vacancies(store, theirs)
    with pytest.raises(ResultsError, match=r"--mu Zn=\.\.\."):
        stored_levels(Records(store), replace(options, mu={"S": mu["S"]}))
    bare = replace(options, concentrations=ConcentrationOptions())
    with pytest.raises(ResultsError, match=r"--dos vasprun\.xml"):
        stored_levels(Records(store), bare)


def test_the_figure_shows_the_stable_charges(report, tmp_path):
    write_diagram(report, tmp_path / "levels.png")
    assert (tmp_path / "levels.png").read_bytes().startswith(b"\x89PNG")
    energies = {s.charge: s.formation for s in report.states if s.defect == "v_S" and s.ground}
    x, y, charges = envelope(energies, 0.0, report.band_edges.gap)
    assert charges == [2, 0]
    assert x[1] == pytest.approx(1.7297, abs=1e-4)
    assert np.all(np.diff(y) >= -1e-12)
    with pytest.raises(ResultsError, match=r"\.png"):
        write_diagram(report, tmp_path / "levels.doc")


def test_tables_hold_every_level(report):
    rows = levels_csv(report).splitlines()
    assert len(rows) == 1 + len(report.levels)
    assert "hse06,v_Zn,0,-1,0.925779,True,True," in rows


def test_options_come_from_a_file_and_the_command_line_counts_more(tmp_path):
    path = tmp_path / "levels.yaml"
    path.write_text("dielectric: [[8, 0, 0], [0, 8, 0], [0, 0, 7]]\nvbm: 1\nmu: {Zn: -1.2}\n")
    found = read_options(path, {"vbm": 1.5, "mu": (), "correction": "point-charge"})
    assert found.dielectric == [8, 0, 0, 0, 8, 0, 0, 0, 7]
    assert (found.vbm, found.mu) == (1.5, {"Zn": -1.2})
    assert found.method is CorrectionMethod.POINT_CHARGE
    path.write_text("epsilon: 8\n")
    with pytest.raises(ResultsError, match="epsilon"):
        read_options(path, {})
    with pytest.raises(ResultsError, match="Xx"):
        read_options(None, {"mu": ("Xx=1",)})
