"""The seam of all per-scan stages: outcomes as they come, a failing case fails alone, a worker that dies is named."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lungseg.errors import DataError, IntegrityError, MachineError
from lungseg.executor import START_BYTES, Outcome, cores, gather, run_cases, worth_workers


def work(task: str) -> str:
    """What a worker does, by the task's name; the functions of tests must be importable by a spawned process."""
    if task == "bad":
        raise DataError.of("broken", "is broken", file="bad.nii.gz", stage="reading")
    if task == "refused":
        raise IntegrityError.of("hash", "was changed") from OSError("a cause")
    if task == "hungry":
        raise MemoryError
    if task == "bug":
        raise ZeroDivisionError("a fault of the package")
    if task == "deadly":
        os._exit(3)
    return f"{task} done"


def dies_at_first(task: str) -> str:
    """Kills its process unless the file ``task`` exists, which the first try makes."""
    if not Path(task).exists():
        Path(task).touch()
        os._exit(3)
    return "done"


def process_of(task: float) -> int:
    time.sleep(task)
    return os.getpid()


def by_case(outcomes) -> dict[str, Outcome]:
    found = list(outcomes)
    cases = [outcome.case for outcome in found]
    assert len(set(cases)) == len(cases)
    return {outcome.case: outcome for outcome in found}


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 1), (1, 2)])
def test_row_30_a_case_that_fails_fails_alone_and_keeps_its_kind(workers: int, threads: int) -> None:
    tasks = {"a": "bad", "b": "b", "c": "refused", "d": "hungry", "e": "e"}
    done = by_case(run_cases(work, tasks, workers=workers, threads=threads))
    assert sorted(done) == sorted(tasks)
    assert [done[case].result for case in "abcde"] == [None, "b done", None, None, "e done"]
    error = done["a"].error
    assert type(error) is DataError and error.stage == "reading"
    assert (error.problem.code, error.problem.file, error.problem.case) == ("broken", "bad.nii.gz", "a")
    assert type(done["c"].error) is IntegrityError and done["c"].error.problem.case == "c"
    assert type(done["d"].error) is MachineError and done["d"].error.problem.code == "memory"
    assert "--workers" in str(done["d"].error) and done["d"].error.problem.case == "d"
    assert done["b"].error is None and done["e"].error is None


def test_row_35_a_worker_that_dies_is_tried_once_more_alone_and_named() -> None:
    tasks = {"a": "a", "deadly case": "deadly", "b": "b", "bad": "bad", "c": "c"}
    done = by_case(run_cases(work, tasks, workers=2))
    assert sorted(done) == sorted(tasks)
    assert {case: done[case].result for case in "abc"} == {case: f"{case} done" for case in "abc"}
    assert done["bad"].error.problem.code == "broken"
    error = done["deadly case"].error
    assert type(error) is MachineError and error.exit_code == 5
    assert error.problem.code == "worker-died"
    assert "deadly case" in str(error) and "--workers" in error.problem.mend


def test_a_worker_that_dies_once_by_chance_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    tasks = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    done = by_case(run_cases(dies_at_first, tasks, workers=2))
    assert {case: (outcome.result, outcome.error) for case, outcome in done.items()} == {
        "a": ("done", None), "b": ("done", None),
    }  # fmt: skip


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (2, 1), (1, 2)])
def test_a_fault_of_the_package_ends_the_run(workers: int, threads: int) -> None:
    with pytest.raises(ZeroDivisionError, match="a fault of the package"):
        list(run_cases(work, {"a": "bug", "b": "b"}, workers=workers, threads=threads))


def test_one_worker_is_this_process_and_two_are_others() -> None:
    here = by_case(run_cases(process_of, {"a": 0.0, "b": 0.0}, workers=1))
    assert {outcome.result for outcome in here.values()} == {os.getpid()}
    there = by_case(run_cases(process_of, {"a": 0.0, "b": 0.0}, workers=2))
    assert os.getpid() not in {outcome.result for outcome in there.values()}


def test_threads_run_side_by_side_in_this_process() -> None:
    both = threading.Barrier(2, timeout=20)  # no case is done before two are at work
    done = by_case(run_cases(lambda case: (both.wait(), os.getpid()), {"a": "a", "b": "b"}, workers=1, threads=2))
    assert {outcome.result[1] for outcome in done.values()} == {os.getpid()}


def test_one_task_needs_no_other_process() -> None:
    assert [outcome.result for outcome in run_cases(process_of, {"a": 0.0}, workers=8)] == [os.getpid()]
    assert list(run_cases(process_of, {}, workers=2)) == []


def test_outcomes_come_as_they_are_ready_not_in_order() -> None:
    # The first task waits until the outcome of the second has been seen: in order, this would never end well.
    seen = threading.Event()

    def wait(task: str) -> bool:
        return seen.wait(10) if task == "slow" else True

    order = []
    with ThreadPoolExecutor(2) as executor:
        for outcome in run_cases(wait, {"first": "slow", "second": "quick"}, executor=executor):
            order.append(outcome.case)
            assert outcome.result is True
            seen.set()
    assert order == ["second", "first"]


def test_another_executor_is_used_and_left_open() -> None:
    with ThreadPoolExecutor(2) as executor:
        done = by_case(run_cases(work, {"a": "bad", "b": "b"}, executor=executor))
        assert done["a"].error.problem.case == "a" and done["b"].result == "b done"
        assert executor.submit(work, "later").result() == "later done"


def test_tasks_that_have_not_begun_are_dropped_when_the_caller_stops() -> None:
    begun = []
    go = threading.Event()

    def note(task: int) -> int:
        begun.append(task)
        return task if task == 0 else int(go.wait(10))

    with ThreadPoolExecutor(1) as executor:
        outcomes = run_cases(note, {str(number): number for number in range(20)}, executor=executor)
        next(outcomes)
        outcomes.close()
        go.set()
    assert len(begun) <= 2


def test_cores_are_those_this_process_may_use() -> None:
    assert 1 <= cores() <= os.cpu_count()
    if hasattr(os, "sched_getaffinity"):
        assert cores() == len(os.sched_getaffinity(0))


def test_workers_are_started_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungseg.executor.cores", lambda: 2)
    start = START_BYTES
    assert worth_workers([]) == 1 and worth_workers([100 * start]) == 1
    assert worth_workers([start] * 2) == 1  # one after the other takes 2, with workers 1 + 1
    assert worth_workers([2 * start] * 2) == 2  # 4 against 1 + 2
    assert worth_workers([10 * start, start // 2]) == 1  # the large one decides
    assert worth_workers([start // 10] * 100) == 2


def test_outcomes_are_parted_into_results_and_problems() -> None:
    bad, full = DataError.of("broken", "is broken"), MachineError.of("memory", "no room")
    done = gather([Outcome("c", result=3), Outcome("b", error=bad), Outcome("a", result=1)])
    assert (
        list(done.results.items()) == [("a", 1), ("c", 3)] and done.problems == (bad.problem,) and done.exit_code == 3
    )
    assert gather([Outcome("a", error=full), Outcome("b", error=bad)]).exit_code == 5
    assert gather([Outcome("a", result=None)]).results == {"a": None}
    assert gather([Outcome("a", error=IntegrityError.of("hash-mismatch", "a slice is damaged"))]).exit_code == 3


def test_row_08_a_full_disk_ends_the_work_at_once() -> None:
    def outcomes():
        yield Outcome("a", result=1)
        yield Outcome("b", error=MachineError.of("disk-full", "the disk is full"))
        raise AssertionError("the next case was begun")

    with pytest.raises(MachineError, match="the disk is full"):
        gather(outcomes())
