"""A pool of single-thread processes that relax structures on one head of a model."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import TYPE_CHECKING, Any

from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, spin_of
from defect_mf_flows.errors import ChargeError, FidelityError, ServiceError
from defect_mf_flows.learning.flock import has_room
from defect_mf_flows.learning.relaxed import Limits, Problem, Relaxed, lost
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from defect_mf_flows.learning.compiling import Batches

logger = logging.getLogger(__name__)

#: Each of these would otherwise start threads of its own in every process.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: Processes that die one after the other before any has relaxed a structure.
MAX_FRUITLESS = 3


@dataclass(frozen=True)
class Setup:
    """What a process is told once.

    Attributes
    ----------
    model
        Model with its blob.
    head
        Head on which it relaxes.
    dtype
        Precision; None: the model's.
    batches
        Shape of force calls that are to be compiled; None: of none.
    """

    model: Model
    head: str
    dtype: str | None = None
    batches: Batches | None = None


@dataclass(frozen=True)
class Hello:
    """What a process says first: it listens. A model is larger than what a pipe holds."""


@dataclass(frozen=True)
class Ready:
    """What a process answers once it has loaded the model.

    Attributes
    ----------
    head, model_hash
        What it loaded.
    """

    head: str
    model_hash: str


@dataclass(frozen=True)
class Task:
    """One structure to relax.

    Attributes
    ----------
    number
        Position in the call.
    structure, charge
        Geometry, and the charge that it must carry.
    limits
        When to end.
    alone
        It was in a process that died with others, and is not put beside others again.
    """

    number: int
    structure: Structure
    charge: int
    limits: Limits
    alone: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of one structure.

    Attributes
    ----------
    number, charge, head, model_hash
        Of the task, as the process saw them.
    end
        The end, or the error that must stop the call.
    """

    number: int
    charge: int
    head: str
    model_hash: str
    end: Relaxed | Exception


