"""The whole campaign with VASP as the engine; the stand-in computes what VASP would."""

from __future__ import annotations

import json

import pytest
from monty.json import MontyDecoder, jsanitize
from pymatgen.io.vasp.inputs import Incar

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.jobs.levels import EFNV
from defect_mf_flows.results import Records
from defect_mf_flows.results.levels import LevelOptions, stored_levels
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.levels import CorrectionMethod
from defect_mf_flows.schemas.search import Verdict
from defect_mf_flows.testing import write_campaign
from defect_mf_flows.testing.vasp import VASP_CHANGES, vasp_stand_in


def test_makers_of_a_vasp_campaign_survive_the_database(tmp_path):
    campaign, structure = load_campaign(write_campaign(tmp_path, VASP_CHANGES))
    for job in CampaignMaker.from_campaign(campaign).make(structure).jobs:
        assert MontyDecoder().process_decoded(jsanitize(job.as_dict())).maker == job.maker


@pytest.mark.slow
def test_a_vasp_campaign_runs_from_host_to_levels(tmp_path, run_campaign_here):
    with vasp_stand_in(tmp_path / "machine") as environment:
        # run_campaign_here gives its folder as scratch.
        changes = {**VASP_CHANGES, "levels.dielectric": 9.0}
        run = run_campaign_here(_folder(tmp_path), changes)
    results = run.results
    assert [(g.defect, g.charge) for g in results.ground_states] == [("v_Zn", 0), ("v_Zn", -1)]
    assert all(g.verdict in Verdict for g in results.ground_states)
    assert results.transition_levels
    assert results.band_edges.gap > 1
    assert results.engines
    assert results.correction == EFNV, "from the potentials that VASP wrote"
    (correction,) = results.corrections
    assert correction.charge == -1
    assert correction.alignment != 0
    _check_levels_from_the_store(run, correction)
    calculations = list(run.api.documents(Calculation, load=True))
    assert {c.engine.name for c in calculations} == {"vasp"}
    assert {(c.fidelity, c.kind.value) for c in calculations} == {
        ("pbe", "relax"), ("pbe", "static"), ("hse06", "static"), ("hse06", "relax")
    }  # fmt: skip
    for calculation in calculations:
        for frame in calculation.frames:
            assert charge_of(frame.structure) == frame.charge == calculation.charge
            assert frame.fidelity == calculation.fidelity
    assert environment["DEFECT_MF_VASP_CMD"]
    _check_inputs(tmp_path / "campaign" / "scratch" / "vasp", calculations)
    _check_reuse(tmp_path, run_campaign_here, changes, run)


def _check_reuse(tmp_path, run_campaign_here, changes, run):
    """Another campaign of the same calculations runs no VASP for them."""
    (tmp_path / "again").mkdir()
    # A budget that is never reached makes it another campaign with the same model and search.
    more = {**changes, "name": "again", "reuse": True, "loop.max_high_calls": 10**6}
    with vasp_stand_in(tmp_path / "other machine"):
        again = run_campaign_here(tmp_path / "again", more, run.store)
    finished = [
        c for c in run.api.documents(Calculation) if c.fidelity == "pbe" and c.failure is None
    ]
    taken = sum(c.reused for c in again.results.cost if c.fidelity == "pbe")
    assert taken == len(finished) > 1
    grounds = [
        [(g.defect, g.charge, pytest.approx(g.energy_hf)) for g in r.ground_states]
        for r in (run.results, again.results)
    ]
    assert grounds[0] == grounds[1]


def _check_levels_from_the_store(run, correction):
    """The command for stored calculations finds the same potentials, without an OUTCAR."""
    options = LevelOptions(fidelity="hse06", dielectric=[9.0])
    states = stored_levels(Records(run.store), options).states
    charged = [s.correction for s in states if s.charge == -1]
    assert {c.method for c in charged} == {CorrectionMethod.EFNV}
    assert correction.energy in [pytest.approx(c.energy, abs=1e-9) for c in charged]


def _folder(tmp_path):
    folder = tmp_path / "campaign"
    folder.mkdir()
    return folder


def _check_inputs(scratch, calculations):
    """Every run that VASP did had the electrons of its charge and the tags of its functional."""
    for calculation in calculations:
        runs = sorted((scratch / calculation.job_uuid).glob("run_*"))
        assert runs, calculation.start
        for run in runs:
            tags = Incar.from_file(run / "INCAR")
            neutral = 3 * 12 + 4 * 6 if calculation.defect else 4 * 12 + 4 * 6
            assert tags["NELECT"] == neutral - calculation.charge
            assert tags.get("LHFCALC", False) == (calculation.fidelity == "hse06")
            assert json.loads((run / "outcome.json").read_text())["ended"]
