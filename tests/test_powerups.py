"""Routing: every job, those made later included, has its category and limits."""

import pytest
from jobflow.managers.fireworks import flow_to_workflow
from pydantic import ValidationError

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.jobs.acquire import AcquireMaker
from defect_mf_flows.jobs.curvature import model_curvature
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.powerups import VERSION_KEY, package_version, route, stamp
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.routing import Resources, Routing

HYBRID = Resources(category="hybrid", walltime="48:00:00", nodes=2)


@pytest.fixture
def flow(tiny_campaign):
    campaign, structure = load_campaign(tiny_campaign)
    made = CampaignMaker.from_campaign(campaign).make(structure)
    return stamp(route(made, Routing(fidelities={"gfn2": HYBRID}), campaign.heads))


def spawned(flow, job, name):
    """Apply to a job what the flow would apply to one that it spawns."""
    job.name = name
    for update in flow.jobs[0].config_updates:
        job.update_config(**update, dynamic=False)
    return job.config


def test_static_jobs_are_bookkeeping_and_carry_the_version(flow):
    for firework in flow_to_workflow(flow).fws:
        assert firework.spec["_category"] == "dft"
        assert firework.spec["_queueadapter"]["walltime"] == "01:00:00"
        assert firework.spec[VERSION_KEY] == package_version()


def test_a_named_fidelity_gets_its_own_limits_and_no_other_does(flow, tiny_campaign):
    campaign, _ = load_campaign(tiny_campaign)
    explore = flow.jobs[1].maker
    assert set(campaign.heads) == {"gfn1", "gfn2"}
    for kind in CalculationKind:
        hybrid = spawned(flow, explore.relax.make(None), f"v_Zn -1 | Dimer | gfn2 {kind.value}")
        assert hybrid.manager_config == HYBRID.manager_config()
        low = spawned(flow, explore.relax.make(None), f"v_Zn -1 | Dimer | gfn1 {kind.value}")
        assert low.manager_config == Routing().reference.manager_config()


def test_jobs_that_ask_the_model_for_energies_go_where_a_model_can_be_loaded(flow):
    verify, acquire = VerifyMaker(), AcquireMaker()
    jobs = [
        verify.make("u", "u", "u", "u", None),
        verify.judge("u", "u", None, "u", []),
        verify.weigh("u", "u", None, "u", []),
        model_curvature(None, "u", "cpu"),
        acquire.make("u", "u", None),
    ]
    for job in jobs:
        found = spawned(flow, job, "anything").manager_config
        assert found == Routing().search.manager_config()
    assert Routing().search.category != Routing().bookkeeping.category


def test_routing_keeps_what_else_a_job_is_configured_to_do(flow):
    assert flow.jobs[1].config.expose_store is True


def test_jobs_do_not_hand_their_routing_down(flow):
    assert all(job.config.pass_manager_config is False for job in flow.jobs)


@pytest.mark.parametrize("walltime", ["soon", "1h", "24:00:00; rm -rf /"])
def test_a_walltime_that_a_queue_would_not_understand_is_refused(walltime):
    with pytest.raises(ValueError, match="walltime"):
        Resources(category="dft", walltime=walltime)


@pytest.mark.parametrize("text", ["gpu\n#SBATCH --wrap=x", "a\rb", "caf\u00e9", "x" * 501])
@pytest.mark.parametrize("field", ["queue", "account"])
def test_what_a_batch_script_gets_is_one_line(field, text):
    with pytest.raises(ValidationError, match=field):
        Resources(category="dft", **{field: text})
    with pytest.raises(ValidationError, match="extra"):
        Resources(category="dft", extra={"constraint": text})
    assert Resources(category="dft", **{field: "gpu-long"}).manager_config()
