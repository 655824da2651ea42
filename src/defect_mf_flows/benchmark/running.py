"""One call per benchmark: the pool, the trainings, the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from defect_mf_flows.benchmark import (
    active,
    agreement,
    charge,
    fidelity,
    foundation,
    sampling,
    search,
)
from defect_mf_flows.benchmark.closer import bring_closer
from defect_mf_flows.benchmark.foundation_models import MODELS, find_model
from defect_mf_flows.benchmark.given import read_pool
from defect_mf_flows.benchmark.known import from_campaign, from_pool
from defect_mf_flows.benchmark.pool import QUICK as QUICK_POOL
from defect_mf_flows.benchmark.pool import PoolSize, build_pool
from defect_mf_flows.benchmark.processes import single_threaded
from defect_mf_flows.benchmark.search_given import given_search
from defect_mf_flows.benchmark.sizes import FULL, NETWORK, BenchmarkSize, Job
from defect_mf_flows.campaign import TrainingSettings, load_campaign, load_learning
from defect_mf_flows.settings import available_cores, get_settings

#: Minutes each: every part runs, the numbers mean nothing.
QUICK = BenchmarkSize(
    "quick",
    QUICK_POOL,
    (1,),
    TrainingSettings(
        **{**NETWORK, "hidden_irreps": "8x0e + 8x1o"},
        num_interactions=1,
        max_epochs=4,
        polish=2,
        batch_size=4,
        validate_every=2,
    ),
    shares=(0.2, 0.5),
    rounds=2,
)

#: Epochs and iterations of polishing. Errors still fall with more: a compromise with hours.
FULL_STEPS = {"charge": (80, 160), "fidelity": (24, 24), "sampling": (24, 24), "active": (16, 16)}

#: Of high-fidelity labels in files: one per cent of a few hundred would be a label per charge.
OWN_SHARES = (0.05, 0.1, 0.2, 0.5)

RUNNERS = {
    "agreement": agreement.run,
    "charge": charge.run,
    "fidelity": fidelity.run,
    "sampling": sampling.run,
    "active": active.run,
}


def run_benchmark(
    name: str,
    *,
    quick: bool = False,
    size: BenchmarkSize | None = None,
    disagreement: float | None = None,
    out: Path,
    folder: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run a benchmark, or continue it.

    Parameters
    ----------
    name
        ``"agreement"``, ``"charge"``, ``"fidelity"``, ``"sampling"`` or ``"active"``.
    quick
        The small form.
    size
        Another form, for tests.
    disagreement
        As for :func:`~defect_mf_flows.benchmark.closer.bring_closer`; None: labels as they are.
    out
        Folder of page, figure and numbers.
    folder
        Cache of labels and trainings; None: in this machine's scratch.
    workers
        Single-threaded processes; None: one per core.

    Returns
    -------
    Path
        The page.
    """
    chosen = size or (_quick(name) if quick else _full(name))
    cache = folder or get_settings().scratch / "benchmark"
    count = workers or available_cores()
    single_threaded()
    pool = build_pool(chosen.pool, cache / "labels", workers=count)
    command = f"defect-mf benchmark {name}" + (" --quick" if quick else "")
    return _run(name, Job(chosen, pool, cache, out, command, count), disagreement)


