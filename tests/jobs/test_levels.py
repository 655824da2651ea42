from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.jobs.levels import EFNV, MIXED, POINT_CHARGE, UNCORRECTED, CampaignLevels
from defect_mf_flows.schemas.calculation import BandEdges, FrontierLevel
from defect_mf_flows.schemas.model import Calibration
from defect_mf_flows.schemas.search import (
    Candidate,
    Minimum,
    Search,
    SearchSet,
    Verdict,
    Verification,
    VerificationSet,
)

EDGES = BandEdges(vbm=-9.8, cbm=-7.0)
VERIFIED = {2: -100.0, 1: -106.0, 0: -118.0}


def cell() -> Structure:
    atoms = bulk("ZnS", "zincblende", a=5.41, cubic=True).repeat((2, 2, 1))
    return Structure(
        Lattice(atoms.cell), atoms.get_chemical_symbols(), atoms.get_scaled_positions()
    )


def campaign_levels(dielectric=None, edges=EDGES) -> CampaignLevels:
    grounds = [
        SimpleNamespace(
            defect="v_S",
            charge=q,
            energy_hf=energy,
            energy_model=energy + 0.01 * q,
            is_upper_bound=False,
            low_unfinished=[],
            structure=with_charge(cell(), q),
        )
        for q, energy in VERIFIED.items()
    ]
    searches = [
        SimpleNamespace(defect="v_S", charge=q, minima=[SimpleNamespace(energy=energy + q)])
        for q, energy in VERIFIED.items()
    ]
    host = SimpleNamespace(band_edges=edges, final_energy=-130.0, frontier=None)
    return CampaignLevels(
        SimpleNamespace(
            levels=SimpleNamespace(vbm=None, band_gap=None, dielectric=dielectric),
            roles=SimpleNamespace(low="low", high="high"),
            seed=1,
        ),
        SimpleNamespace(defects=[SimpleNamespace(name="v_S")]),
        SimpleNamespace(searches=searches),
        {"low": host, "high": host},
        grounds,
    )


def by_source(made: CampaignLevels) -> dict[str, dict[int, float]]:
    return {f.source: dict(zip(f.charges, f.energies, strict=True)) for f in made.formation()}


def test_formation_energies_count_from_the_least_charged_state():
    found = by_source(campaign_levels())
    assert found["hf"] == pytest.approx({2: 18 - 19.6, 1: 12 - 9.8, 0: 0.0})
    assert found["model"][1] == pytest.approx(found["hf"][1] + 0.01)
    assert found["low"][2] == pytest.approx(found["hf"][2] + 2)


def test_negative_u_is_told_per_source():
    found = campaign_levels().skipped()
    assert {(s.source, s.charge) for s in found} == {("hf", 1), ("model", 1), ("low", 1)}
    assert all(s.lower < s.upper for s in found)


def test_a_dielectric_constant_adds_the_same_labelled_correction_to_every_source():
    plain, corrected = campaign_levels(), campaign_levels(dielectric=10.0)
    assert plain.method == UNCORRECTED
    assert plain.corrections() == []
    assert corrected.method == POINT_CHARGE
    shift = {c.charge: c.energy for c in corrected.corrections()}
    assert shift[2] == pytest.approx(4 * shift[1])
    assert shift[1] > 0
    before, after = by_source(plain), by_source(corrected)
    for source in ("hf", "model", "low"):
        for q in (1, 2):
            assert after[source][q] - before[source][q] == pytest.approx(shift[q])


def relaxed(charge: int, potentials: np.ndarray | None) -> SimpleNamespace:
    """A vacancy's calculation; the first S atom is missing."""
    structure = cell()
    structure.remove_sites([i for i, s in enumerate(structure) if s.specie.symbol == "S"][:1])
    return SimpleNamespace(
        final_structure=with_charge(structure, charge),
        site_potentials=None if potentials is None else potentials.tolist(),
        frontier=None,
        job_uuid=f"verified {charge:+d}",
    )


