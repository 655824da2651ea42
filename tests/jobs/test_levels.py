from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.jobs.levels import POINT_CHARGE, UNCORRECTED, CampaignLevels
from defect_mf_flows.schemas.calculation import BandEdges

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
            structure=with_charge(cell(), q),
        )
        for q, energy in VERIFIED.items()
    ]
    searches = [
        SimpleNamespace(defect="v_S", charge=q, minima=[SimpleNamespace(energy=energy + q)])
        for q, energy in VERIFIED.items()
    ]
    host = SimpleNamespace(band_edges=edges, final_energy=-130.0)
    return CampaignLevels(
        SimpleNamespace(
            levels=SimpleNamespace(vbm=None, band_gap=None, dielectric=dielectric),
            roles=SimpleNamespace(low="low", high="high"),
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


def test_an_anisotropic_tensor_is_used_whole():
    tensor = np.diag([5.0, 5.0, 40.0]).tolist()
    assert campaign_levels(tensor).corrections() != campaign_levels([5.0, 5.0, 5.0]).corrections()


def test_without_band_edges_there_is_no_diagram():
    assert campaign_levels(edges=None).formation() == []
