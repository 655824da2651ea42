"""Levels from a campaign's own relaxations, by the command that imported ones go through."""

from __future__ import annotations

import pytest

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results import Records
from defect_mf_flows.results.concentrations import ConcentrationOptions
from defect_mf_flows.results.levels import LevelOptions, stored_levels
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind


def test_the_levels_of_a_campaign_are_those_that_it_verified(finished):
    high = finished.results.fidelities["high"]
    report = stored_levels(Records(finished.store), LevelOptions(fidelity=high))
    found = {(x.defect, x.from_charge, x.to_charge): x.energy for x in report.levels}
    verified = {
        (x.defect, x.from_charge, x.to_charge): x.hf for x in finished.results.transition_levels
    }
    assert found
    assert {k: v for k, v in verified.items() if k in found} == pytest.approx(found, abs=1e-6)


def test_only_ends_of_relaxations_count(finished):
    high = finished.results.fidelities["high"]
    report = stored_levels(Records(finished.store), LevelOptions(fidelity=high))
    ended = [
        c
        for c in Records(finished.store).documents(Calculation, fidelity=high)
        if c.kind is CalculationKind.RELAX and c.converged
    ]
    assert sorted(s.energy for s in report.states) == sorted(c.final_energy for c in ended)
    assert len({s.label for s in report.states}) == len(ended), "labels tell minima apart"


def test_a_campaign_has_two_fidelities_and_one_must_be_chosen(finished):
    with pytest.raises(ResultsError, match="2 fidelities"):
        stored_levels(Records(finished.store), LevelOptions())


def test_a_campaigns_defects_have_concentrations(finished):
    ground = next(g for g in finished.results.ground_states if g.charge == 0)
    high = finished.results.fidelities["high"]
    host = next(
        c for c in Records(finished.store).documents(Calculation, fidelity=high) if c.defect is None
    )
    mu = host.final_energy - ground.energy_hf + 2.0  # the neutral vacancy costs 2 eV to form
    options = LevelOptions(
        fidelity=high,
        mu={"Zn": mu},
        concentrations=ConcentrationOptions((900.0,), masses=(0.2, 0.8)),
    )
    (found,) = stored_levels(Records(finished.store), options).concentrations
    neutral = next(d for d in found.defects if d.charge == 0)
    assert neutral.formation == pytest.approx(2.0, abs=1e-4)
    assert {d.charge for d in found.defects} == {g.charge for g in finished.results.ground_states}
