"""The labelled frames that the repository brings: real PBE and HSE06, for anybody's tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from defect_mf_flows.core.charge import atoms_charge, atoms_fidelity, read_extxyz
from defect_mf_flows.learning.files import read_labelled

FILE = Path(__file__).resolve().parents[1] / "examples" / "data" / "si_vacancy_gpaw.extxyz.gz"


@pytest.fixture(scope="module")
def images() -> list[Atoms]:
    return read_extxyz(FILE)


def test_frames_of_both_functionals_and_three_charges_are_there(images: list[Atoms]) -> None:
    counts = Counter((atoms_fidelity(a), atoms_charge(a)) for a in images)
    assert counts == {
        ("pbe", 2): 92, ("pbe", 1): 106, ("pbe", 0): 124,
        ("hse06", 2): 6, ("hse06", 1): 17, ("hse06", 0): 27,
    }  # fmt: skip


def test_every_frame_has_energy_and_forces_that_add_up_to_little(images: list[Atoms]) -> None:
    for atoms in images:
        assert np.isfinite(atoms.info["REF_energy"])
        assert np.abs(atoms.arrays["REF_forces"].sum(axis=0)).max() < 0.2


def test_the_dataset_commands_take_the_file_as_it_is(images: list[Atoms]) -> None:
    labelled = read_labelled(FILE)
    assert [atoms_charge(a) for a in images] == [item.frame.charge for item in labelled]
    assert [a.info["REF_energy"] for a in images] == [item.frame.energy for item in labelled]
