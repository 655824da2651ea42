"""The command line, as a new user meets it."""

import pytest
import yaml
from click.testing import CliRunner

from defect_mf_flows.campaign import Campaign
from defect_mf_flows.cli import main
from defect_mf_flows.testing import write_campaign
from defect_mf_flows.testing.vasp import VASP_CHANGES, vasp_stand_in

COMMANDS = ["validate", "run", "status", "results", "report", "doctor", "web"]
COMMANDS += ["init", "setup", "submit", "pause", "resume", "cancel", "retry", "worker"]
COMMANDS += ["export", "query", "host"]


@pytest.fixture
def call():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call, command):
    answer = call(command, "--help")
    assert answer.exit_code == 0
    assert "Usage:" in answer.output
    assert len(answer.output.splitlines()) > 4


def test_a_valid_campaign_is_summarised(call, tmp_path):
    answer = call("validate", write_campaign(tmp_path))
    assert answer.exit_code == 0
    assert "tiny: valid" in answer.output
    assert "v_Zn: 0, -1" in answer.output


def test_a_typo_is_refused_in_one_message_with_the_nearest_key(call, tmp_path):
    answer = call("validate", write_campaign(tmp_path, {"training.max_epoch": 3}))
    assert answer.exit_code == 1
    assert "training.max_epoch" in answer.output
    assert "max_epochs" in answer.output
    assert "Traceback" not in answer.output


def test_run_refuses_bad_input_before_it_makes_a_folder(call, tmp_path):
    bad = write_campaign(tmp_path, {"defects.charges": {"v_Zn": [500]}})
    answer = call("run", bad, "--folder", tmp_path / "out")
    assert answer.exit_code == 1
    assert "leaves no electrons" in answer.output
    assert not (tmp_path / "out").exists()


def test_the_schema_is_a_campaign_file_with_every_field(call):
    answer = call("validate", "--schema")
    assert answer.exit_code == 0
    content = yaml.safe_load(answer.output)
    assert set(content) == set(Campaign.model_fields)
    assert "max_epochs" in content["training"]


@pytest.mark.parametrize("command", ["status", "results", "report"])
def test_reading_what_was_never_run_names_the_remedy(call, tmp_path, command):
    answer = call(command, write_campaign(tmp_path), "--folder", tmp_path / "nothing")
    assert answer.exit_code == 1
    assert "defect-mf run" in answer.output


def test_doctor_shows_that_the_charge_reaches_the_engine(call):
    answer = call("doctor")
    assert "charge reaches the engine: E(+2) - E(0)" in answer.output
    assert answer.exit_code == 0


def test_status_needs_a_campaign_or_a_site(call, tmp_path, monkeypatch):
    monkeypatch.delenv("DEFECT_MF_SITE", raising=False)
    assert "give a CAMPAIGN file, or --site" in call("status").output
    campaign = write_campaign(tmp_path)
    both = call("status", campaign, "--folder", tmp_path, "--site", tmp_path)
    assert "not both" in both.output
    monkeypatch.setenv("DEFECT_MF_SITE", str(tmp_path))
    assert "Nothing was run" in call("status", campaign, "--folder", tmp_path).output


def test_validate_shows_what_low_and_high_fidelity_tell_vasp_without_potcars(call, tmp_path):
    answer = call("validate", write_campaign(tmp_path, VASP_CHANGES))
    assert answer.exit_code == 0, answer.output
    neutral, charged = answer.output.split("v_Zn 0\n")[1].split("v_Zn -1\n")
    for cell, electrons in ((neutral, "POTCARs (both)"), (charged, "POTCARs + 1 (both)")):
        shown = {line.split()[0]: line.split()[1:] for line in cell.splitlines() if line.strip()}
        assert shown["LHFCALC"] == ["-", "True"]
        assert shown["AEXX"] == ["-", "0.25"]
        assert shown["HFSCREEN"] == ["-", "0.2"]
        assert shown["NSW"] == ["15", "0"]
        assert electrons in cell
        assert shown["KPOINTS"] == ["Gamma", "1", "1", "1", "(both)"]
        assert not {"ENCUT", "GGA", "POTCAR", "POTCARs", "ISIF"} & set(shown), "these agree"


def test_validate_tells_which_potcars_and_which_grid_each_fidelity_gets(call, tmp_path):
    changes = {
        **VASP_CHANGES,
        "fidelities.pbe.settings.potcar_functional": "PBE_64",
        "fidelities.hse06.settings": {"functional": "HSE06", "encut": 300, "kpoint_density": 80},
        "fidelities.pbe.settings.incar": {"LREAL": "Auto"},
    }
    said = call("validate", write_campaign(tmp_path, changes)).output
    assert "valence electrons of the POTCARs + 1 (each of its own)" in said
    lines = [line.split(maxsplit=2)[2] for line in said.splitlines() if "POTCARs of " in line]
    assert lines == ["PBE_64                  PBE_54"] * 2
    grids = [" ".join(line.split()) for line in said.splitlines() if "KPOINTS" in line]
    assert grids == ["KPOINTS Gamma 1 1 1 Gamma 5 5 5, 80 per A^-3"] * 2
    assert "pbe: LREAL = Auto: projection in real space" in said
    auto = {**changes, "host.supercell": "auto"}
    said = call("validate", write_campaign(tmp_path, auto)).output
    assert "80 per A^-3" in said
    assert "5 5 5" not in said, "the supercell is not known yet"


def test_doctor_tells_what_vasp_needs(call, tmp_path):
    from defect_mf_flows.local.doctor import vasp_checks

    bare = {check.name: check for check in vasp_checks()}
    assert bare["POTCARs"].state == bare["VASP"].state == "missing"
    assert "PMG_VASP_PSP_DIR" in bare["POTCARs"].message
    assert "DEFECT_MF_VASP_CMD" in bare["VASP"].message
    with vasp_stand_in(tmp_path):
        ready = {check.name: check for check in vasp_checks()}
    assert ready["engine vasp"].state == ready["POTCARs"].state == ready["VASP"].state == "ok"
    assert "NELECT of ZnS with charge +1: 17" in ready["POTCARs"].message
