"""The whole campaign as one dynamic flow."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Maker
from pymatgen.core import Structure

from defect_mf_flows.campaign import Campaign, campaign_hash
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.jobs.acquire import AcquireMaker
from defect_mf_flows.jobs.common import Stage, staged
from defect_mf_flows.jobs.dataset import DatasetMaker
from defect_mf_flows.jobs.defects import DefectsMaker
from defect_mf_flows.jobs.explore import ExploreMaker
from defect_mf_flows.jobs.loop import RoundMaker
from defect_mf_flows.jobs.picks import LabelMaker
from defect_mf_flows.jobs.results import ResultsMaker
from defect_mf_flows.jobs.search import SearchMaker
from defect_mf_flows.jobs.training import TrainMaker
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.frame import content_hash, structure_key


@dataclass
class CampaignMaker(Maker):
    """Host -> defects -> low-fidelity search -> picks -> loop -> levels.

    Parameters
    ----------
    name
        Name of the campaign.
    defects, explore, label, rounds, results
        Makers of the stages; exchange any of them.
    """

    name: str = "campaign"
    defects: DefectsMaker = field(default_factory=DefectsMaker)
    explore: ExploreMaker = field(default_factory=ExploreMaker)
    label: LabelMaker = field(default_factory=LabelMaker)
    rounds: RoundMaker = field(default_factory=RoundMaker)
    results: ResultsMaker = field(default_factory=ResultsMaker)

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> CampaignMaker:
        """Build all Makers from a campaign file's content.

        Parameters
        ----------
        campaign
            A checked campaign.

        Returns
        -------
        CampaignMaker
            Whose ``make`` takes the host's cell.
        """
        c, seed = campaign, campaign.seed
        low = reference_maker(
            c.roles.low, c.fidelities[c.roles.low], CalculationKind.RELAX, reuse=c.reuse
        )
        high = reference_maker(
            c.roles.high,
            c.fidelities[c.roles.high],
            CalculationKind.RELAX,
            reuse=c.reuse,
            guide=low if c.verification.guided else None,
        )
        statics = {
            name: reference_maker(name, c.fidelities[name], CalculationKind.STATIC, reuse=c.reuse)
            for name in c.heads
        }
        return cls(
            name=c.name,
            defects=DefectsMaker(host=c.host, defects=c.defects),
            explore=ExploreMaker(
                relax=low,
                host_statics=[statics[name] for name in c.heads],
                starts=c.starts,
                defects=c.defects,
                matching=c.matching,
                seed=seed,
            ),
            label=LabelMaker(
                statics=[statics[name] for name in c.heads[1:]],
                relax=high,
                frames=c.frames,
                picks=c.picks,
                starts=c.starts,
                defects=c.defects,
                verification=c.verification,
                imports={n: c.fidelities[n] for n in c.heads} if c.frames.imported else {},
                seed=seed,
            ),
            rounds=RoundMaker(
                dataset=DatasetMaker(
                    heads=c.heads,
                    frames=c.frames,
                    split=c.split,
                    verification_frames=c.verification.frames,
                    seed=seed,
                ),
                train=TrainMaker(
                    training=c.training, seed=seed, familiarity=c.search.trust is not None
                ),
                search=SearchMaker(
                    search=c.search,
                    starts=c.starts,
                    defects=c.defects,
                    matching=c.matching,
                    device=c.training.device,
                    seed=seed,
                    reuse=c.reuse,
                ),
                verify=VerifyMaker(
                    relax=high,
                    low=statics[c.roles.low],
                    defects=c.defects,
                    verification=c.verification,
                    matching=c.matching,
                    low_rounds=c.loop.low_rounds,
                    device=c.training.device,
                ),
                acquire=AcquireMaker(
                    static=statics[c.roles.high],
                    loop=c.loop,
                    frames=c.frames,
                    defects=c.defects,
                    verified=c.verification.minima,
                    uncertain=c.verification.uncertain,
                ),
                loop=c.loop,
            ),
            results=ResultsMaker(campaign=c),
        )

    def make(self, structure: Structure) -> Flow:
        """Make the flow.

        Parameters
        ----------
        structure
            The host's cell.

        Returns
        -------
        Flow
            Its output is the ``Results`` document. Jobs made later inherit the campaign's
            metadata.
        """
        defects = staged(self.defects.make(structure), Stage.DEFECTS)
        host_and_defects = defects.output.job_uuid
        explored = self.explore.make(host_and_defects)
        staged(explored, Stage.LOW, "spawn relaxations")
        search = explored.output.job_uuid
        labels = staged(self.label.make(host_and_defects, search), Stage.PICKS)
        loop = self.rounds.make(host_and_defects, search, labels.output)
        staged(loop, Stage.TRAINING, "round 1")
        results = self.results.make(host_and_defects, search, loop.output)
        staged(results, Stage.LEVELS)
        flow = Flow(
            [defects, explored, labels, loop, results], output=results.output, name=self.name
        )
        metadata = {
            "campaign": self.name,
            "host": structure.composition.reduced_formula,
            "host_hash": content_hash(structure_key(structure)),
        }
        if self.results.campaign is not None:
            metadata["campaign_hash"] = campaign_hash(self.results.campaign, structure)
        flow.update_metadata(metadata, dynamic=True)
        return flow
