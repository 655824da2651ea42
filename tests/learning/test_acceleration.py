"""Devices and kernels that a machine lacks are refused before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mace  # noqa: F401, isort: skip  (before e3nn)
import torch

from defect_mf_flows.campaign import TrainingSettings, load_learning
from defect_mf_flows.errors import CampaignError, TrainingError
from defect_mf_flows.learning.acceleration import accelerated, check_device, plain
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from tests.conftest import Labelled

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="what a machine WITHOUT GPU says")


def test_kernels_on_a_cpu_are_refused_where_they_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("training: {enable_cueq: true}\n")
    with pytest.raises(CampaignError, match=r"enable_cueq needs an NVIDIA GPU; set device: cuda"):
        load_learning(file)
    with pytest.raises(TrainingError, match="needs an NVIDIA GPU"):
        check_device("cpu", cueq=True)


def test_kernels_for_a_network_that_mace_does_not_know_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("training: {enable_cueq: true, device: cuda, charge_term: intensive}\n")
    with pytest.raises(CampaignError, match="charge_term 'intensive' has another"):
        load_learning(file)


@no_gpu
def test_a_gpu_that_is_not_there_stops_a_training_before_it_starts(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    settings = tiny.model_copy(update={"device": "cuda", "enable_cueq": True})
    with pytest.raises(TrainingError, match=r"'cuda' cannot be used on this machine.*device: cpu"):
        train(
            labelled.frames,
            labelled.dataset,
            settings=settings,
            seed=1,
            scratch=tmp_path,
            threads=1,
        )
    assert not list(tmp_path.iterdir())


@no_gpu
def test_a_gpu_that_is_not_there_stops_a_search(model: Model, labelled: Labelled) -> None:
    frame = labelled.frames[0]
    with pytest.raises(TrainingError, match="'cuda' cannot be used"):
        relax([frame.structure], [frame.charge], model, "high", 0.1, 1, device="cuda")


def test_a_search_takes_the_precision_that_it_is_told(model: Model, labelled: Labelled) -> None:
    structures = [frame.structure for frame in labelled.frames[:3]]
    double = Potential(model, head="high", dtype="float64")
    single = Potential(model, head="high", dtype="float32")
    assert next(single.network.parameters()).dtype == torch.float32
    one, other = double.predict(structures), single.predict(structures)
    for (energy, forces), (less, rougher) in zip(one, other, strict=True):
        assert energy == pytest.approx(less, abs=1e-3)
        assert energy != less
        assert np.abs(forces - rougher).max() < 1e-3
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.skipif(
    find_spec("cuequivariance_torch") is None,
    reason="needs cuequivariance-torch, whose conversion also runs on a CPU",
)
def test_the_kernels_give_the_same_energies_and_leave_a_plain_network(
    model: Model, labelled: Labelled
) -> None:
    structures = [frame.structure for frame in labelled.frames[:3]]
    potential = Potential(model, head="high")
    before = potential.predict(structures)
    asked = {"enable_cueq": True}
    whole = potential.network
    potential.network = accelerated(whole, asked)
    assert type(potential.network.interactions[0].linear).__module__.startswith("cuequivariance")
    fast = potential.predict(structures)
    potential.network = plain(potential.network, asked)
    after = potential.predict(structures)
    assert set(potential.network.state_dict()) == set(whole.state_dict())
    for one, other, third in zip(before, fast, after, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-6)
        assert one[0] == pytest.approx(third[0], abs=1e-9)
        assert np.abs(one[1] - other[1]).max() < 1e-6
