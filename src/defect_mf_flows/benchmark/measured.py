"""What was measured before is not measured again, unless anything that decides on it changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import defect_mf_flows
from defect_mf_flows.benchmark.sizes import Arm, Job
from defect_mf_flows.schemas.frame import content_hash

#: Takes arm and job, returns the row of a table.
Measure = Callable[..., dict[str, Any]]


def remembered(arm: Arm, *, measure: Measure, job: Job) -> dict[str, Any]:
    """Train and measure an arm, or take the row of an earlier run.

    Parameters
    ----------
    arm
        What to train.
    measure
        Trains and measures.
    job
        Its cache holds the rows.

    Returns
    -------
    dict
        As JSON has it. A row is found again by arm, labels, settings and the package's sources:
        another version measures anew, with the trainings that it finds.
    """
    decisive = [
        sources(),
        _named(measure),
        asdict(arm),
        [job.size.shares, job.size.rounds, job.size.training.model_dump(mode="json")],
        job.pool.content,
    ]
    path = job.scratch / "measured" / f"{content_hash(decisive)}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(measure(arm, job=job), default=float))
        unfinished.replace(path)
    row: dict[str, Any] = json.loads(path.read_text())
    return row


def _named(measure: Measure) -> list[Any]:
    """A function's name and what was given to it before."""
    given = measure.keywords if isinstance(measure, partial) else {}
    function: Any = measure.func if isinstance(measure, partial) else measure
    told = {name: sorted((str(k), v) for k, v in item.items()) for name, item in given.items()}
    return [f"{function.__module__}.{function.__qualname__}", told]


@cache
def sources() -> str:
    """SHA-256 of the package's Python files."""
    root = Path(defect_mf_flows.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
