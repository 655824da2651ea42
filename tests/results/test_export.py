"""Files for other programs keep charge and fidelity, and nothing is overwritten."""

from __future__ import annotations

import gzip

import ase.io
import numpy as np
import pytest
from click.testing import CliRunner
from monty.serialization import loadfn

from defect_mf_flows.cli import main
from defect_mf_flows.core.charge import atoms_to_frame, read_extxyz
from defect_mf_flows.core.corrections import point_charge
from defect_mf_flows.errors import ChargeError, ResultsError
from defect_mf_flows.results import CampaignResults, Records, export_doped, export_extxyz


@pytest.fixture
def records(filled):
    return Records(filled)


def test_extxyz_comes_back_as_the_same_frames(records, tmp_path):
    path = tmp_path / "frames.xyz"
    count = export_extxyz(records, path, campaign="one")
    frames = list(records.frames(campaign="one"))
    images = read_extxyz(path)
    assert count == len(frames) == len(images)
    assert {f.charge for f in frames} == {0, -1}
    for frame, atoms in zip(frames, images, strict=True):
        again = atoms_to_frame(atoms)
        assert (again.charge, again.spin, again.fidelity) == (
            frame.charge, frame.spin, frame.fidelity,
        )  # fmt: skip
        assert again.lineage == frame.lineage
        assert again.energy == pytest.approx(frame.energy, abs=1e-8)
        assert np.allclose(again.forces, frame.forces, atol=1e-7)
        assert np.allclose(again.structure.cart_coords, frame.structure.cart_coords, atol=1e-7)
        assert atoms.info["content_hash"] == frame.content_hash


def test_a_file_named_gz_is_compressed_reproducible_and_read_back(records, tmp_path):
    plain, first, second = (tmp_path / n for n in ("a.xyz", "a.xyz.gz", "b.xyz.gz"))
    for path in (plain, first, second):
        export_extxyz(records, path, campaign="one")
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()) == plain.read_bytes()
    assert [a.info["charge"] for a in read_extxyz(first)] == [
        f.charge for f in records.frames(campaign="one")
    ]


