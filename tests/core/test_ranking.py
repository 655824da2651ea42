import pytest
from scipy.stats import norm

from defect_mf_flows.core.ranking import (
    contends,
    found_minima,
    lowest_shares,
    member_energies,
    worth_verifying,
)
from defect_mf_flows.schemas.search import (
    Candidate,
    Fate,
    FateKind,
    Minimum,
    Search,
    Verdict,
    Verification,
)


@pytest.fixture
def minima(vacancy):
    """Five, at 0, 0.1, 0.2, 0.3 and 0.4 eV, with spreads of 0, 0.05, 0.25, 0.1 and 0.9 eV."""

    def made(rank: int, spread: float) -> Minimum:
        half = spread / 2**0.5  # two members that differ by 2 half have this spread
        return Minimum(
            structure=vacancy.supercell,
            energy=0.1 * rank,
            starts=[f"start{rank}", "more"],
            fate=Fate(kind=FateKind.AT_SITE, name="v_Zn", distance=0.0),
            spread=spread,
            members=[0.1 * rank, 0.1 * rank + 2 * half],
        )

    return [made(rank, spread) for rank, spread in enumerate([0.0, 0.05, 0.25, 0.1, 0.9])]


def candidate(rank, structure, **changes):
    values = {
        "origin": "model", "round": 2, "rank": rank, "start": f"start{rank}",
        "energy_model": 0.1 * rank, "structure": structure,
    }  # fmt: skip
    return Candidate(**{**values, **changes})


def test_minima_within_their_spread_of_the_lowest_are_verified_too(minima):
    assert [contends(m, minima[0]) for m in minima] == [False, False, True, False, True]
    assert worth_verifying(minima, certain=1, uncertain=2) == [0, 2, 4]
    assert worth_verifying(minima, certain=2, uncertain=1) == [0, 1, 4]
    assert worth_verifying(minima, certain=2, uncertain=0) == [0, 1]
    assert worth_verifying(minima[:1], certain=2, uncertain=2) == [0]


def test_without_a_committee_only_the_lowest_are_verified(minima):
    bare = [m.model_copy(update={"spread": None, "members": []}) for m in minima]
    assert worth_verifying(bare, certain=2, uncertain=5) == [0, 1]
    assert lowest_shares(bare, scale=1.0, seed=1) == [None] * 5


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_chance_to_be_the_lowest_is_that_of_a_normal_difference(minima, scale):
    first, second = lowest_shares([minima[0], minima[2]], scale=scale, seed=3)
    assert second == pytest.approx(norm.cdf(-0.2 / (scale * 0.25)), abs=0.02)
    assert first + second == pytest.approx(1.0)


def test_results_list_every_minimum_with_its_verdict(minima, vacancy):
    cell = vacancy.supercell
    search = Search(defect="v_Zn", charge=0, source="high", minima=minima, points=[])
    verification = Verification(
        defect="v_Zn", charge=0, round=2, verdict=Verdict.WRONG, reason="", model_ground=0,
        ground_state=1, energy_error=None,
        candidates=[
            candidate(0, cell, energy_relaxed=-7.0, basin=1, kept=True),
            candidate(2, cell, energy_relaxed=-7.3, basin=0, kept=True),
            candidate(4, cell),
            candidate(3, cell, round=1, energy_relaxed=-6.0, basin=2, kept=True),
        ],
    )  # fmt: skip
    found = found_minima(search, verification, scale=1.0, seed=1)
    assert [m.rank for m in found] == [0, 1, 2, 3, 4]
    assert [m.contender for m in found] == [False, False, True, False, True]
    assert found[0].verified == pytest.approx(0.3)
    assert found[2].verified == 0.0
    assert [m.verified for m in (found[1], found[3], found[4])] == [None] * 3
    assert sum(m.share for m in found) == pytest.approx(1.0)
    assert (found[3].n_starts, found[3].fate.name) == (2, "v_Zn")

    energies = member_energies(search, verification, shift=0.5)
    assert energies.verified == pytest.approx(-6.8)
    assert energies.anchor == 2
    assert energies.open == (1, 3, 4)
    assert energies.energies[0] == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert member_energies(search, None).verified is None


def test_the_lists_of_an_empty_search_are_empty(vacancy):
    search = Search(defect="v_Zn", charge=0, source="high", points=[])
    verification = Verification(
        defect="v_Zn", charge=0, round=1, verdict=Verdict.WRONG, reason="", model_ground=None,
        ground_state=None, energy_error=None,
    )  # fmt: skip
    assert found_minima(search, verification, scale=1.0, seed=1) == []
    assert member_energies(search, verification) is None
