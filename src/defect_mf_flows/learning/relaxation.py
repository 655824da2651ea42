"""Relax many structures on one head of a model: one call for every machine.

On a CPU a pool of single-thread processes (``pool``), each with a few structures at a time
(``flock``); on a GPU large batches (``batched``). All walk the same FIRE to the same minima.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning.acceleration import check_device
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import Limits, Relaxed
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from defect_mf_flows.learning.compiling import Batches

logger = logging.getLogger(__name__)

#: Atoms of a call per process: fewer are relaxed sooner than a process is ready.
WORTH_A_PROCESS = 256


@dataclass(frozen=True)
class Pace:
    """How far a call has come.

    Attributes
    ----------
    done, total
        Structures.
    seconds
        Since the call.
    """

    done: int
    total: int
    seconds: float

    @property
    def rate(self) -> float:
        """Structures per second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


Progress = Callable[[Pace], None]


def relax(
    structures: Sequence[Structure],
    charges: Sequence[int],
    model: Model,
    head: str,
    fmax: float,
    steps: int,
    *,
    device: str = "cpu",
    dtype: str | None = None,
    processes: int = 1,
    compiled: bool = False,
    trajectories: bool = False,
    progress: Progress | None = None,
) -> list[Relaxed]:
    """Relax structures at fixed cell, many at a time.

    Parameters
    ----------
    structures
        Charged structures; sizes and charges may differ.
    charges
        Charge that each should have; compared with what it carries.
    model
        Model document with its blob loaded.
    head
        Head on which to relax.
    fmax
        eV/A.
    steps
        Limit on FIRE steps per structure.
    device
        torch device: ``cpu`` takes processes, any other takes batches (extra ``gpu``), with
        cuequivariance's kernels if the model was trained with them.
    dtype
        ``float32`` or ``float64``; None: the precision that the model was trained in.
    processes
        Most single-thread processes on a CPU; 1 relaxes in this process, as does a call that is
        done before another process would have loaded the model.
    compiled
        On a CPU, whether to compile the force calls first.
    trajectories
        Whether to keep every step.
    progress
        Called after every structure; without it, the log is told every half minute.

    Returns
    -------
    list of Relaxed
        In the order of the structures. One that explodes, or takes its process with it, is
        returned with its problem and does not stop the others.

    Raises
    ------
    ChargeError
        If a structure carries another charge than it should, or one that was not trained.
    FidelityError
        If the model has no such head.
    TrainingError
        If this machine lacks the device, or the kernels.
    """
    check_charges(structures, charges, model, head)
    on_cpu = device.startswith("cpu")
    check_device(device, cueq=not on_cpu and bool(model.settings.get("enable_cueq")))
    limits = Limits(fmax, steps, trajectories)
    tell = progress or _Log()
    began = time.monotonic()

    def report(done: int) -> None:
        tell(Pace(done, len(structures), time.monotonic() - began))

    if not on_cpu:
        from defect_mf_flows.learning.batched import relax_batched

        return relax_batched(
            structures, model, head, limits, device=device, dtype=dtype, report=report
        )

    def potential() -> Potential:
        return Potential(model, head=head, dtype=dtype)

    worth = sum(len(structure) for structure in structures) // WORTH_A_PROCESS
    if min(processes, worth, len(structures)) > 1:
        from defect_mf_flows.learning.pool import RelaxationPool

        count = min(processes, worth, len(structures))
        batches = _compiled_once(structures, potential(), count) if compiled else None
        with RelaxationPool(model, head, processes=count, dtype=dtype, batches=batches) as pool:
            return pool.relax(structures, limits, report=report)
    from defect_mf_flows.learning.flock import relax_here

    return relax_here(structures, potential(), limits, compiled=compiled, report=report)


def _compiled_once(
    structures: Sequence[Structure], potential: Potential, processes: int
) -> Batches | None:
    """Compile the calls of single-thread processes here, so that they find them compiled."""
    import torch

    from defect_mf_flows.learning.flock import compile_flock

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what is compiled for several is not found by one
    try:
        return compile_flock(structures, potential, processes=processes)
    finally:
        torch.set_num_threads(threads)


def check_charges(
    structures: Sequence[Structure], charges: Sequence[int], model: Model, head: str
) -> None:
    """Refuse structures that carry another charge than they should, and untrained ones.

    Raises
    ------
    ChargeError, FidelityError
        For the first that does; the message names its number.
    """
    if len(structures) != len(charges):
        raise ChargeError(
            f"{len(structures)} structures but {len(charges)} charges; give one each."
        )
    for number, (structure, charge) in enumerate(zip(structures, charges, strict=True)):
        if charge_of(structure) != charge:
            raise ChargeError(
                f"structure {number} carries charge {charge_of(structure):+d}, not {charge:+d}; "
                "attach it with core.charge.with_charge()."
            )
        model.check(head=head, charge=charge)


class _Log:
    """Tells the log how far a call has come, now and then."""

    def __init__(self, every: float = 30.0) -> None:
        self.every, self.told = every, 0.0

    def __call__(self, pace: Pace) -> None:
        if pace.seconds - self.told >= self.every or pace.done == pace.total:
            self.told = pace.seconds
            logger.info(
                "%d of %d structures relaxed, %.3g per second", pace.done, pace.total, pace.rate
            )