def with_potentials(step: float, known=(1, 2)) -> CampaignLevels:
    """Every core potential of a charged cell lies ``step`` times its charge above the host's."""
    made = campaign_levels(dielectric=10.0)
    host = SimpleNamespace(
        band_edges=EDGES,
        frontier=None,
        final_energy=-130.0,
        final_structure=cell(),
        site_potentials=np.linspace(-60, -40, 32).tolist(),
        job_uuid="host",
    )
    made.hosts = {"low": host, "high": host}
    kept = np.delete(np.array(host.site_potentials), 16)
    for charge in known:
        own = relaxed(charge, kept + step * charge)
        assert len(own.final_structure) == len(kept)
        made.verified = {**made.verified, ("v_S", charge): own}
    return made


def test_core_potentials_of_host_and_minimum_give_efnv_corrections():
    made = with_potentials(0.05)
    assert made.method == EFNV
    zero = {c.charge: c for c in with_potentials(0.0).corrections()}
    for correction in made.corrections():
        q = correction.charge
        assert correction.source == [f"verified {q:+d}", "host"]
        assert correction.defect == "v_S"
        # A constant potential of 0.05 q everywhere is aligned away: -q times itself.
        assert correction.energy - zero[q].energy == pytest.approx(-q * 0.05 * q)
        assert correction.far_potential == pytest.approx(zero[q].far_potential + 0.05 * q)
    before, after = by_source(campaign_levels()), by_source(made)
    shift = {c.charge: c.energy for c in made.corrections()}
    for source in ("hf", "model", "low"):
        assert after[source][2] - before[source][2] == pytest.approx(shift[2])


def test_a_minimum_without_core_potentials_is_told_apart():
    made = with_potentials(0.05, known=(1,))
    assert made.method == MIXED
    assert {c.charge: str(c.method) for c in made.corrections()} == {
        1: "eFNV",
        2: "point charge",
    }


def test_potentials_that_do_not_fit_are_refused_in_the_label():
    made = with_potentials(0.05)
    made.hosts["high"].site_potentials.pop()
    assert [str(c.method) for c in made.corrections()] == ["point charge", "point charge"]
    assert made.method.startswith(POINT_CHARGE)
    assert "no eFNV for v_S +2: 31 site potentials for 32 atoms" in made.method


def test_an_anisotropic_tensor_is_used_whole():
    tensor = np.diag([5.0, 5.0, 40.0]).tolist()
    assert campaign_levels(tensor).corrections() != campaign_levels([5.0, 5.0, 5.0]).corrections()


def test_without_band_edges_there_is_no_diagram():
    assert campaign_levels(edges=None).formation() == []


# -- where the sources differ -------------------------------------------------------------


def of_vacancy(defect_set, low: dict[int, float], **changes) -> CampaignLevels:
    """Levels of a real defect, whose low fidelity has energies of its own."""
    made = campaign_levels(**changes)
    made.defects = defect_set
    for ground in made.grounds:
        ground.defect = "v_Zn"
        ground.energy_hf = ground.energy_model = {2: -100.0, 1: -108.5, 0: -116.0}[ground.charge]
    made.exploration.searches = [
        SimpleNamespace(defect="v_Zn", charge=q, minima=[SimpleNamespace(energy=energy)])
        for q, energy in low.items()
    ]
    return made


def test_a_level_that_only_the_low_fidelity_has_is_told(defect_set):
    # Verified: (+2/+1) below (+1/0). Low fidelity: negative U, so (+2/0) and nothing between.
    made = of_vacancy(defect_set, {2: -100.0, 1: -107.5, 0: -116.0})
    found = {(level.from_charge, level.to_charge): level for level in made.levels()}
    assert set(found) == {(2, 1), (1, 0), (2, 0)}
    only = found[2, 0]
    assert (only.hf, only.model, only.thermodynamic) == (None, None, False)
    assert only.low == pytest.approx(-8.0 - EDGES.vbm)
    assert found[2, 1].thermodynamic
    assert found[1, 0].thermodynamic
    assert found[2, 1].low == pytest.approx(-7.5 - EDGES.vbm)


