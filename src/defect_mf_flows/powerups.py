"""Changes to a finished flow: which worker takes which job, and labels to find it by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any, TypeVar

from jobflow import Flow, Job

from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.acquire import AcquireMaker
from defect_mf_flows.jobs.curvature import model_curvature
from defect_mf_flows.jobs.search import relax_batch
from defect_mf_flows.jobs.training import TrainMaker
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.routing import Resources, Routing

F = TypeVar("F", Flow, Job)

VERSION_KEY = "package_version"


def route(flow: F, routing: Routing, fidelities: Iterable[str] = ()) -> F:
    """Give every job, those made later included, its worker category and queue limits.

    Parameters
    ----------
    flow
        Flow or job, changed in place.
    routing
        Workers and limits per kind of job.
    fidelities
        The campaign's fidelities; those that ``routing`` names get limits of their own.

    Returns
    -------
    Flow or Job
        The same.
    """
    _assign(flow, routing.bookkeeping)
    _assign(flow, routing.reference, function=ReferenceMaker.make)
    for name in fidelities:
        if name in routing.fidelities:
            for kind in CalculationKind:
                # Job names end in "| FIDELITY KIND", see the Makers that spawn them.
                _assign(
                    flow, routing.fidelities[name], ReferenceMaker.make, f"| {name} {kind.value}"
                )
    _assign(flow, routing.training, function=TrainMaker.make)
    # All of these ask the model for energies or forces.
    asking = (
        relax_batch,
        VerifyMaker.make,
        VerifyMaker.weigh,
        VerifyMaker.judge,
        model_curvature,
        AcquireMaker.make,
    )
    for function in asking:
        _assign(flow, routing.search, function=function)
    # FireWorks' default hands the parent's category down to jobs made later, over these rules.
    flow.update_config({"pass_manager_config": False}, attributes=["pass_manager_config"])
    return flow


def _assign(
    flow: Flow | Job,
    resources: Resources,
    function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> None:
    filters: dict[str, Any] = {"name_filter": name, "function_filter": function}
    # Only this attribute: a whole new configuration would take the store from its readers.
    flow.update_config(
        {"manager_config": resources.manager_config()}, attributes=["manager_config"], **filters
    )


def stamp(flow: F, **labels: str) -> F:
    """Label every job with the package's version and whatever else is given.

    A worker takes only jobs of its own version: documents and Makers change between versions.

    Parameters
    ----------
    flow
        Flow or job, changed in place.
    **labels
        Further metadata.

    Returns
    -------
    Flow or Job
        The same.
    """
    flow.update_metadata({VERSION_KEY: package_version(), **labels}, dynamic=True)
    return flow


def package_version() -> str:
    """Version of this package."""
    return version("defect-mf-flows")
