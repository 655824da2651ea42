"""``defect-mf``: thin; each command calls one function."""

from defect_mf_flows.cli import (  # noqa: F401  (they register their commands)
    benchmark,
    ccd,
    host,
    importing,
    learning,
    levels,
    local,
    query,
    reporting,
    site,
    site_setup,
    temperature,
    web,
)
from defect_mf_flows.cli.app import main

__all__ = ["main"]
