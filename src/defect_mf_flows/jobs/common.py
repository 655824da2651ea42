"""What the jobs share: stages, and reading documents from the store of the running job."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from jobflow import CURRENT_JOB, Flow, Job, JobConfig, JobStore, Response, run_locally
from jobflow.core.job import store_inputs
from monty.json import MontyDecoder

from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.errors import DefectMFError, ResultsError
from defect_mf_flows.schemas.base import Document, check_version
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.search import Candidate, CandidateSet, VerificationSet
from defect_mf_flows.schemas.structures import stored_structure

D = TypeVar("D", bound=Document)

#: Configuration of jobs that read the store themselves.
WITH_STORE = JobConfig(expose_store=True)


class Stage(StrEnum):
    """Stages of a campaign, in the order in which data flows."""

    DEFECTS = "defects"
    LOW = "low fidelity"
    PICKS = "frames and picks"
    HIGH = "high fidelity"
    TRAINING = "training"
    SEARCH = "search"
    VERIFICATION = "verification"
    LEVELS = "levels"


def staged(job: Job, stage: Stage, name: str | None = None, **metadata: Any) -> Job:
    """Mark a job with its stage, which status, costs and routing go by.

    Parameters
    ----------
    job
        The job.
    stage
        Its stage.
    name
        New name, for people who watch.
    **metadata
        Further keys, for example defect and charge.

    Returns
    -------
    Job
        The same job.
    """
    # Not dynamic: the jobs that replace this one belong to stages of their own.
    job.update_metadata({"stage": stage.value, **metadata}, dynamic=False)
    if name is not None:
        job.name = name
    return job


def reference_job(maker: ReferenceMaker, start: StartStructure, stage: Stage, **begins: Any) -> Job:
    """Reference calculation of a start structure, marked with what status and routing go by.

    Parameters
    ----------
    maker
        Of one fidelity and kind.
    start
        Geometry, defect, charge and label.
    stage
        What it is computed for.
    **begins
        What a relaxation begins from, as the maker's ``make`` takes it.

    Returns
    -------
    Job
    """
    return staged(
        maker.make(start, **begins),
        stage,
        f"{start.defect} {start.charge:+d} | {start.label} | {maker.fidelity} {maker.kind.value}",
        defect=start.defect,
        charge=start.charge,
        fidelity=maker.fidelity,
    )


def run_here(job: Job, store: JobStore, folder: Path) -> Calculation:
    """Run a reference job in this process.

    Parameters
    ----------
    job
        Whose output is a calculation.
    store
        Connected job store that gets it.
    folder
        Where engines with files run, each in a folder of its own.

    Returns
    -------
    Calculation
        With its frames; also of a calculation that failed.

    Raises
    ------
    Exception
        What the job raised: an engine that is not installed, for example.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="cd is deprecated")  # jobflow's own affair
        run_locally(
            job,
            store=store,
            create_folders=True,
            root_dir=folder,
            log=False,
            raise_immediately=True,
        )
    return read_output(store, job.uuid, Calculation, load=True)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Put off Python's search for cycles, which takes a third of the time of reading frames.

    Their numbers make objects by the ten thousand and no cycles, and each search looks at all
    that the process holds.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@_collection_paused()
def read_output(store: JobStore, uuid: str, kind: type[D], *, load: bool, first: bool = False) -> D:
    """Read one job's output as a document.

    Parameters
    ----------
    store
        A connected job store.
    uuid
        Of the job.
    kind
        Class the output must have.
    load
        Also load what lies in the additional store ``data``.
    first
        The job's own output, also after others have replaced the job.

    Returns
    -------
    Document
        Checked on reading.

    Raises
    ------
    ResultsError
        If it is missing or of another class.
    VersionError
        If it was written by a newer version of this package.
    """
    try:
        content = _output(store, uuid, kind, load=load, first=first)
    except ValueError as error:
        raise ResultsError(
            f"the store holds no output of job {uuid}: {error}; check that this is the "
            "campaign's database and that the job has finished."
        ) from None
    if isinstance(content, dict) and content.get("@class") == kind.__name__:
        check_version(content, f"{kind.__name__} of job {uuid}")
    try:
        if load and isinstance(content, dict) and content.get("@class") == Calculation.__name__:
            document = _calculation(content)
        else:
            content = content if load else _without_blobs(content)
            document = MontyDecoder().process_decoded(content)
    except DefectMFError:
        raise
    except Exception as error:  # whatever pydantic, pymatgen or monty say to altered content
        raise ResultsError(
            f"the output of job {uuid} is no {kind.__name__} that this package reads: "
            f"{str(error)[:300]}; it was altered, or written by another version."
        ) from None
    if not isinstance(document, kind):
        raise ResultsError(f"job {uuid} is a {type(document).__name__}, not a {kind.__name__}.")
    return document


