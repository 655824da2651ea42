"""High-fidelity points on configuration coordinate diagrams: a known error, a real engine."""

from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.core.ccd import HBAR, mass_weighted_distance, oriented
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.report.ccd_figure import ccd_lines, write_ccd
from defect_mf_flows.results.ccd import coordinate_diagram
from defect_mf_flows.results.ccd_checks import checked, single_points
from defect_mf_flows.schemas.calculation import (
    Calculation,
    CalculationKind,
    EngineRecord,
    Failure,
    FailureReason,
)
from defect_mf_flows.schemas.ccd import CoordinateDiagram
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.testing import write_campaign
from tests.results.test_ccd import results, springs


class Stiffer:
    """High fidelity whose springs are a tenth stiffer, on a scale of energies of its own."""

    def __init__(self, fails: set[str] | None = None) -> None:
        self.fails, self.seen = fails or set(), []

    def __call__(self, start: StartStructure) -> Calculation:
        assert charge_of(start.structure) == start.charge
        self.seen.append((start.charge, start.label))
        base = -50.0 - 3 * start.charge
        energy = 1.1 * (springs([start.structure])[0] - base) - 777.0 + 5 * start.charge
        failed = f"{start.charge:+d} {start.label}" in self.fails
        failure = Failure(
            stage="test", reason=FailureReason.SCF, message="no SCF", charge=start.charge,
            start=start.label,
        )  # fmt: skip
        return Calculation(
            job_uuid=start.label,
            kind=CalculationKind.STATIC,
            fidelity="hse",
            defect=start.defect,
            charge=start.charge,
            start=start.label,
            n_atoms=len(start.structure),
            converged=not failed,
            failure=failure if failed else None,
            n_calls=1,
            seconds=0.0,
            engine=EngineRecord(name="test", version="1"),
            final_energy=None if failed else energy,
            final_structure=None if failed else start.structure,
            n_frames=0,
        )


@pytest.fixture(scope="module")
def diagram() -> CoordinateDiagram:
    return coordinate_diagram(results(), "v_Zn", (0, -1), springs)


def test_the_error_of_a_softer_model_is_found(diagram: CoordinateDiagram) -> None:
    high = Stiffer()
    found = checked(diagram, results(), high, springs, points=5)
    assert len(high.seen) == 10
    assert {q for q, _ in high.seen} == {0, -1}
    for curve in found.curves:
        mine = [p for p in found.checks if p.charge == curve.charge]
        assert [p.q for p in mine] == pytest.approx([k / 4 * found.dq for k in range(5)])
        own = mine[0] if curve.charge == 0 else mine[-1]
        assert own.high == own.model == 0.0
        for point in mine:
            assert point.high == pytest.approx(1.1 * point.model, abs=1e-6)
        errors = [p.high - p.model for p in mine if p is not own]
        expected = (sum(e**2 for e in errors) / 4) ** 0.5
        assert found.check_rmse[f"{curve.charge:+d}"] == pytest.approx(expected)
    assert "model against high fidelity on 5 points" in "\n".join(ccd_lines(found))


def test_a_point_that_fails_is_left_out_and_named(diagram: CoordinateDiagram) -> None:
    found = checked(diagram, results(), Stiffer({"+0 coordinate 0.500"}), springs, points=3)
    assert len(found.checks) == 5
    assert "v_Zn 0, coordinate 0.500: high fidelity failed (no SCF); left out" in found.notes
    with pytest.raises(ResultsError, match=r"v_Zn -1, coordinate 1.000: .* own minimum"):
        checked(diagram, results(), Stiffer({"-1 coordinate 1.000"}), springs, points=3)


def test_the_figure_shows_the_points(diagram: CoordinateDiagram, tmp_path: Path) -> None:
    write_ccd(diagram, tmp_path / "without.svg")
    write_ccd(checked(diagram, results(), Stiffer(), springs, points=5), tmp_path / "with.svg")
    plain, marked = ((tmp_path / f"{n}.svg").read_text() for n in ("without", "with"))
    assert "high fidelity" not in plain
    assert marked.count("<use") >= plain.count("<use") + 10


def test_a_campaigns_engine_computes_each_point_once(finished: Any, tmp_path: Path) -> None:
    campaign, _ = load_campaign(write_campaign(tmp_path))
    grounds = {g.charge: g.structure for g in finished.results.ground_states}
    minima = {0: grounds[0], -1: oriented(grounds[0], grounds[-1])}

    def energies(structures: list[Structure]) -> list[float]:
        """Parabolas: the tiny model of the tests need not have minima here."""
        distances = [mass_weighted_distance(minima[charge_of(s)], s) for s in structures]
        return [0.5 * (0.03 / HBAR * d) ** 2 for d in distances]

    found = coordinate_diagram(finished.results, "v_Zn", (0, -1), energies)
    compute = single_points(campaign, finished.store, tmp_path / "runs")

    def stored() -> int:
        return finished.store.count({"output.@class": "Calculation"})

    before = stored()
    first = checked(found, finished.results, compute, energies, points=2)
    computed = stored() - before
    assert 1 <= computed <= 4, "a verified minimum may be in the store already"
    again = checked(found, finished.results, compute, energies, points=2)
    assert stored() == before + computed
    assert again == first
    for ground, point in zip(finished.results.ground_states, (0, 3), strict=True):
        assert first.checks[point].charge == ground.charge
        assert first.checks[point].high == 0.0
