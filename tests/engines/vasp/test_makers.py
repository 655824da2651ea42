"""A VASP calculation from start structure to document, with the stand-in as VASP."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure
from pymatgen.io.vasp.inputs import Incar

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.engines.reuse import take_over
from defect_mf_flows.engines.vasp.results import unfinished
from defect_mf_flows.engines.vasp.running import PBE_FIRST, executions
from defect_mf_flows.errors import ChargeError, EngineError, FidelityError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, FailureReason
from defect_mf_flows.testing.vasp import vasp_stand_in

RELAX, STATIC = CalculationKind.RELAX, CalculationKind.STATIC


def test_a_relaxation_gives_the_engines_own_frames(machine, vasp, make_start, compute):
    """The stand-in is tblite, so tblite called directly must agree step by step."""
    start = make_start(-1, spin=1)
    ours = vasp(kind=RELAX).compute(start, uuid="r")
    direct = compute(start, kind=RELAX, fmax=0.1, steps=40, spin_polarization=0.0)
    assert ours.failure is None
    assert ours.n_calls == ours.n_frames == direct.n_frames > 2
    for mine, its in zip(ours.frames, direct.frames, strict=True):
        assert mine.energy == pytest.approx(its.energy, abs=1e-4)
        assert np.allclose(mine.forces, its.forces, atol=3e-4)
        assert np.allclose(mine.structure.frac_coords, its.structure.frac_coords, atol=1e-4)
        assert mine.structure.lattice == start.structure.lattice
        assert (mine.charge, mine.spin, mine.fidelity) == (-1, 1, "pbe")
        assert charge_of(mine.structure) == mine.lineage.charge == -1
    assert [f.lineage.step for f in ours.frames] == list(range(ours.n_frames))
    assert ours.engine.settings["incar"]["NELECT"] == 3 * 12 + 4 * 6 + 1
    assert ours.engine.settings["charge"] == -1


def test_stress_has_the_unit_and_sign_of_a_strained_cell(machine, vasp, make_start):
    """-dE/dV by finite differences is minus the trace of the stress over three."""
    energies, strain = [], 1e-3
    for sign in (+1, -1):
        cell = make_start(0).structure.copy()
        cell.apply_strain(sign * strain)
        start = make_start(0, structure=with_charge(cell, 0))
        energies.append(vasp().compute(start, uuid=f"s{sign}").final_energy)
    start = make_start(0)
    frame = vasp().compute(start, uuid="s").frames[0]
    slope = (energies[0] - energies[1]) / (2 * strain) / start.structure.volume
    assert np.trace(frame.stress) == pytest.approx(slope, rel=0.02)


def test_atoms_return_in_the_order_in_which_they_came(machine, vasp, make_start):
    ordered = make_start(0)
    mixed = [0, 4, 1, 5, 2, 6, 3]
    shuffled = Structure.from_sites([ordered.structure[i] for i in mixed])
    first = vasp().compute(ordered, uuid="a")
    second = vasp().compute(make_start(0, structure=with_charge(shuffled, 0)), uuid="b")
    one, other = first.frames[0], second.frames[0]
    potentials = np.array(first.site_potentials)
    assert np.ptp(potentials) > 1, "those of the two elements differ"
    assert np.allclose(second.site_potentials, potentials[mixed], atol=2e-4)
    assert [s.specie.symbol for s in other.structure] == [s.specie.symbol for s in shuffled]
    assert other.energy == pytest.approx(one.energy, abs=1e-6)
    assert np.allclose(np.array(other.forces), np.array(one.forces)[mixed], atol=1e-5)
    poscar = (executions(machine / "scratch/vasp/b")[0] / "POSCAR").read_text().splitlines()
    assert poscar[5].split() == ["Zn", "S"]


@pytest.mark.parametrize("machine", ["charge"], indirect=True)
def test_another_charge_than_asked_is_an_error_and_no_label(machine, vasp, make_start):
    with pytest.raises(ChargeError, match=r"computed charge -1 .* not \+0"):
        vasp().compute(make_start(0), uuid="c")


def test_another_functional_than_asked_is_an_error_and_no_label(machine, vasp, make_start):
    """A folder that another fidelity has filled must not be taken for this one's."""
    vasp("PBE").compute(make_start(0), uuid="same")
    with pytest.raises(FidelityError, match="LHFCALC"):
        vasp("HSE06").compute(make_start(0), uuid="same")