def _output(
    store: JobStore, uuid: str, kind: type[Document], *, load: bool, first: bool = False
) -> Any:
    """Output of a job; one that stands for another job's is followed by jobflow.

    jobflow looks for references in every number of every frame, which takes longer than all
    checks of the frames together; documents of this package hold none.
    """
    row = store.query_one({"uuid": uuid}, ["output"], sort={"index": 1 if first else -1}, load=load)
    content = row["output"] if row else None
    if isinstance(content, dict) and content.get("@class") == kind.__name__:
        return content
    return store.get_output(uuid, which="first" if first else "last", load=load)


def _calculation(content: dict[str, Any]) -> Calculation:
    """Build a calculation; of its frames monty would look at every number, twice as long."""
    others = {k: v for k, v in _unmarked(content).items() if k != "frames"}
    frames = [
        {
            **_unmarked(frame),
            "structure": stored_structure(frame["structure"]),
            "lineage": _unmarked(frame["lineage"]),
        }
        for frame in content.get("frames", [])
    ]
    return Calculation(**MontyDecoder().process_decoded(others), frames=frames)


def _unmarked(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says which class a document is of."""
    return {k: v for k, v in content.items() if not k.startswith("@")}


def _without_blobs(content: Any) -> Any:
    """Leave out what was not loaded, so that the document takes its defaults."""
    if isinstance(content, dict):
        return {k: _without_blobs(v) for k, v in content.items() if not _is_blob(v)}
    if isinstance(content, list):
        return [_without_blobs(item) for item in content]
    return content


def _is_blob(value: Any) -> bool:
    return isinstance(value, dict) and "blob_uuid" in value


class Replacement(Flow):
    """Jobs in place of the running one.

    jobflow adds a job that passes their output on, always under the same name. Here it gets the
    flow's name, so that lists of jobs stay readable.
    """

    def add_jobs(self, jobs: Job | Flow | Sequence[Flow | Job]) -> None:
        """Add jobs; see :meth:`jobflow.Flow.add_jobs`."""
        for item in [jobs] if isinstance(jobs, Job | Flow) else jobs:
            if isinstance(item, Job) and item.name == store_inputs.__name__:
                item.name = self.name
        super().add_jobs(jobs)


def replaced_by(jobs: Sequence[Job], output: Any) -> Response:
    """Replace the running job by others.

    Parameters
    ----------
    jobs
        The others.
    output
        What stands for the output of the running job.

    Returns
    -------
    Response
        For the running job to return.
    """
    running = CURRENT_JOB.job
    name = "passes on" if running is None else f"{running.name} | output"
    return Response(replace=Replacement(list(jobs), output=output, name=name))


def own_uuid() -> str:
    """Uuid of the running job."""
    return str(CURRENT_JOB.job.uuid)


def job_store() -> JobStore:
    """Store of the running job (which must be configured ``WITH_STORE``)."""
    return CURRENT_JOB.store


def calculations(uuids: list[str], *, frames: bool = True) -> list[Calculation]:
    """Read calculations from the store of the running job, in the order of their uuids."""
    return list(stream_calculations(uuids, frames=frames))


def stream_calculations(uuids: Iterable[str], *, frames: bool = True) -> Iterator[Calculation]:
    """Read calculations one at a time: a campaign's frames together may exceed the memory."""
    for uuid in uuids:
        yield read_output(job_store(), uuid, Calculation, load=frames)


def earlier_candidates(state: LoopState, defect: str, charge: int) -> list[Candidate]:
    """Candidates of the last finished round, which hold those of all rounds before it.

    Before the first, those that high fidelity relaxed without a model.
    """
    if not state.rounds:
        if state.first_relaxations.candidates is None:
            return []
        first = read_output(
            job_store(), state.first_relaxations.candidates, CandidateSet, load=True
        )
        owned = zip(first.candidates, first.owners, strict=True)
        return [candidate for candidate, owner in owned if tuple(owner) == (defect, charge)]
    last = read_output(job_store(), state.rounds[-1].verifications, VerificationSet, load=True)
    return next(
        v.candidates for v in last.verifications if (v.defect, v.charge) == (defect, charge)
    )
