"""Which worker takes which kind of job, and what a job asks of the queue."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

#: Text for one line of a batch script; a second line could be any command.
OneLine = Annotated[str, Field(pattern=r"^[ -~]*$", max_length=500)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resources(_Part):
    """What one kind of job needs.

    Attributes
    ----------
    category
        Only workers of this category take the job.
    walltime
        Time limit in the queue, ``HH:MM:SS`` or ``D-HH:MM:SS``.
    nodes, ntasks, cpus_per_task
        Nodes, processes and cores per process.
    mem
        Memory per node, for example ``"16G"``.
    gpus
        GPUs per node (``--gpus-per-node``).
    queue, account
        Partition and account.
    extra
        Further keys of the queue adapter's template.
    """

    category: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    walltime: str | None = Field(
        default=None, pattern=r"^(\d+-)?\d{1,3}(:\d{2}){1,2}$", examples=["24:00:00"]
    )
    nodes: int | None = Field(default=None, ge=1)
    ntasks: int | None = Field(default=None, ge=1)
    cpus_per_task: int | None = Field(default=None, ge=1)
    mem: str | None = Field(default=None, pattern=r"^\d+[KMGT]?$")
    gpus: int | None = Field(default=None, ge=1)
    queue: OneLine | None = None
    account: OneLine | None = None
    extra: dict[OneLine, OneLine | int] = Field(default_factory=dict)

    def manager_config(self) -> dict[str, Any]:
        """What FireWorks reads from a job's specification.

        Returns
        -------
        dict
            ``_category``, and ``_queueadapter`` where anything is asked of the queue.
        """
        names = ("walltime", "nodes", "ntasks", "cpus_per_task", "mem", "queue", "account")
        asked: dict[str, Any] = {name: getattr(self, name) for name in names}
        asked["gpus_per_node"] = self.gpus
        adapter = {key: value for key, value in asked.items() if value is not None} | self.extra
        return {"_category": self.category, **({"_queueadapter": adapter} if adapter else {})}


class Routing(_Part):
    """Workers and queue limits per kind of job.

    Attributes
    ----------
    bookkeeping
        Jobs that read and write the database and compute little.
    reference
        Relaxations and single points with a reference engine.
    fidelities
        Other needs of single fidelities, by name; every field replaces the one of ``reference``.
    training, search
        Jobs that need torch.
    """

    bookkeeping: Resources = Resources(category="dft", walltime="01:00:00", cpus_per_task=1)
    reference: Resources = Resources(category="dft", walltime="24:00:00")
    fidelities: dict[str, Resources] = Field(default_factory=dict)
    training: Resources = Resources(category="train", walltime="24:00:00", gpus=1)
    search: Resources = Resources(category="search", walltime="04:00:00", gpus=1)

    def fidelity(self, name: str) -> Resources:
        """What reference calculations of one fidelity need."""
        return self.fidelities.get(name, self.reference)

    @property
    def categories(self) -> list[str]:
        """Every category that a campaign's jobs may have."""
        kinds = [self.bookkeeping, self.reference, *self.fidelities.values()]
        return sorted({k.category for k in [*kinds, self.training, self.search]})