def test_without_potcars_the_message_names_what_is_missing(vasp, make_start, tmp_path, monkeypatch):
    monkeypatch.setenv("DEFECT_MF_SCRATCH", str(tmp_path))
    with pytest.raises(EngineError, match=r"POTCARs \['Zn', 'S'\].*PMG_VASP_PSP_DIR"):
        vasp().compute(make_start(0), uuid="none")


@pytest.mark.parametrize("machine", ["kill=3"], indirect=True)
def test_a_killed_relaxation_continues_and_keeps_its_steps(machine, vasp, make_start, compute):
    maker, start = vasp(kind=RELAX, fmax=0.02), make_start(0)
    first = maker.compute(start, uuid="k")
    # custodian sees VASP die; the frames up to there are kept
    assert first.n_frames == 3
    assert first.failure is not None
    os.environ["DEFECT_MF_STANDIN"] = ""
    (executions(maker.folder("k"))[0] / "outcome.json").unlink()  # as if the job had died too
    done = maker.compute(start, uuid="k")
    assert done.failure is None
    assert len(executions(maker.folder("k"))) == 2
    assert [f.energy for f in done.frames[:3]] == [f.energy for f in first.frames]
    assert [f.lineage.step for f in done.frames] == list(range(done.n_frames))
    direct = compute(start, kind=RELAX, fmax=0.02)
    assert done.final_energy == pytest.approx(direct.final_energy, abs=0.01)
    assert not list(maker.folder("k").glob("*/WAVECAR")), "orbitals are dropped at the end"


@pytest.mark.slow
def test_a_job_near_its_walltime_is_replaced_by_one_that_continues(tmp_path, vasp, make_start):
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    # 60 s of walltime with a buffer of 60 s: every execution is asked to stop at once.
    with vasp_stand_in(
        tmp_path,
        DEFECT_MF_STANDIN="slow=1",
        DEFECT_MF_VASP_WALLTIME="60",
        DEFECT_MF_VASP_BUFFER="60",
    ):
        job = vasp(kind=RELAX, fmax=0.02).make(make_start(0))
        job.name = "a name"
        run_locally(job, store=store, ensure_success=True, log=False)
        found = list(store.query({"uuid": job.uuid}, load=True))
        folder = vasp().folder(job.uuid)
        assert len(executions(folder)) > 1
    last = max(found, key=lambda doc: doc["index"])
    assert last["index"] == len(executions(folder))
    assert [doc["output"] for doc in found if doc["index"] < last["index"]] == [None] * (
        last["index"] - 1
    )
    calculation = Calculation.model_validate(
        {k: v for k, v in last["output"].items() if not k.startswith("@")}
    )
    assert calculation.failure is None
    assert calculation.n_frames >= len(executions(folder))
    assert last["name"] == "a name"


def test_a_finished_calculation_is_read_and_not_repeated(machine, vasp, make_start):
    maker, start = vasp(), make_start(0)
    first = maker.compute(start, uuid="f")
    os.environ["DEFECT_MF_VASP_CMD"] = "/bin/false"
    assert maker.compute(start, uuid="f") == first


