"""A relaxation that is killed continues from its last ionic step, and counts none twice."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobflow import Job, JobStore
from maggma.stores import MemoryStore

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.checkpoint import (
    ABANDONED,
    END,
    FOLDER,
    SETTLED,
    STEPS,
    Checkpoint,
    StoredEnd,
    StoredStep,
    forget_stored,
)
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, FailureReason
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import get_settings

HERE = Path(__file__).resolve().parent
MakeStart = Callable[..., StartStructure]

FIDELITY: dict[str, Any] = {
    "settings": {
        "calculator": "fatal_calculator.Fatal",
        # tblite starts its SCF from the last geometry's orbitals, which a new process lacks; with
        # a tight SCF the energies do not depend on that.
        "kwargs": {"method": "GFN1-xTB", "verbosity": 0, "accuracy": 0.001},
        "charge_keyword": "charge",
    },
    "fmax": 0.01,
    "steps": 100,
}


# -- in processes that are killed --------------------------------------------------------


class Relaxation:
    """Runs one job again and again, each time in a new process."""

    def __init__(self, folder: Path, start: StartStructure) -> None:
        self.folder, self.start = folder, start
        self.log = folder / "evaluations.txt"
        self.log.touch()

    def run(self, die_at: int = -1, largest_file: int = 0) -> subprocess.CompletedProcess[str]:
        task = {
            "start": json.loads(self.start.model_dump_json()),
            "fidelity": FIDELITY,
            "largest_file": largest_file,
        }
        (self.folder / "task.json").write_text(json.dumps(task))
        path = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **os.environ,
            "DEFECT_MF_SCRATCH": str(self.folder / "scratch"),
            "FATAL_LOG": str(self.log),
            "FATAL_AT": str(die_at),
            "PYTHONPATH": os.pathsep.join(path),
        }
        command = [sys.executable, str(HERE / "relax_once.py")]
        command += [str(self.folder / "task.json"), str(self.folder / "output.json")]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def finish(self) -> Calculation:
        done = self.run()
        assert done.returncode == 0, done.stderr[-3000:]
        return Calculation(**json.loads((self.folder / "output.json").read_text()))

    @property
    def evaluations(self) -> int:
        return len(self.log.read_text().splitlines())

    @property
    def steps(self) -> Path:
        return next((self.folder / "scratch" / FOLDER).glob(f"*/{STEPS}"))


@pytest.fixture
def relaxation(tmp_path: Path, make_start: MakeStart) -> Callable[[str], Relaxation]:
    def make(name: str) -> Relaxation:
        folder = tmp_path / name
        folder.mkdir()
        return Relaxation(folder, make_start(-1, seed=3))

    return make


@pytest.mark.slow
def test_killed_twice_it_ends_like_one_that_was_not(
    relaxation: Callable[[str], Relaxation],
) -> None:
    whole = relaxation("whole").finish()
    assert whole.converged
    assert whole.n_calls == whole.n_frames > 8

    killed = relaxation("killed")
    assert killed.run(die_at=4).returncode == -signal.SIGKILL
    with killed.steps.open("ab") as stream:
        stream.write(b'{"positions": [[0.0, 0.')  # the kill came while a line was written
    assert killed.run(die_at=3).returncode == -signal.SIGKILL
    resumed = killed.finish()

    assert resumed.converged
    assert resumed.n_frames == whole.n_frames
    assert resumed.n_calls == killed.evaluations == whole.n_calls  # 3 + 2 + the rest
    hashes = [frame.content_hash for frame in resumed.frames]
    assert hashes[:3] == [frame.content_hash for frame in whole.frames[:3]]
    assert len(set(hashes)) == len(hashes)
    assert [frame.lineage.step for frame in resumed.frames] == list(range(resumed.n_frames))
    energies = [frame.energy for frame in resumed.frames]
    assert energies == pytest.approx([frame.energy for frame in whole.frames], abs=1e-6)
    ends = [c.final_structure.cart_coords for c in (whole, resumed)]
    assert np.allclose(*ends, atol=1e-4)


@pytest.mark.slow
def test_a_full_disk_costs_the_checkpoint_and_not_the_calculation(
    relaxation: Callable[[str], Relaxation],
) -> None:
    full = relaxation("full")
    done = full.run(largest_file=4000)  # the third step does not fit
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("goes on without a checkpoint") == 1
    assert "File too large" in done.stderr
    calculation = Calculation(**json.loads((full.folder / "output.json").read_text()))
    assert calculation.converged
    assert calculation.n_calls == full.evaluations
    assert not (full.steps.parent / END).exists()

    again = full.finish()  # what is on the disk is whole steps, and they are used
    assert again.n_frames == calculation.n_frames
    saved = calculation.n_calls - (full.evaluations - calculation.n_calls)
    assert saved >= 1
    for one, other in zip(calculation.frames[:saved], again.frames[:saved], strict=True):
        assert one.content_hash == other.content_hash


# -- in this process ---------------------------------------------------------------------


@pytest.fixture
def scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEFECT_MF_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("FATAL_LOG", str(tmp_path / "evaluations.txt"))
    monkeypatch.syspath_prepend(str(HERE))
    get_settings.cache_clear()
    yield tmp_path / "scratch"
    get_settings.cache_clear()


@pytest.fixture
def store() -> JobStore:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


def job_of(start: StartStructure, uuid: str = "job", **changes: Any) -> Job:
    fidelity = FidelitySettings(engine="ase", **{**FIDELITY, **changes})
    job = reference_maker("low", fidelity, CalculationKind.RELAX).make(start)
    job.set_uuid(uuid)
    return job


def evaluations(scratch: Path) -> int:
    return len((scratch.parent / "evaluations.txt").read_text().splitlines())


def only_folder(scratch: Path) -> Path:
    (folder,) = (scratch / FOLDER).iterdir()
    return folder


def test_finished_but_not_stored_it_is_not_computed_again(
    scratch_folder: Path, store: JobStore, make_start: MakeStart
) -> None:
    first = job_of(make_start(0)).run(store).output
    count = evaluations(scratch_folder)
    again = job_of(make_start(0)).run(store).output
    assert evaluations(scratch_folder) == count == again.n_calls
    assert again.converged
    assert again.seconds == pytest.approx(first.seconds, abs=0.5)
    assert [f.content_hash for f in again.frames] == [f.content_hash for f in first.frames]


def test_killed_between_last_step_and_end_it_keeps_the_band_edges(
    scratch_folder: Path, store: JobStore, make_start: MakeStart
) -> None:
    """They belong to the evaluation, and that is not done again."""
    fidelity = FidelitySettings(engine="xtb", settings={"method": "GFN1-xTB"})
    outputs = []
    for _ in range(2):
        job = reference_maker("low", fidelity, CalculationKind.STATIC).make(make_start(0))
        job.set_uuid("job")
        outputs.append(job.run(store).output)
        (only_folder(scratch_folder) / END).unlink()
    assert outputs[0].band_edges is not None
    assert outputs[0].band_edges == outputs[1].band_edges
    assert outputs[1].n_calls == 1


def test_a_failure_of_the_method_is_kept_as_well(
    scratch_folder: Path, store: JobStore, make_start: MakeStart
) -> None:
    for _ in range(2):
        output = job_of(make_start(0), steps=2).run(store).output
        assert output.failure.reason is FailureReason.STEPS
        assert (output.n_calls, output.converged) == (3, False)
    assert evaluations(scratch_folder) == 3


def test_another_job_computes_for_itself(
    scratch_folder: Path, store: JobStore, make_start: MakeStart
) -> None:
    one = job_of(make_start(0), "one", steps=2).run(store).output
    two = job_of(make_start(0), "two", steps=2).run(store).output
    assert evaluations(scratch_folder) == one.n_calls + two.n_calls


def test_steps_that_were_taken_over_cost_nothing_after_a_kill_either(
    scratch_folder: Path, store: JobStore, make_start: MakeStart
) -> None:
    def run(uuid: str, steps: int) -> Calculation:
        settings = {"method": "GFN1-xTB", "accuracy": 0.001}  # an engine that knows its version
        fidelity = FidelitySettings(engine="xtb", settings=settings, fmax=1e-4, steps=steps)
        job = reference_maker("low", fidelity, CalculationKind.RELAX, reuse=True).make(
            make_start(0)
        )
        job.set_uuid(uuid)
        done: Calculation = job.run(store).output
        return done

    assert run("one", 2).n_calls == 3
    assert run("two", 4).n_calls == 2
    folder = next(
        f for f in (scratch_folder / FOLDER).iterdir() if '"two"' in (f / STEPS).read_text()
    )
    (folder / END).unlink()  # killed before it could say how it ended
    again = run("two", 4)
    assert (again.n_calls, again.n_frames) == (2, 5)


@pytest.mark.parametrize("forged", ["header", "steps", "number"])
def test_steps_of_another_charge_are_set_aside(
    scratch_folder: Path,
    store: JobStore,
    make_start: MakeStart,
    caplog: pytest.LogCaptureFixture,
    forged: str,
) -> None:
    """Neither a header nor a step that was computed with another charge is ever taken."""
    expected = job_of(make_start(0), steps=2).run(store).output
    folder = only_folder(scratch_folder)
    header, *steps = (folder / STEPS).read_text().splitlines()
    folder.rename(scratch_folder / "own")
    other = job_of(make_start(-1), steps=2).run(store).output
    foreign = only_folder(scratch_folder)
    foreign_header, *foreign_steps = (foreign / STEPS).read_text().splitlines()
    foreign.rename(folder)
    (folder / END).unlink()
    if forged == "steps":  # as if the charge had been lost on the way
        (folder / STEPS).write_text("\n".join([header, *foreign_steps]) + "\n")
    if forged == "number":
        shorter = {**json.loads(steps[0]), "positions": [[0, 0, 0]], "forces": [[0, 0, 0]]}
        (folder / STEPS).write_text("\n".join([header, json.dumps(shorter)]) + "\n")
    assert foreign_header != header
    with caplog.at_level(logging.WARNING):
        result = job_of(make_start(0), steps=2).run(store).output
    assert "are not used" in caplog.text
    assert [f.content_hash for f in result.frames] == [f.content_hash for f in expected.frames]
    assert result.frames[0].energy != pytest.approx(other.frames[0].energy, abs=0.5)
    assert len(list(folder.glob(f"{STEPS}.refused-*"))) == 1


def test_outside_a_job_nothing_is_kept(scratch_folder: Path, make_start: MakeStart) -> None:
    fidelity = FidelitySettings(engine="ase", **{**FIDELITY, "steps": 1})
    maker = reference_maker("low", fidelity, CalculationKind.RELAX)
    assert maker.compute(make_start(0), uuid="u").n_calls == 2
    assert not scratch_folder.exists()


def test_checkpoints_go_when_the_outputs_are_stored(
    scratch_folder: Path, store: JobStore, make_start: MakeStart
) -> None:
    job_of(make_start(0), "one", steps=1).run(store)
    folder = only_folder(scratch_folder)
    job_of(make_start(0), "two", steps=1).run(store)
    assert folder.exists()  # a job that is just being repeated may still ask for it
    old = (folder / END).stat().st_mtime - SETTLED - 1
    for path in (folder / END, folder / STEPS, folder):
        os.utime(path, (old, old))
    job_of(make_start(0), "three", steps=1).run(store)
    assert not folder.exists()


# -- the file ----------------------------------------------------------------------------


def step(number: int) -> StoredStep:
    return StoredStep(
        positions=np.full((2, 3), number / 3), energy=-number / 7, forces=np.zeros((2, 3)),
        seconds=float(number), content_hash=f"hash {number}",
    )  # fmt: skip


def written(scratch: Path, inputs: dict[str, Any], count: int = 3) -> Path:
    with Checkpoint(scratch, inputs) as checkpoint:
        for number in range(count):
            checkpoint.append(step(number))
    assert checkpoint.folder is not None
    return checkpoint.folder


@given(cut=st.integers(min_value=0, max_value=10_000))
def test_torn_anywhere_it_gives_the_whole_steps_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    scratch, inputs = tmp_path_factory.mktemp("torn"), {"charge": -1}
    path = written(scratch, inputs) / STEPS
    content = path.read_bytes()
    cut = cut % (len(content) + 1)
    path.write_bytes(content[:cut])
    whole = max(content[:cut].count(b"\n") - 1, 0)
    with Checkpoint(scratch, inputs) as checkpoint:
        assert checkpoint.steps == [step(n) for n in range(whole)]
        checkpoint.append(step(whole))
    with Checkpoint(scratch, inputs) as checkpoint:
        assert checkpoint.steps == [step(n) for n in range(whole + 1)]


def test_a_line_that_is_damaged_in_the_middle_is_not_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, {"a": 1}) / STEPS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2])
    with caplog.at_level(logging.WARNING), Checkpoint(tmp_path, {"a": 1}) as checkpoint:
        assert checkpoint.steps == []
    assert "begins anew" in caplog.text


def test_an_end_that_counts_other_steps_is_not_believed(tmp_path: Path) -> None:
    with Checkpoint(tmp_path, {"a": 1}) as checkpoint:
        checkpoint.append(step(0))
        checkpoint.append(step(1))
        checkpoint.finish(
            StoredEnd(job="j", steps=2, converged=True, failure=None, calls=2, seconds=1.0)
        )
    path = checkpoint.folder / STEPS
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    with Checkpoint(tmp_path, {"a": 1}) as checkpoint:
        assert (checkpoint.end, checkpoint.steps) == (None, [])


def test_a_second_process_waits_and_takes_the_result(tmp_path: Path) -> None:
    seen: list[int] = []

    def second() -> None:
        with Checkpoint(tmp_path, {"a": 1}) as checkpoint:
            seen.append(len(checkpoint.steps))

    with Checkpoint(tmp_path, {"a": 1}) as first:
        thread = threading.Thread(target=second)
        thread.start()
        first.append(step(0))
        thread.join(0.5)
        assert seen == []
        first.append(step(1))
    thread.join(20)
    assert seen == [2]


def test_an_unusable_scratch_folder_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING), Checkpoint(tmp_path, {"a": 1}) as checkpoint:
        checkpoint.append(step(0))
        checkpoint.append(step(1))
    assert caplog.text.count("goes on without a checkpoint") == 1


def test_what_is_forgotten(tmp_path: Path) -> None:
    folders = {}
    for name in ("stored", "held", "unstored", "unfinished", "abandoned"):
        folders[name] = written(tmp_path, {"job": name}, count=1)
        if name not in ("unfinished", "abandoned"):
            end = StoredEnd(job=name, steps=1, converged=True, failure=None, calls=1, seconds=1)
            (folders[name] / END).write_text(end.model_dump_json())
    for path in folders["abandoned"].iterdir():
        old = path.stat().st_mtime - ABANDONED
        os.utime(path, (old, old))
    os.utime(folders["abandoned"], (old, old))
    now = (folders["stored"] / END).stat().st_mtime + SETTLED + 60

    def in_the_store(uuids: list[str]) -> set[str]:
        return {"stored", "held"} & set(uuids)

    assert forget_stored(tmp_path, in_the_store, now=now - SETTLED) == 1  # the abandoned one
    with (folders["held"] / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert forget_stored(tmp_path, in_the_store, now=now) == 1
    assert not folders["stored"].exists()
    assert all(folders[name].exists() for name in ("held", "unstored", "unfinished"))
    assert forget_stored(tmp_path / "nothing here", in_the_store) == 0