def test_ase_reads_energies_and_forces_of_the_exported_file(records, tmp_path):
    path = tmp_path / "frames.xyz"
    export_extxyz(records, path, charge=-1, fidelity="high")
    frames = list(records.frames(charge=-1, fidelity="high"))
    for atoms, frame in zip(ase.io.read(path, index=":"), frames, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(frame.energy, abs=1e-8)
        assert np.allclose(atoms.get_forces(), frame.forces, atol=1e-7)
        assert atoms.info["charge"] == atoms.info["total_charge"] == -1


def test_a_flipped_charge_in_the_file_is_noticed(records, tmp_path):
    path = tmp_path / "frames.xyz"
    export_extxyz(records, path, charge=-1)
    text = path.read_text()
    assert " charge=-1" in text
    path.write_text(text.replace(" charge=-1", " charge=1", 1))
    with pytest.raises(ChargeError, match="image 0"):
        read_extxyz(path)


def test_an_existing_file_stays_unless_forced(records, tmp_path):
    path = tmp_path / "frames.xyz"
    path.write_text("precious")
    with pytest.raises(ResultsError, match="--force"):
        export_extxyz(records, path)
    assert path.read_text() == "precious"
    assert export_extxyz(records, path, force=True) > 0
    assert path.read_text() != "precious"


def test_nothing_found_writes_nothing(records, tmp_path):
    path = tmp_path / "frames.xyz"
    with pytest.raises(ResultsError, match="no frame"):
        export_extxyz(records, path, charge=7)
    path.write_text("precious")
    with pytest.raises(ResultsError, match="no frame"):
        export_extxyz(records, path, charge=7, force=True)
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_doped_reads_the_ground_states_and_finds_our_levels(finished, tmp_path):
    path = tmp_path / "thermo.json"
    assert export_doped(finished.api, path) == len(finished.results.ground_states)
    thermo = loadfn(path)
    ours = {
        (level.from_charge, level.to_charge): level.hf
        for level in finished.results.transition_levels
        if level.thermodynamic
    }
    theirs = {
        (int(max(pair)), int(min(pair))): float(energy)
        for levels in thermo.transition_level_map.values()
        for energy, pair in levels.items()
    }
    assert theirs == pytest.approx(ours, abs=1e-9)
    entries = {entry.charge_state: entry for entry in thermo.defect_entries.values()}
    for state in finished.results.ground_states:
        entry = entries[state.charge]
        assert entry.sc_entry.energy == pytest.approx(state.energy_hf, abs=1e-9)
        assert entry.sc_entry.parameters == {"fidelity": "gfn2", "charge": state.charge}
        assert entry.sc_entry.structure.charge == state.charge
        assert np.allclose(entry.sc_entry.structure.cart_coords, state.structure.cart_coords)
    # Formation energies cross where the levels say, with the energies of the file.
    if len(entries) == 2:
        slope = entries[-1].sc_entry.energy - entries[0].sc_entry.energy - thermo.vbm
        level = next(lv for lv in finished.results.transition_levels if lv.hf is not None)
        assert slope == pytest.approx(level.hf, abs=1e-6)


class Corrected(CampaignResults):
    """The same campaign as if its file had a dielectric constant."""

    def results(self):
        found = super().results()
        corrections = [
            point_charge(g.structure, g.charge, 9.0, defect=g.defect)
            for g in found.ground_states
            if g.charge
        ]
        return found.model_copy(
            update={"corrections": corrections, "correction": "point charges only"}
        )


def test_doped_gets_the_corrections_and_moves_the_levels_by_them(finished, tmp_path):
    api = Corrected(finished.store, campaign_hash=finished.results.campaign_hash)
    for name in ("plain", "corrected"):
        export_doped(finished.api if name == "plain" else api, tmp_path / f"{name}.json")
    plain, corrected = (loadfn(tmp_path / f"{n}.json") for n in ("plain", "corrected"))
    (correction,) = api.results().corrections
    assert correction.charge == -1
    assert correction.energy > 0.1
    entries = {entry.charge_state: entry for entry in corrected.defect_entries.values()}
    assert entries[0].corrections == {}
    assert entries[-1].corrections == {"point_charge_correction": pytest.approx(correction.energy)}
    told = entries[-1].corrections_metadata["point_charge_correction"]
    assert (told["method"], told["charge"]) == ("point charge", -1)
    assert {e.calculation_metadata["correction"] for e in entries.values()} == {
        "point charges only"
    }
    for entry in plain.defect_entries.values():
        assert entry.corrections == {}
        assert "uncorrected" in entry.calculation_metadata["correction"]
    before, after = (
        next(e for e in thermo.defect_entries.values() if e.charge_state == -1)
        for thermo in (plain, corrected)
    )
    assert after.sc_entry.energy == before.sc_entry.energy
    assert after.corrected_energy - before.corrected_energy == pytest.approx(correction.energy)


class Unfinished(CampaignResults):
    """The same campaign as if both its energies were upper bounds."""

    def results(self):
        found = super().results()
        states = [
            g.model_copy(update={"residual_force": 0.4} if g.charge else {"lower_by": 0.1})
            for g in found.ground_states
        ]
        return found.model_copy(update={"ground_states": states})


def test_doped_is_told_which_energy_is_an_upper_bound(finished, tmp_path):
    api = Unfinished(finished.store, campaign_hash=finished.results.campaign_hash)
    export_doped(api, tmp_path / "bound.json")
    entries = loadfn(tmp_path / "bound.json").defect_entries.values()
    told = {
        e.charge_state: {k: e.calculation_metadata.get(k) for k in ("residual_force", "lower_by")}
        for e in entries
    }
    assert told == {
        0: {"residual_force": None, "lower_by": 0.1},
        -1: {"residual_force": 0.4, "lower_by": None},
    }


def test_doped_takes_only_verified_fidelities(finished, tmp_path):
    with pytest.raises(ResultsError, match="gfn2"):
        export_doped(finished.api, tmp_path / "t.json", fidelity="gfn1")
    with pytest.raises(ResultsError, match="state"):
        export_doped(finished.api, tmp_path / "t.json", state="converged")
    with pytest.raises(ResultsError, match="no verified"):
        export_doped(finished.api, tmp_path / "t.json", charge=5)
    assert export_doped(finished.api, tmp_path / "t.json", charge=-1) == 1


def test_tables_of_a_finished_campaign(finished):
    everything = Records(finished.store)
    states = everything.ground_states(campaign="tiny")
    by_charge = states.set_index("charge").energy_hf.to_dict()
    assert by_charge == {g.charge: g.energy_hf for g in finished.results.ground_states}
    assert set(states.fidelity) == {"gfn2"}
    assert everything.ground_states(campaign="tiny", charge=-1).charge.tolist() == [-1]
    assert everything.ground_states(fidelity="gfn1").empty
    levels = everything.transition_levels(campaign="tiny")
    assert levels.hf.tolist() == [lv.hf for lv in finished.results.transition_levels]
    assert everything.transition_levels(charge=3).empty
    errors = everything.metrics(campaign="tiny", charge=-1, fidelity="gfn2")
    assert set(errors.charge) == {-1}
    expected = [m for m in finished.results.metrics if (m.head, m.charge) == ("gfn2", -1)]
    assert sorted(errors.energy_rmse_cell) == sorted(m.energy_rmse_cell for m in expected)


def test_the_command_exports_a_campaign_that_ran_here(tmp_path, make_start, monkeypatch):
    from defect_mf_flows.campaign import campaign_hash, load_campaign
    from defect_mf_flows.local.store import disk_job_store
    from defect_mf_flows.testing import write_campaign
    from tests.results import conftest

    file = write_campaign(tmp_path)
    monkeypatch.setitem(conftest.HASHES, "one", campaign_hash(*load_campaign(file)))
    store = disk_job_store(tmp_path / "run")
    store.connect()
    conftest.fill(store, make_start).close()
    output = tmp_path / "frames.xyz"
    arguments = ["export", str(file), "--folder", str(tmp_path / "run"), "--to", "extxyz"]
    arguments += ["--charge", "-1", "--fidelity", "low", "-o", str(output)]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 0, answer.output
    images = read_extxyz(output)
    assert {a.info["charge"] for a in images} == {-1}
    assert {a.info["fidelity"] for a in images} == {"low"}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "--force" in again.output
    assert CliRunner().invoke(main, [*arguments, "--force"]).exit_code == 0
    asked = ["query", "calculations", "--folder", str(tmp_path / "run"), "--campaign", "two"]
    table = CliRunner().invoke(main, [*asked, "--state", "failed"])
    assert table.exit_code == 0
    assert len(table.output.splitlines()) == 3
