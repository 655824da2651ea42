"""Benchmark of the samplers: which frames to label, at equal numbers of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.arms import measure_arms
from defect_mf_flows.benchmark.fidelity import measure
from defect_mf_flows.benchmark.pool import cost
from defect_mf_flows.benchmark.shares import ShareTables
from defect_mf_flows.benchmark.sizes import Arm, BenchmarkSize, Job, hours, steps, told

SAMPLERS = ("even", "stratified", "direct", "farthest", "random")


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every sampler at every share for every seed."""
    return [
        Arm(sampler, seed, share=share, sampler=sampler, equal_steps=True)
        for seed in size.seeds
        for share in size.shares
        for sampler in SAMPLERS
    ]


def run(job: Job) -> Path:
    """Train all arms, measure them and write the page; returns the page."""
    rows = measure_arms(job, arms(job.size), measure)
    tables = ShareTables("sampler", SAMPLERS, job, rows)
    page = job.page("sampling")
    page.text("Samplers", _about(job, rows), job.pool.disclaimer)
    tables.write_errors(page)
    tables.draw(page)
    return page.write(rows)


def _about(job: Job, rows: list[dict[str, Any]]) -> str:
    size, pool = job.size, job.pool
    return (
        f"{pool.about}. {len(pool.small)} geometries with both labels. Pool "
        f"{pool.content[:12]}; its cost: {cost(pool)}. Strategy joint, charge term "
        f"{size.training.charge_term}, loss {size.training.loss}, steps of "
        f"{told(**steps(size.training))} over the low-fidelity labels, {len(size.seeds)} seeds "
        f"(split, picks, weights, batches), {hours(rows)}. Samplers choose "
        "training frames; within a seed and share all choose as many as 'stratified', which "
        "takes the lowest end of every basin even beyond the share. Validation labels are the "
        "same for all. Brackets: 95 % bootstrap interval over seeds."
    )
