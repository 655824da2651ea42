"""Reading a campaign file: everything wrong with it is told by file, field and remedy."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from defect_mf_flows.campaign.alloys import ordered_alloy
from defect_mf_flows.campaign.checks import check_physics
from defect_mf_flows.campaign.explaining import faults
from defect_mf_flows.campaign.foundations import pinned
from defect_mf_flows.campaign.learning import LearningSettings
from defect_mf_flows.campaign.section import Section
from defect_mf_flows.campaign.sections import Campaign
from defect_mf_flows.errors import CampaignError

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def load_campaign(path: Path) -> tuple[Campaign, Structure]:
    """Read a campaign file, check it, and read the host it names.

    Parameters
    ----------
    path
        YAML file.

    Returns
    -------
    campaign
        The checked campaign.
    structure
        The host's cell.

    Raises
    ------
    CampaignError
        With the file, the field and the remedy, before anything is computed.
    """
    content = _read_mapping(path, "campaign", "see `validate --schema`")
    try:
        campaign = Campaign.model_validate(content)
    except ValidationError as error:
        raise CampaignError(_explain(path, error)) from None
    campaign = campaign.model_copy(update={"training": pinned(path, campaign.training)})
    structure = read_host(path, campaign)
    if not structure.is_ordered:
        campaign, structure = _ordered(path, campaign, structure)
    campaign = _with_given_starts(path, campaign)
    check_physics(path, campaign, structure)
    return campaign, structure


def load_learning(path: Path) -> LearningSettings:
    """Read the settings file of ``defect-mf dataset | train``.

    Raises
    ------
    CampaignError
        With the file, the field and the remedy.
    """
    content = _read_mapping(path, "settings", "see docs/learning.md")
    try:
        settings = LearningSettings.model_validate(content)
    except ValidationError as error:
        raise CampaignError(_explain(path, error, LearningSettings)) from None
    return settings.model_copy(update={"training": pinned(path, settings.training)})


def _read_mapping(path: Path, kind: str, help_: str) -> dict[str, Any]:
    if not _is_file(path):
        raise CampaignError(f"{path}: no such {kind} file; give the path of a YAML file.")
    try:
        content = yaml.safe_load(path.read_text())
    except Exception as error:  # PyYAML raises ValueError and worse on odd dates and tags
        raise CampaignError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise CampaignError(f"{path}: must be a mapping of sections; {help_}.")
    with suppress(RecursionError):  # a part that contains itself; its section refuses it
        _check_storable(path, content)
    return content


def _check_storable(path: Path, content: Any, field: str = "") -> None:
    """Refuse what no database document can hold: it would fail only once jobs are submitted."""
    if isinstance(content, dict):
        for key, value in content.items():
            _check_storable(path, key, field)
            _check_storable(path, value, f"{field}.{key}" if field else str(key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            _check_storable(path, value, f"{field}.{number}")
    elif isinstance(content, int) and not -(2**63) <= content < 2**63:
        raise CampaignError(f"{path}: {field!a}: a number beyond 64 bits; write a smaller one.")
    elif isinstance(content, str) and _UNSTORABLE.search(content):
        raise CampaignError(
            f"{path}: {field!a}: {content[:50]!a} holds a character that no text has "
            "(NUL or half of a pair); write it without."
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def read_host(path: Path, campaign: Campaign) -> Structure:
    """Read the host structure that a campaign file names.

    Raises
    ------
    CampaignError
        If it is missing or not a structure.
    """
    source = path.parent / campaign.host.structure
    where = f"{path}: host.structure"
    if not _is_file(source):
        raise CampaignError(f"{where}: {source} does not exist; paths are relative to the file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = Structure.from_file(source)
    except Exception as error:
        raise CampaignError(f"{where}: {source} is not a structure file: {error}") from None
    structure.remove_oxidation_states()
    return structure


def _ordered(path: Path, campaign: Campaign, structure: Structure) -> tuple[Campaign, Structure]:
    """An ordered supercell of an alloy, which is then the host's cell itself."""
    where = f"{path}: host.structure"
    if campaign.host.supercell == "auto":
        raise CampaignError(
            f"{where}: has partial occupancies; say in host.supercell which cell to fill."
        )
    try:
        ordered = ordered_alloy(structure, campaign.host.supercell, seed=campaign.seed)
    except ValueError as error:
        raise CampaignError(f"{where}: {error}; give occupancies that sum to 1.") from None
    host = campaign.host.model_copy(update={"supercell": [1, 1, 1]})
    return campaign.model_copy(update={"host": host}), ordered


def _with_given_starts(path: Path, campaign: Campaign) -> Campaign:
    """Take the content of given starts into the campaign: workers elsewhere lack the files."""
    given = campaign.starts.given
    if not given:
        return campaign
    content = {
        name: [_poscar(path, f"starts.given.{name}", file) for file in files]
        for name, files in given.items()
    }
    starts = campaign.starts.model_copy(update={"given": content})
    return campaign.model_copy(update={"starts": starts})


def _poscar(path: Path, field: str, file: str) -> str:
    source = path.parent / file
    if not _is_file(source):
        raise CampaignError(f"{path}: {field}: {source} does not exist; give a structure file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = Structure.from_file(source)
    except Exception as error:
        raise CampaignError(f"{path}: {field}: {source} is no structure file: {error}") from None
    structure.remove_oxidation_states()
    return Poscar(structure).get_str(significant_figures=12)


def _explain(path: Path, error: ValidationError, kind: type[Section] = Campaign) -> str:
    return "\n".join(
        f"{path}: {place or 'campaign'}: {fault}" for place, fault in faults(error, kind)
    )