def run_on_frames(
    name: str,
    files: list[Path],
    settings_file: Path,
    *,
    quick: bool = False,
    disagreement: float | None = None,
    out: Path,
    folder: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run a benchmark on labels that somebody has, or continue it.

    Parameters
    ----------
    name
        ``"agreement"``, ``"fidelity"`` or ``"sampling"``.
    files
        Extended XYZ with labels of two fidelities.
    settings_file
        As for ``defect-mf train``: ``heads``, ``training`` and what frames count.
    quick
        One seed and two shares.
    disagreement, out, folder, workers
        As for :func:`run_benchmark`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    CampaignError, ChargeError, DatasetError, FidelityError
        If settings or files cannot be used.
    """
    settings = load_learning(settings_file)
    pool = read_pool(files, settings)
    size = replace(
        _quick(name) if quick else _full(name),
        training=settings.training,
        shares=OWN_SHARES[1::2] if quick else OWN_SHARES,
        subject=files[0].name.partition(".")[0],
    )
    single_threaded()
    command = f"defect-mf benchmark {name}" + (" --quick" if quick else "")
    command += "".join(f" --frames {path}" for path in files) + f" --settings {settings_file}"
    cache = folder or get_settings().scratch / "benchmark"
    job = Job(size, pool, cache, out, command, workers or available_cores())
    return _run(name, job, disagreement)


def _run(name: str, job: Job, disagreement: float | None) -> Path:
    """Run on the job's labels, or on those between its fidelities under a name of their own."""
    if disagreement is None:
        return RUNNERS[name](job)
    told = f"disagreement-{disagreement:g}"
    subject = f"{job.size.subject}-{told}" if job.size.subject else told
    closer = replace(
        job,
        size=replace(job.size, subject=subject),
        pool=bring_closer(job.pool, disagreement),
        command=f"{job.command} --disagreement {disagreement:g}",
    )
    return RUNNERS[name](closer)


def run_search(
    *,
    quick: bool = False,
    campaign: Path | None = None,
    out: Path,
    folder: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run the benchmark of searches, or continue it.

    Parameters
    ----------
    quick, out, folder, workers
        As for :func:`run_benchmark`.
    campaign
        Campaign file whose defects are searched with its settings, instead of those in ZnS.

    Returns
    -------
    Path
        The page.
    """
    cache = folder or get_settings().scratch / "benchmark"
    single_threaded()
    command = "defect-mf benchmark search" + (" --quick" if quick else "")
    size = search.QUICK if quick else search.FULL
    if campaign is not None:
        size, command = given_search(campaign), f"{command} --campaign {campaign}"
    return search.run(
        size,
        scratch=cache,
        out=out,
        command=command,
        workers=workers or available_cores(),
    )


def run_foundation(
    models: list[str],
    *,
    quick: bool = False,
    size: PoolSize | None = None,
    out: Path,
    folder: Path | None = None,
    workers: int | None = None,
    campaign: Path | None = None,
    finished: Path | None = None,
) -> Path:
    """Run the benchmark of foundation models, or continue it.

    Parameters
    ----------
    models
        ``NAME`` or ``NAME=PATH``; none for all that are known.
    quick, out, folder, workers
        As for :func:`run_benchmark`.
    size
        Another pool, for tests.
    campaign, finished
        Campaign file and its folder, whose ground states are taken; None: those of the pool.

    Returns
    -------
    Path
        The page.
    """
    cache = folder or get_settings().scratch / "benchmark"
    command = "defect-mf benchmark foundation" + (" --quick" if quick else "")
    command += "".join(f" --model {text.partition('=')[0]}" for text in models)
    chosen = models or list(MODELS)
    for text in chosen:
        find_model(text)  # a wrong name or file is told before anything is computed
    if campaign is not None:
        where = finished or Path("campaigns") / load_campaign(campaign)[0].name
        known = from_campaign(campaign, where)
        command += f" --campaign {campaign}"
    else:
        pool = size or (QUICK_POOL if quick else FULL.pool)
        known = from_pool(pool, cache / "labels", workers=workers or available_cores())
    search = foundation.Search(fmax=0.1, steps=20) if quick else foundation.Search()
    return foundation.run(
        chosen,
        known,
        search,
        scratch=cache,
        out=out,
        command=command,
        variant="quick" if quick else "",
    )


def _full(name: str) -> BenchmarkSize:
    """Fewer steps and shares where trainings are many."""
    training = FULL.training
    if name in FULL_STEPS:
        epochs, polish = FULL_STEPS[name]
        training = training.model_copy(update={"max_epochs": epochs, "polish": polish})
    shares = (0.1, 0.2) if name == "sampling" else FULL.shares
    return replace(FULL, pool=_pool(FULL.pool, name), training=training, shares=shares)


def _quick(name: str) -> BenchmarkSize:
    return replace(QUICK, pool=_pool(QUICK.pool, name))


def _pool(pool: PoolSize, name: str) -> PoolSize:
    """What a benchmark needs of a pool: only the charge terms are asked about another size."""
    return pool if name == "charge" else replace(pool, large=None)
