"""``defect-mf``: thin; each command calls one function."""

from defect_mf_flows.cli import local, site, site_setup  # noqa: F401  (they register their commands)
from defect_mf_flows.cli.app import main

__all__ = ["main"]