class RelaxationPool:
    """Processes that have loaded a model and relax what they are given.

    Use it as a context manager; several calls share its processes.

    Parameters
    ----------
    model
        Model with its blob.
    head
        Head on which to relax.
    processes
        How many; one per core that is free.
    dtype
        Precision; None: the model's.
    batches
        Shape of force calls that are to be compiled; None: of none.

    Raises
    ------
    ServiceError
        If processes end before they have relaxed anything.
    """

    def __init__(
        self,
        model: Model,
        head: str,
        *,
        processes: int,
        dtype: str | None = None,
        batches: Batches | None = None,
    ) -> None:
        plain = model.model_copy(update={"parity": [], "history": [], "metrics": []})
        self.setup = Setup(plain, head, dtype, batches)
        self._fruitless = 0
        self._processes: list[_Process] = []
        try:
            for _ in range(processes):
                self._processes.append(_Process(self.setup))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RelaxationPool:
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        self.close()

    def close(self) -> None:
        """End the processes, also those at work."""
        for process in self._processes:
            process.end()
        self._processes = []

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.popen.pid for process in self._processes]

    def relax(
        self,
        structures: Sequence[Structure],
        limits: Limits,
        *,
        report: Callable[[int], None] = lambda done: None,
    ) -> list[Relaxed]:
        """Relax structures; the largest go first, so that none is left alone at the end.

        Parameters
        ----------
        structures
            Charged structures.
        limits
            When to end.
        report
            Called with the number of structures done.

        Returns
        -------
        list of Relaxed
            In the order of the structures.
        """
        order = sorted(range(len(structures)), key=lambda i: -len(structures[i]))
        waiting = deque(Task(i, structures[i], charge_of(structures[i]), limits) for i in order)
        ends: dict[int, Relaxed] = {}
        self._hand_out(waiting)
        while len(ends) < len(structures):
            wait([process.pipe for process in self._processes])
            for place, process in enumerate(self._processes):
                if not process.pipe.poll():
                    continue
                message = process.receive()
                if isinstance(message, Answer):
                    task = process.tasks.pop(message.number, None)
                    ends[message.number] = self._checked(task, message)
                    self._fruitless = 0
                    report(len(ends))
                elif message is None:
                    self._processes[place] = self._replaced(process)
                    if len(process.tasks) == 1:
                        ((number, task),) = process.tasks.items()
                        ends[number] = lost(task.structure, Problem.LOST, process.reason())
                        report(len(ends))
                    else:  # one of them is to blame, or none
                        waiting.extendleft(replace(t, alone=True) for t in process.tasks.values())
            self._hand_out(waiting)
        return [ends[i] for i in range(len(structures))]

    def _hand_out(self, waiting: deque[Task]) -> None:
        """Give every process what it has room for, and none more than its share."""
        ready = [process for process in self._processes if process.ready]
        in_hand = sum(len(process.tasks) for process in self._processes)
        share = -(-(len(waiting) + in_hand) // len(self._processes))
        for process in ready:
            while waiting and len(process.tasks) < share and process.room(waiting[0]):
                process.give(waiting.popleft())

    def _checked(self, task: Task | None, answer: Answer) -> Relaxed:
        """The end of a task, if it is one of the charge and the head that were asked for."""
        if isinstance(answer.end, Exception):
            raise answer.end
        if task is None or answer.number != task.number:
            raise ServiceError(f"a process answered task {answer.number}, which it was not given.")
        arrived = charge_of(answer.end.structure)
        if spin_of(answer.end.structure) != spin_of(task.structure):
            raise ChargeError(
                f"structure {task.number} came back from a process with another spin; this is a "
                "bug, report it."
            )
        if {arrived, answer.charge} != {task.charge}:
            raise ChargeError(
                f"structure {task.number} went to a process with charge {task.charge:+d} and came "
                f"back with {arrived:+d}; this is a bug, report it."
            )
        expected = (self.setup.head, self.setup.model.model_hash)
        if (answer.head, answer.model_hash) != expected:
            raise FidelityError(
                f"structure {task.number} was relaxed on head {answer.head!r} of model "
                f"{answer.model_hash[:12]}, not {expected[0]!r} of {expected[1][:12]}; this is a "
                "bug, report it."
            )
        return answer.end

    def _replaced(self, process: _Process) -> _Process:
        self._fruitless += 1
        reason = process.reason()
        logger.warning("a relaxation process ended (%s) and is replaced", reason)
        process.end()
        if self._fruitless > MAX_FRUITLESS:
            raise ServiceError(
                f"relaxation processes end without an answer ({reason}), {self._fruitless} in a "
                "row; read their messages above, and check the memory of this machine."
            )
        return _Process(self.setup)


class _Process:
    """One process and what it is doing."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.tasks: dict[int, Task] = {}
        self.ready = False
        self.pipe, theirs = Pipe()
        # A fresh interpreter, not a fork: torch's threads do not survive one. And not
        # multiprocessing's spawn, which imports the caller's main module again.
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "defect_mf_flows.learning.pool_worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(THREADS, "1"), "CUDA_VISIBLE_DEVICES": ""},
        )
        theirs.close()

    def room(self, task: Task) -> bool:
        """Whether it may have another structure beside those that it has."""
        if self.tasks and (task.alone or any(other.alone for other in self.tasks.values())):
            return False
        present = [len(other.structure) for other in self.tasks.values()]
        return has_room(present, len(task.structure))

    def give(self, task: Task) -> None:
        """Give it a structure."""
        self.tasks[task.number] = task
        self._send(task)

    def receive(self) -> Any:
        """Take its message; None if it has ended."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self.ready = False
            return None
        if isinstance(message, Exception):
            raise message
        if isinstance(message, Hello):
            self._send(self.setup)
        elif isinstance(message, Ready):
            expected = (self.setup.head, self.setup.model.model_hash)
            if (message.head, message.model_hash) != expected:
                raise FidelityError(
                    f"a process loaded head {message.head!r}, not {expected[0]!r}; this is a bug."
                )
            self.ready = True
        return message

    def reason(self) -> str:
        """Why it ended."""
        try:
            status = self.popen.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its process closed the connection"
        if status < 0:
            return f"its process was ended by signal {-status}"
        return f"its process ended with status {status}"

    def end(self) -> None:
        """End it now."""
        self.pipe.close()
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()

    def _send(self, message: Setup | Task) -> None:
        # A process that is gone shows at the next look at its pipe.
        try:
            self.pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            logger.debug("a relaxation process is gone")


def connection(number: int) -> Connection:
    """Connection of a process to its pool."""
    return Connection(number)
