"""Train the multi-fidelity model."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Maker, Response, job

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.starts import derived_seed
from defect_mf_flows.jobs.common import WITH_STORE, job_store, own_uuid, read_output
from defect_mf_flows.jobs.dataset import read_frames
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.settings import get_settings


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
    """

    name: str = "train"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    seed: int = 1

    @job(data=["blob", "parity"], config=WITH_STORE, output_schema=Model)
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
        model = train_committee(
            read_frames(dataset),
            dataset,
            settings=self.training,
            seed=derived_seed(self.seed, "training"),
            scratch=machine.scratch,
            threads=machine.threads,
        )
        return Response(output=model.model_copy(update={"job_uuid": own_uuid()}))