def test_with_one_low_fidelity_ground_state_open_the_low_fidelity_has_no_levels(defect_set):
    made = of_vacancy(defect_set, {2: -100.0, 1: -107.5, 0: -116.0})
    assert any(level.low is not None for level in made.levels())
    made.grounds[0].low_unfinished = ["Dimer"]
    assert all(level.low is None for level in made.levels())
    assert any(level.hf is not None for level in made.levels())
    assert {f.source for f in made.formation()} == {"hf", "model"}


def test_given_band_edges_are_those_of_the_high_fidelity_alone(defect_set):
    low = {2: -100.0, 1: -108.5, 0: -116.0}
    own, given = of_vacancy(defect_set, low), of_vacancy(defect_set, low)
    given.campaign.levels.vbm, given.campaign.levels.band_gap = -8.8, 3.7
    assert given.band_edges("high") == BandEdges(vbm=-8.8, cbm=-8.8 + 3.7)
    assert given.band_edges("low") == EDGES
    for before, after in zip(own.levels(), given.levels(), strict=True):
        assert after.hf == pytest.approx(before.hf - 1.0)
        assert after.model == pytest.approx(before.model - 1.0)
        assert after.low == before.low


def test_a_low_fidelity_without_band_edges_has_no_levels_whatever_is_given(defect_set):
    made = of_vacancy(defect_set, {2: -100.0, 1: -108.5, 0: -116.0}, edges=None)
    made.campaign.levels.vbm, made.campaign.levels.band_gap = -8.8, 3.7
    assert [level.low for level in made.levels()] == [None, None]
    assert {f.source for f in made.formation()} == {"hf", "model"}


# -- carriers in the host's bands ---------------------------------------------------------

GAMMA = (0.0, 0.0, 0.0)


def bands(occupied: float, empty: float) -> list[FrontierLevel]:
    return [FrontierLevel(kpoint=GAMMA, occupied=occupied, empty=empty)]


def test_levels_of_a_charge_whose_relaxation_ran_out_of_steps_are_marked(defect_set):
    made = of_vacancy(defect_set, {})
    made.grounds[0].is_upper_bound = True
    charge = made.grounds[0].charge
    marked = {(lv.from_charge, lv.to_charge): lv.unfinished for lv in made.levels()}
    assert any(marked.values())
    assert marked == {pair: [charge] if charge in pair else [] for pair in marked}


def test_levels_of_a_shallow_charge_are_marked(defect_set):
    made = of_vacancy(defect_set, {2: -100.0, 1: -108.5, 0: -116.0})
    made.hosts["high"].frontier = bands(EDGES.vbm, EDGES.cbm)
    for charge, highest in ((2, -9.8), (1, -8.5), (0, -7.0)):  # of 0 at the conduction band
        own = relaxed(charge, None)
        own.frontier = bands(highest, -6.5)
        made.verified = {**made.verified, ("v_Zn", charge): own}
    assert list(made.perturbed) == [("v_Zn", 0)]
    assert "electron in the conduction band" in made.perturbed["v_Zn", 0]
    marked = {(lv.from_charge, lv.to_charge): lv.perturbed_host for lv in made.levels()}
    assert marked == {(2, 1): [], (1, 0): [0]}


def test_shallow_levels_are_told_after_the_potentials_are_aligned():
    made = with_potentials(0.5, known=(2,))
    made.hosts["high"].frontier = bands(EDGES.vbm, EDGES.cbm)
    own = made.verified["v_S", 2]
    # Far away the potential is 1 V higher, so every electron's energy is 1 eV lower.
    own.frontier = bands(EDGES.cbm - 1.0, EDGES.cbm)
    assert list(made.perturbed) == [("v_S", 2)]
    own.site_potentials = None
    again = with_potentials(0.5, known=())
    again.hosts["high"].frontier = made.hosts["high"].frontier
    again.verified = {("v_S", 2): own}
    assert again.perturbed == {}