@pytest.fixture
def ask(machine, vasp):
    """Run a Maker with the settings given as a job of a campaign with ``reuse: true``."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})

    def run(start, *given, **settings):
        maker = vasp(*given, **settings)
        maker.reuse = True
        job = maker.make(start)
        run_locally(job, store=store, ensure_success=True, raise_immediately=True, log=False)
        content = store.query_one({"uuid": job.uuid}, load=True)["output"]
        return Calculation.model_validate(
            {key: value for key, value in content.items() if not key.startswith("@")}
        )

    return run


def test_what_another_campaign_computed_is_taken_over_at_no_cost(ask, vasp, make_start):
    maker, others = vasp(), [vasp("HSE06"), vasp(encut=310)]
    first = ask(make_start(0))
    os.environ["DEFECT_MF_STANDIN"] = "charge"  # computing once more would be noticed
    again = ask(make_start(0))
    assert again.reused_from == first.job_uuid
    assert (again.n_calls, again.final_energy) == (0, first.final_energy)
    assert [frame.charge for frame in again.frames] == [0]
    keys = {
        each.hashed(first, make_start(q), each.engine_record(make_start(q))).input_hash
        for each in (maker, *others)
        for q in (0, -1)
    }
    assert len(keys) == 6, "charge, functional and cutoff each make another calculation"


@pytest.mark.parametrize(
    "stopped", [{"steps": 3, "fmax": 0.02}, {"steps": 40, "fmax": 0.5}], ids=["steps", "force"]
)
def test_a_relaxation_that_another_campaign_ended_too_soon_goes_on(
    ask, vasp, make_start, compute, stopped
):
    start = make_start(-1, spin=1)
    begun = ask(start, kind=RELAX, **stopped)
    done = ask(start, kind=RELAX, fmax=0.02)
    assert done.converged, done.failure
    assert done.n_calls == done.n_frames - begun.n_frames + 1, "the last step is computed again"
    assert (begun.calls_saved, done.calls_saved) == (0, begun.n_frames - 1)
    for mine, its in zip(done.frames[: begun.n_frames], begun.frames, strict=False):
        assert mine.energy == pytest.approx(its.energy, abs=1e-5)
        assert np.allclose(mine.structure.frac_coords, its.structure.frac_coords, atol=1e-6)
        assert np.allclose(mine.forces, its.forces, atol=1e-3)
    assert [frame.lineage.step for frame in done.frames] == list(range(done.n_frames))
    assert {(f.charge, f.spin, f.lineage.calculation) for f in done.frames} == {
        (-1, 1, done.job_uuid)
    }
    assert done.notes == [f"step {begun.n_frames - 1}: continues {begun.job_uuid}"]
    direct = compute(start, kind=RELAX, fmax=0.02, spin_polarization=0.0)
    assert done.final_energy == pytest.approx(direct.final_energy, abs=0.01)


def test_a_relaxation_that_goes_on_survives_a_kill(ask, vasp, make_start):
    begun = ask(make_start(0), kind=RELAX, fmax=0.02, steps=3)
    os.environ["DEFECT_MF_STANDIN"] = "kill=2"
    cut = ask(make_start(0), kind=RELAX, fmax=0.02)
    assert cut.n_frames == begun.n_frames + 1
    os.environ["DEFECT_MF_STANDIN"] = ""
    maker = vasp(kind=RELAX, fmax=0.02)
    (executions(maker.folder(cut.job_uuid))[0] / "outcome.json").unlink()  # the job died, too
    done = maker.compute(make_start(0), uuid=cut.job_uuid)
    assert done.converged
    assert [f.energy for f in done.frames[:4]] == [f.energy for f in cut.frames]
    assert done.notes == cut.notes
    assert done.calls_saved == cut.calls_saved == begun.n_frames - 1


def test_of_a_longer_relaxation_no_more_is_taken_than_this_one_would_compute(ask, make_start):
    longer = ask(make_start(0), kind=RELAX, fmax=0.02)
    os.environ["DEFECT_MF_STANDIN"] = "charge"  # computing anything would be noticed
    shorter = ask(make_start(0), kind=RELAX, fmax=0.02, steps=3)
    assert (shorter.n_calls, shorter.calls_saved, shorter.n_frames) == (0, 3, 3)
    assert shorter.failure.reason is FailureReason.STEPS
    assert shorter.frontier is None, "that of another geometry"
    looser = ask(make_start(0), kind=RELAX, fmax=0.3)
    assert looser.converged
    assert (looser.n_calls, looser.engine.version) == (0, longer.engine.version)
    assert looser.n_frames < longer.n_frames


def test_a_relaxation_of_another_method_charge_or_start_is_not_continued(ask, make_start):
    stopped = {"kind": RELAX, "fmax": 0.001, "steps": 2}
    ask(make_start(0), **stopped)
    longer = {**stopped, "steps": 3}
    others = {
        "charge": ask(make_start(-2), **longer),
        "start": ask(make_start(0, seed=2), **longer),
        "cutoff": ask(make_start(0), encut=310, **longer),
        "functional": ask(make_start(0), "HSE06", **longer),
        "spin": ask(make_start(0, spin=2), **longer),
    }
    assert {name: done.n_calls for name, done in others.items()} == dict.fromkeys(others, 3)
    assert ask(make_start(0), **longer).n_calls == 2


def test_a_guessed_spin_goes_on_with_its_relaxation(ask, make_start):
    options = {"kind": RELAX, "fmax": 0.02, "spin_guesses": 2}
    begun = ask(make_start(0), steps=2, **options)
    done = ask(make_start(0), **options)
    assert done.converged
    assert done.spin == begun.spin
    assert done.n_calls == done.n_frames - 1, "no spin is guessed again"


def test_of_two_spin_guesses_the_lower_is_taken(machine, vasp, make_start):
    maker, start = vasp(spin_guesses=2), make_start(0)
    both = maker.compute(start, uuid="g")
    note = json.loads((maker.folder("g") / "spin.json").read_text())
    energies = {int(n): e for n, e in note["energies"].items()}
    assert set(energies) == {0, 2}
    assert note["unpaired"] == min(energies, key=energies.get)
    assert both.final_energy == pytest.approx(min(energies.values()), abs=1e-6)
    assert both.n_calls == 3
    incar = both.engine.settings["incar"]
    assert incar.get("NUPDOWN", 0) == note["unpaired"]
    assert incar["ISPIN"] == (2 if note["unpaired"] else 1)
    assert {both.spin, *(frame.spin for frame in both.frames)} == {note["unpaired"]}
    assert take_over(both, start, fidelity="pbe", uuid="t").frames[0].spin == note["unpaired"]


@pytest.mark.slow
def test_guesses_of_the_spin_that_the_walltime_stops_are_continued(tmp_path, vasp, make_start):
    maker = vasp(spin_guesses=2)
    near_its_end = {"DEFECT_MF_VASP_WALLTIME": "60", "DEFECT_MF_VASP_BUFFER": "60"}
    with vasp_stand_in(tmp_path, DEFECT_MF_STANDIN="slow=4", **near_its_end):
        stopped = maker.compute(make_start(0), uuid="g")
        assert unfinished(stopped)
        assert not (maker.folder("g") / "spin.json").exists()
    with vasp_stand_in(tmp_path):
        done = maker.compute(make_start(0), uuid="g")
        assert done.failure is None
        note = json.loads((maker.folder("g") / "spin.json").read_text())
        assert set(note["energies"]) == {"0", "2"}


def test_hse06_starts_from_the_orbitals_of_the_same_geometry(machine, vasp, make_start):
    low = vasp("PBE", RELAX, keep_wavecar=True).compute(make_start(0), uuid="low")
    final = make_start(0, structure=low.final_structure)
    vasp("HSE06").compute(final, uuid="high")
    vasp("HSE06").compute(make_start(0), uuid="elsewhere")
    vasp("HSE06", encut=310).compute(final, uuid="other cutoff")
    runs = {
        name: executions(vasp().folder(name))[0] for name in ("high", "elsewhere", "other cutoff")
    }
    assert all("found WAVECAR" in (run / "vasp.out").read_text() for run in runs.values())
    made = {name for name in runs if (vasp().folder(name) / PBE_FIRST).is_dir()}
    assert made == {"elsewhere", "other cutoff"}, "no PBE calculation where orbitals are known"


def test_hse06_makes_its_own_pbe_orbitals_with_its_charge_and_spin(machine, vasp, make_start):
    incar = {"ALGO": "Damped", "TIME": 0.4, "PRECFOCK": "Fast", "NCORE": 1}
    start = make_start(-1, spin=1)
    done = vasp("HSE06", incar=incar).compute(start, uuid="charged")
    assert done.failure is None, done.failure
    (first,) = executions(vasp().folder("charged") / PBE_FIRST)
    (second,) = executions(vasp().folder("charged"))
    pbe, hse = (Incar.from_file(run / "INCAR") for run in (first, second))
    assert (pbe["NELECT"], pbe["NUPDOWN"]) == (hse["NELECT"], hse["NUPDOWN"]) == (hse["NELECT"], 1)
    assert pbe["NSW"] == 0
    assert "LHFCALC" not in pbe
    assert not {"TIME", "PRECFOCK"} & set(pbe)
    assert pbe["ALGO"] == "Normal"
    assert "found WAVECAR" in (second / "vasp.out").read_text()
    assert done.n_calls == 1, "the PBE calculation is no evaluation of HSE06"
    assert done.seconds > json.loads((second / "outcome.json").read_text())["seconds"]
    assert not list(vasp().folder("charged").rglob("WAVECAR*"))


def test_hse06_begins_cold_where_that_is_asked_for(machine, vasp, make_start):
    vasp("HSE06", from_wavecar=False).compute(make_start(0), uuid="cold")
    (run,) = executions(vasp().folder("cold"))
    assert "found WAVECAR" not in (run / "vasp.out").read_text()
    assert not (vasp().folder("cold") / PBE_FIRST).exists()


def test_closed_shells_have_one_spin_channel_and_the_energy_of_two(machine, vasp, make_start):
    closed = vasp("HSE06").compute(make_start(0), uuid="one")
    two = vasp("HSE06", spin="free").compute(make_start(0, spin=0), uuid="two")
    assert [c.engine.settings["incar"]["ISPIN"] for c in (closed, two)] == [1, 2]
    assert closed.final_energy == pytest.approx(two.final_energy, abs=1e-6)
    assert closed.site_potentials == pytest.approx(two.site_potentials, abs=2e-4)


def test_orbitals_of_another_number_of_spin_channels_are_left_alone(machine, vasp, make_start):
    """As in a calculation that an earlier version began with two channels."""
    maker, start = vasp(kind=RELAX, fmax=0.02), make_start(0)
    polarised = vasp(kind=RELAX, fmax=0.02, spin="free")
    os.environ["DEFECT_MF_STANDIN"] = "kill=2"
    polarised.compute(make_start(0, spin=0), uuid="k")
    (first,) = executions(maker.folder("k"))
    (first / "outcome.json").unlink()
    os.environ["DEFECT_MF_STANDIN"] = ""
    done = maker.compute(start, uuid="k")
    assert done.failure is None, done.failure
    second = executions(maker.folder("k"))[1]
    assert "found WAVECAR" not in (second / "vasp.out").read_text()
    assert [f.lineage.step for f in done.frames] == list(range(done.n_frames))
    assert done.n_frames > 2


def test_host_and_defects_share_the_grid_and_the_host_is_neutral(
    machine, vasp, make_start, defect_set
):
    from defect_mf_flows.schemas.defect import StartStructure

    host = StartStructure(defect=None, charge=0, label="host", structure=defect_set.host.supercell)
    done = vasp("HSE06").compute(host, uuid="host")
    charged = vasp("HSE06").compute(make_start(-1), uuid="defect")
    assert done.engine.settings["kpoints"] == charged.engine.settings["kpoints"]
    assert 1.0 < done.band_edges.gap < 15.0
    for calculation in (done, charged):
        levels = Calculation.model_validate_json(calculation.model_dump_json()).frontier
        assert {level.kpoint for level in levels} == {level.kpoint for level in done.frontier}
        assert all(level.occupied < level.empty for level in levels)
    # Band edges count a level with any charge as occupied, the carriers' level must be half full.
    assert max(level.occupied for level in done.frontier) <= done.band_edges.vbm
    assert min(level.empty for level in done.frontier) <= done.band_edges.cbm
    assert "ISYM" not in done.engine.settings["incar"]
    assert charged.engine.settings["incar"]["ISYM"] == 0


def test_atomate2s_own_job_writes_the_same_inputs(machine, vasp, make_start, monkeypatch):
    """For people who want atomate2's task document of a labelled cell."""
    start = make_start(-1)
    maker = vasp("HSE06")
    maker.compute(start, uuid="ours")
    theirs = maker.vasp_maker(start)
    folder = machine / "theirs"
    folder.mkdir()
    monkeypatch.chdir(folder)
    response = theirs.make.original(theirs, start.structure)
    ours = Incar.from_file(executions(maker.folder("ours"))[0] / "INCAR")
    found = next(folder.glob("INCAR*"))
    assert Incar.from_file(found) == ours
    assert response.output.output.energy == pytest.approx(
        maker.compute(start, uuid="ours").final_energy, abs=1e-6
    )


