"""One process of a pool: ``python -m defect_mf_flows.learning.pool_worker DESCRIPTOR``.

It ends when its pool does: the connection closes with the last process that holds its other end.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.errors import ChargeError, DefectMFError
from defect_mf_flows.learning.flock import Flock
from defect_mf_flows.learning.pool import Answer, Hello, Ready, Setup, Task, connection
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import Relaxed


def serve(pipe: Connection) -> None:
    """Load the model, then relax what comes until the pool is gone."""
    pipe.send(Hello())
    setup = pipe.recv()
    if not isinstance(setup, Setup):
        raise TypeError(f"expected a Setup, not {type(setup).__name__}")
    import torch

    torch.set_num_threads(1)
    try:
        potential = Potential(setup.model, head=setup.head, dtype=setup.dtype)
        if setup.batches is not None:
            potential.compile(setup.batches)
    except DefectMFError as error:
        pipe.send(error)
        return
    pipe.send(Ready(potential.head, potential.document.model_hash))
    flock, tasks = Flock(potential), dict[int, Task]()

    def answer(number: int, end: Relaxed | Exception) -> None:
        charge = tasks.pop(number).charge
        pipe.send(Answer(number, charge, potential.head, potential.document.model_hash, end))

    while True:
        while pipe.poll(0 if flock.walks else None):
            task = pipe.recv()
            tasks[task.number] = task
            try:
                _add(flock, task)
            except DefectMFError as error:
                answer(task.number, error)
        for number, end in flock.step():
            answer(number, end)


def _add(flock: Flock, task: Task) -> None:
    arrived = charge_of(task.structure)
    if arrived != task.charge:
        raise ChargeError(
            f"structure {task.number} arrived with charge {arrived:+d}, not {task.charge:+d}."
        )
    flock.add(task.number, task.structure, task.limits)


def main() -> None:
    """Serve the pool named on the command line."""
    try:
        serve(connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    main()