# -- a committee of three -----------------------------------------------------------------

DEVIATION = {2: [0.0, -0.2, 0.2], 1: [0.0, -0.1, 0.1], 0: [0.0, 0.0, 0.0]}


def searches(members: bool = True) -> SearchSet:
    """One minimum per charge; the members' energies differ by multiples of each other."""
    return SearchSet(
        searches=[
            Search(
                defect="v_S",
                charge=q,
                source="high",
                points=[],
                minima=[
                    Minimum(
                        structure=cell(),
                        energy=energy + 0.01 * q,
                        starts=["a"],
                        members=[energy + 0.01 * q + d for d in DEVIATION[q]] if members else [],
                    )
                ],
            )
            for q, energy in VERIFIED.items()
        ]
    )


def verdicts() -> VerificationSet:
    return VerificationSet(
        calculations=[],
        high_calls=0,
        verifications=[
            Verification(
                defect="v_S",
                charge=q,
                round=1,
                verdict=Verdict.CONFIRMED,
                reason="",
                model_ground=0,
                ground_state=0,
                energy_error=0.0,
                candidates=[
                    Candidate(
                        origin="model",
                        round=1,
                        rank=0,
                        start="a",
                        energy_model=energy,
                        energy_relaxed=energy,
                        basin=0,
                        kept=True,
                        structure=cell(),
                    )
                ],
            )
            for q, energy in VERIFIED.items()
        ],
    )


def calibration(**changes) -> Calibration:
    values = {"head": "high", "scale": 9.0, "n": {}, "rmse": {}, "coverage": {}}
    return Calibration(**{**values, **changes})


def told(made, found=None, scale=None):
    return {u.source: u for u in made.uncertainty(found or searches(), verdicts(), scale)}


def test_the_committees_spread_reaches_the_levels():
    model = told(campaign_levels())["model"]
    widths = {(lv.from_charge, lv.to_charge): lv.sd for lv in model.levels}
    assert widths[2, 1] == pytest.approx(0.1, rel=0.03)
    assert widths[1, 0] == pytest.approx(0.1, rel=0.03)
    assert widths[2, 0] == pytest.approx(0.1, rel=0.03)
    levels = {(lv.from_charge, lv.to_charge): lv.energy for lv in model.levels}
    energies = by_source(campaign_levels())["model"]
    assert levels[2, 0] == pytest.approx((energies[0] - energies[2]) / 2)


def test_the_scale_of_absolute_energies_counts_for_levels():
    wide = told(campaign_levels(), scale=calibration(absolute_scale=2.0))["model"]
    assert wide.scale == 2.0
    assert wide.levels[0].sd == pytest.approx(0.2, rel=0.03)
    assert told(campaign_levels(), scale=calibration())["model"].scale == 9.0  # older documents


def test_verified_levels_are_sure_where_every_minimum_was_verified():
    for level in told(campaign_levels())["hf"].levels:
        assert level.sd == pytest.approx(0.0, abs=1e-9)
        assert level.stable == (1.0 if (level.from_charge, level.to_charge) == (2, 0) else 0.0)


def test_corrections_move_the_levels_and_not_their_width():
    plain, corrected = (told(campaign_levels(dielectric=d))["model"] for d in (None, 10.0))
    for before, after in zip(plain.levels, corrected.levels, strict=True):
        assert after.sd == pytest.approx(before.sd)
        assert after.energy != pytest.approx(before.energy)


def test_without_a_committee_or_band_edges_nothing_is_said():
    assert told(campaign_levels(), found=searches(members=False)) == {}
    assert told(campaign_levels(edges=None)) == {}