@pytest.mark.parametrize(
    ("machine", "kind", "reason", "frames"),
    [
        ("scf-always", STATIC, FailureReason.SCF, 0),
        ("positive", RELAX, FailureReason.UNPHYSICAL_ENERGY, None),
        ("explode", RELAX, FailureReason.EXPLODED, None),
        ("kill=2", RELAX, FailureReason.OTHER, 2),
    ],
    indirect=["machine"],
)
def test_what_cannot_be_corrected_is_a_failure_with_its_frames(
    machine, vasp, make_start, kind, reason, frames
):
    failed = vasp(kind=kind, fmax=0.001).compute(make_start(-1), uuid="f")
    assert failed.failure.reason is reason, failed.failure
    assert (failed.failure.defect, failed.failure.charge) == ("v_Zn", -1)
    assert not failed.converged
    assert frames is None or failed.n_frames == frames


@pytest.mark.parametrize(
    ("machine", "settings", "kind", "tag", "value"),
    [
        ("scf", {}, STATIC, "ALGO", "All"),
        ("memory", {"incar": {"KPAR": 4}}, STATIC, "KPAR", 1),
        ("zbrent", {}, RELAX, "NELMIN", 8),
    ],
    indirect=["machine"],
)
def test_custodian_corrects_what_it_can(machine, vasp, make_start, settings, kind, tag, value):
    maker = vasp(kind=kind, fmax=0.02, **settings)
    done = maker.compute(make_start(0), uuid="c")
    assert done.failure is None, done.failure
    (execution,) = executions(maker.folder("c"))
    assert Incar.from_file(execution / "INCAR")[tag] == value
    assert Incar.from_file(execution / "INCAR.orig")[tag] != value
    assert list(execution.glob("error.*.tar.gz"))


