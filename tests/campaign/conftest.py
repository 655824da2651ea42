from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymatgen.core import Structure

from defect_mf_flows.campaign import Campaign, load_campaign
from tests.campaign.files import Load


@pytest.fixture
def load(tmp_path: Path, zns_file: Path) -> Load:
    """Write a campaign beside its host and load it."""
    shutil.copy(zns_file, tmp_path / "ZnS.cif")
    path = tmp_path / "campaign.yaml"

    def run(content: Any) -> tuple[Campaign, Structure]:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_campaign(path)

    return run
