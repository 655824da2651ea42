"""The campaign file: what to compute.

``sections`` says what it may hold, ``reading`` reads it, ``checks`` and ``calculators`` refuse
what cannot be computed, ``identity`` hashes it and ``describing`` puts it in words.
"""

from __future__ import annotations

from defect_mf_flows.campaign.checks import check_physics
from defect_mf_flows.campaign.describing import campaign_schema, describe_fields, summary
from defect_mf_flows.campaign.identity import campaign_hash
from defect_mf_flows.campaign.learning import (
    FilterSettings,
    LearningSettings,
    LoopSettings,
    PickSettings,
    SplitSettings,
    TrainingSettings,
)
from defect_mf_flows.campaign.reading import load_campaign, load_learning, read_host
from defect_mf_flows.campaign.section import Section
from defect_mf_flows.campaign.sections import (
    Campaign,
    DefectSettings,
    FidelitySettings,
    FrameSettings,
    HostSettings,
    LevelSettings,
    MatchSettings,
    RoleSettings,
    SearchSettings,
    StartSettings,
    VerifySettings,
)

__all__ = [
    "Campaign",
    "DefectSettings",
    "FidelitySettings",
    "FilterSettings",
    "FrameSettings",
    "HostSettings",
    "LearningSettings",
    "LevelSettings",
    "LoopSettings",
    "MatchSettings",
    "PickSettings",
    "RoleSettings",
    "SearchSettings",
    "Section",
    "SplitSettings",
    "StartSettings",
    "TrainingSettings",
    "VerifySettings",
    "campaign_hash",
    "campaign_schema",
    "check_physics",
    "describe_fields",
    "load_campaign",
    "load_learning",
    "read_host",
    "summary",
]
