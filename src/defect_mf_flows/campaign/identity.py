"""What makes two campaigns the same campaign."""

from __future__ import annotations

import json

from pymatgen.core import Structure

from defect_mf_flows.campaign.sections import CPU_BATCH, Campaign
from defect_mf_flows.schemas.frame import content_hash, structure_key

#: Settings that came later. At their defaults they do not enter, so that a campaign of an
#: earlier version keeps its hash.
ADDED = {
    "defects": ("environments",),
    "frames": ("imported",),
    "levels": ("dielectric",),
    "loop": ("acquire", "acquire_energy", "low_rounds"),
    "matching": ("auto", "displacement"),
    "picks": ("sampler", "relaxations", "rattle", "low_minima"),
    "search": ("split_vacancies", "trajectories", "dtype", "doubt", "trust"),
    "split": ("by", "labels"),
    "starts": ("given", "pair_distortions"),
    "training": (
        "charge_term",
        "spin_embedding",
        "strategy",
        "committee",
        "foundation",
        "foundation_hash",
        "foundation_head",
        "replay",
        "replay_hash",
        "replay_weight",
        "replay_charge",
        "enable_cueq",
        "high_share",
        "high_prior",
        "loss",
        "polish",
    ),
    "verification": (
        "uncertain",
        "curvature",
        "low_check",
        "low_asks",
        "low_minima",
        "ask_within",
        "relax_within",
        "relaxations",
        "trace_verified",
        "guided",
    ),
}


def campaign_hash(campaign: Campaign, structure: Structure) -> str:
    """SHA-256 of everything that decides what a campaign computes.

    The host enters by its content and not by its path; the name does not enter, nor does
    whether identical calculations are computed again.
    """
    content = json.loads(campaign.model_dump_json(exclude={"name", "disclaimer", "reuse"}))
    content["host"].pop("structure")
    for section in ("training", "search"):
        content[section].pop("compile")  # how fast, not what
    if content["search"]["batch"] is None:
        content["search"]["batch"] = CPU_BATCH  # the default of earlier versions
    for name in ("foundation", "replay"):  # files enter by their content
        if content["training"][f"{name}_hash"] is not None:
            content["training"][name] = None
    for section, names in ADDED.items():
        fields = type(getattr(campaign, section)).model_fields
        for name in names:
            if content[section][name] == fields[name].get_default(call_default_factory=True):
                content[section].pop(name)
    return content_hash({"campaign": content, "host": structure_key(structure)})
