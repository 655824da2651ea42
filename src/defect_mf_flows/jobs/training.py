"""Train the multi-fidelity model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from jobflow import Maker, Response, job

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.starts import derived_seed
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.jobs.common import WITH_STORE, job_store, own_uuid, read_output
from defect_mf_flows.jobs.dataset import read_frames
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.settings import get_settings

logger = logging.getLogger(__name__)


@dataclass
class TrainMaker(Maker):
    """Trains a MACE, or a committee, with a head per fidelity and a total-charge embedding.

    Parameters
    ----------
    name
        Job name.
    training
        Hyperparameters.
    seed
        Campaign seed.
    familiarity
        Whether to collect what the model has seen, which ``search.trust`` needs.
    """

    name: str = "train"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 1
    familiarity: bool = False

    @job(
        data=["blob", "parity", "descriptors", "familiarity"],
        config=WITH_STORE,
        output_schema=Model,
    )
    def make(self, dataset_uuid: str) -> Response:
        """Train on a dataset; a killed job continues from its last checkpoint.

        Parameters
        ----------
        dataset_uuid
            uuid of the job that assembled the dataset.

        Returns
        -------
        Model
            With its file in the additional store.
        """
        from defect_mf_flows.learning.committee import train_committee

        machine = get_settings()
        dataset = read_output(job_store(), dataset_uuid, Dataset, load=True)
        frames = read_frames(dataset)
        model = train_committee(
            frames,
            dataset,
            settings=self.training,
            seed=derived_seed(self.seed, "training"),
            scratch=machine.scratch,
            threads=machine.threads,
        )
        found = {"job_uuid": own_uuid(), **_maps(model, frames, dataset)}
        if self.familiarity:
            from defect_mf_flows.learning.familiarity import familiarity

            found["familiarity"] = familiarity(model, frames, dataset)
        return Response(output=model.model_copy(update=found))


def _maps(model: Model, frames: list[Frame], dataset: Dataset) -> dict[str, Any]:
    """Maps of descriptors, or why there are none."""
    from defect_mf_flows.learning.descriptors import descriptor_maps

    try:
        return {"descriptors": descriptor_maps(model, frames, dataset)}
    except (ChargeError, FidelityError):
        raise
    except Exception as error:  # a figure must not cost a training of hours
        logger.exception("no map of descriptors for model %s", model.model_hash[:12])
        return {"descriptors_missing": f"{type(error).__name__}: {str(error)[:300]}"}
