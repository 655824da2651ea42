"""A campaign, and what a campaign file may hold, in words for people."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from pydantic import BaseModel
from pymatgen.core import Structure

from defect_mf_flows.campaign.checks import n_cells
from defect_mf_flows.campaign.sections import Campaign, section_of


def campaign_schema() -> dict[str, Any]:
    """JSON schema of the campaign file, with the description of every field."""
    return Campaign.model_json_schema()


def summary(campaign: Campaign, structure: Structure) -> list[str]:
    """Describe a checked campaign in a few lines.

    Parameters
    ----------
    campaign, structure
        From :func:`load_campaign`.

    Returns
    -------
    list of str
        Lines for a terminal.
    """
    c = campaign
    defects = ", ".join(c.defects.include) or "all that doped generates"
    n_atoms = f"{n_cells(c) * len(structure)} atoms" if c.host.supercell != "auto" else "auto"
    lines = [
        f"campaign    {c.name}: valid",
        f"host        {structure.composition.reduced_formula}, supercell of {n_atoms}",
        f"defects     {defects}",
    ]
    for name, charges in c.defects.charges.items():
        lines.append(f"charges     {name}: {', '.join(f'{q:+d}' if q else '0' for q in charges)}")
    for role, name in (("low", c.roles.low), ("high", c.roles.high)):
        fidelity = c.fidelities[name]
        lines.append(f"{role:<11} {name}: {fidelity.engine} {fidelity.settings}")
    lines.append(f"starts      {len(c.starts.distortions) + 2} per charge state")
    if c.picks.relaxations:
        lines.append(
            f"rattled     {c.picks.relaxations} per charge state, relaxed with {c.roles.high} "
            "before the first round"
        )
    if c.picks.low_minima:
        lines.append(
            f"low minima  {c.picks.low_minima} per charge state, relaxed with {c.roles.high} "
            "before the first round"
        )
    if c.verification.guided:
        lines.append(f"guided      relaxations with {c.roles.high}, by {c.roles.low}")
    return lines


def describe_fields() -> list[str]:
    """Every field of a campaign file with its default and meaning, as commented YAML."""
    lines = ["# Fields of a campaign file. (required) has no default.", ""]
    lines += _describe(Campaign, indent=0)
    return lines


def _describe(model: type[BaseModel], *, indent: int) -> list[str]:
    lines: list[str] = []
    pad = "  " * indent
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        title = (section.__doc__ or "").split("\n")[0] if section else ""
        text = field.description or title
        lines += [f"{pad}# {line}" for line in textwrap.wrap(text, 96 - 2 * indent)]
        if section is not None and name == "fidelities":
            lines += [f"{pad}{name}:", f"{pad}  NAME:", *_describe(section, indent=indent + 2)]
        elif section is not None:
            lines += [f"{pad}{name}:", *_describe(section, indent=indent + 1)]
        else:
            default = field.get_default(call_default_factory=True)
            shown = "(required)" if field.is_required() else json.dumps(default, default=str)
            lines.append(f"{pad}{name}: {shown}")
        if indent == 0:
            lines.append("")
    return lines
