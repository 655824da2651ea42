"""Writing ``results.json``."""

from __future__ import annotations

import json
from pathlib import Path

from defect_mf_flows.schemas.results import Results


def results_json(results: Results) -> str:
    """Results as JSON text, with keys in a fixed order.

    Parameters
    ----------
    results
        The document.

    Returns
    -------
    str
        What ``results.json`` holds.
    """
    return json.dumps(results.model_dump(mode="json"), indent=2) + "\n"


def write_results(results: Results, path: Path) -> Path:
    """Write ``results.json``; a kill leaves the old file or the new one.

    Parameters
    ----------
    results
        The document.
    path
        File to write.

    Returns
    -------
    Path
        The same path.
    """
    temporary = path.with_suffix(".tmp")
    temporary.write_text(results_json(results))
    temporary.replace(path)
    return path
