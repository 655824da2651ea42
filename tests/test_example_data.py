"""The labelled frames that the repository brings: real PBE and HSE06, for anybody's tests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from defect_mf_flows.core.charge import atoms_charge, atoms_fidelity, read_extxyz
from defect_mf_flows.learning.files import read_labelled

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"

#: Frames per file, fidelity and charge; one neutral frame of each fidelity is the host.
COUNTS = {
    "si_vacancy_gpaw": {
        ("pbe", 2): 92, ("pbe", 1): 106, ("pbe", 0): 124,
        ("hse06", 2): 6, ("hse06", 1): 17, ("hse06", 0): 27,
    },
    "si_vacancy_labels_gpaw": {
        ("pbe", 2): 181, ("pbe", 0): 226, ("hse06", 2): 152, ("hse06", 0): 150,
    },
    "sb2se3_v_se_gpaw": {
        ("pbe", 2): 264, ("pbe", 0): 318, ("hse06", 2): 9, ("hse06", 0): 16,
    },
}  # fmt: skip

#: Frames whose forces add up to more, from densities that are converged to 1e-3 alone.
NOISY = {"sb2se3_v_se_gpaw": 3}


@pytest.fixture(scope="module", params=COUNTS)
def file(request: pytest.FixtureRequest) -> Path:
    return DATA / f"{request.param}.extxyz.gz"


@pytest.fixture(scope="module")
def images(file: Path) -> list[Atoms]:
    return read_extxyz(file)


def test_frames_of_both_functionals_and_every_charge_are_there(
    file: Path, images: list[Atoms]
) -> None:
    counts = Counter((atoms_fidelity(a), atoms_charge(a)) for a in images)
    assert counts == COUNTS[file.name.removesuffix(".extxyz.gz")]


def test_every_frame_has_energy_and_forces_that_add_up_to_little(
    file: Path, images: list[Atoms]
) -> None:
    assert all(np.isfinite(atoms.info["REF_energy"]) for atoms in images)
    net = [np.abs(atoms.arrays["REF_forces"].sum(axis=0)).max() for atoms in images]
    limit = 0.3  # plane waves of 200 eV
    noisy = [value for value in net if value >= limit]
    assert len(noisy) == NOISY.get(file.name.removesuffix(".extxyz.gz"), 0)
    assert max(net) < 0.5


def test_the_dataset_commands_take_the_file_as_it_is(file: Path, images: list[Atoms]) -> None:
    labelled = read_labelled(file)
    assert [atoms_charge(a) for a in images] == [item.frame.charge for item in labelled]
    assert [a.info["REF_energy"] for a in images] == [item.frame.energy for item in labelled]
