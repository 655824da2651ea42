"""One relaxation as a job in a process of its own: python relax_once.py TASK.json OUTPUT.json."""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path

from jobflow import JobStore
from maggma.stores import MemoryStore
from monty.json import MontyDecoder

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.defect import StartStructure

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    task = json.loads(Path(sys.argv[1]).read_text())
    if task["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task["largest_file"], resource.RLIM_INFINITY))
    start = StartStructure(**MontyDecoder().process_decoded(task["start"]))
    fidelity = FidelitySettings(engine="ase", **task["fidelity"])
    job = reference_maker("low", fidelity, CalculationKind.RELAX).make(start)
    job.set_uuid("the-same-job")
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    output = job.run(store).output
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(sys.argv[2]).write_text(output.model_dump_json())