def test_steps_before_a_correction_are_kept_as_frames(tmp_path, vasp, make_start):
    with vasp_stand_in(tmp_path, DEFECT_MF_STANDIN="zbrent"):
        corrected = vasp(kind=RELAX, fmax=0.02).compute(make_start(0), uuid="z")
    with vasp_stand_in(tmp_path):
        plain = vasp(kind=RELAX, fmax=0.02).compute(make_start(0), uuid="p")
    for mine, its in zip(corrected.frames[:3], plain.frames[:3], strict=True):
        assert mine.energy == pytest.approx(its.energy, abs=1e-6)
    assert corrected.final_energy == pytest.approx(plain.final_energy, abs=0.01)


def test_running_out_of_steps_is_a_failure_and_a_stalled_tail_is_not(machine, vasp, make_start):
    options = {"kind": RELAX, "fmax": 1e-5, "steps": 6}
    short = vasp(**options).compute(make_start(0), uuid="short")
    assert short.failure.reason is FailureReason.STEPS
    assert short.n_frames == 6
    stalled = vasp(stalled_steps=3, stalled_energy=0.5, **options)
    assert stalled.compute(make_start(0), uuid="stalled").failure is None


@pytest.mark.slow
def test_a_start_high_above_the_unperturbed_one_is_stopped(tmp_path, vasp, make_start):
    maker = vasp(
        kind=RELAX, fmax=1e-5, steps=60, high_energy=0.5, high_energy_after=2, stalled_steps=60
    )
    with vasp_stand_in(tmp_path):
        low = vasp(
            kind=RELAX, high_energy=0.5, high_energy_after=2, stalled_steps=60, fmax=0.1, steps=60
        ).compute(make_start(0, seed=None, label="Unperturbed"), uuid="u")
    squeezed = make_start(0).structure.copy()
    squeezed.translate_sites([0], [0.9, 0, 0], frac_coords=False)
    with vasp_stand_in(tmp_path, DEFECT_MF_STANDIN="slow=1"):
        high = maker.compute(
            make_start(0, structure=with_charge(squeezed, 0), label="Bond_Distortion_-60.0%"),
            uuid="h",
        )
    assert high.failure.reason is FailureReason.HIGH_ENERGY
    assert min(f.energy for f in high.frames) > low.final_energy + 0.5
