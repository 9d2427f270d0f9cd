"""The seam that every per-scan stage goes through: a function of one case, an executor, outcomes as they come.

On one machine the executor is a pool of processes, spawned, so that it works alike on Linux, macOS and Windows.
Anything with the ``concurrent.futures`` interface can take its place, such as the workers of a cluster
(:mod:`lungseg.cluster`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from .errors import DataError, LungsegError, MachineError, Problem
from .place import is_store_error, store_error

if TYPE_CHECKING:  # a run in one process needs none of them, and they take a fifth of its start-up time
    from concurrent.futures import Executor, Future, ProcessPoolExecutor
    from multiprocessing.process import BaseProcess

# In the time that a worker takes to start (0.1 s, before it imports what this process would have to import as well), a
# core inflates and slices about so much of a packed scan, bytes.
START_BYTES = 32 << 20

T = TypeVar("T")
R = TypeVar("R")


class WorkerDied(Exception):
    """What an executor answers with for a case that two of its workers died on."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of one case: a result, or the error that it failed with."""

    case: str
    result: R | None = None
    error: LungsegError | None = None


@dataclass(frozen=True)
class Gathered(Generic[R]):
    """What became of all cases.

    Args:
        results: of the cases that were done, by name, sorted.
        problems: what kept others out, in the order in which it was found.
        exit_code: 5 where the machine kept a case out, 3 where only cases were bad, 0 where all are done.
        by_machine: the cases that the machine kept out, not what is in their files.
    """

    results: dict[str, R]
    problems: tuple[Problem, ...]
    exit_code: int = 0
    by_machine: frozenset[str] = frozenset()


def run_cases(
    function: Callable[[T], R],
    tasks: Mapping[str, T],
    *,
    workers: int | None = None,
    threads: int = 1,
    executor: Executor | None = None,
) -> Iterator[Outcome[R]]:
    """Run ``function`` on every task and yield the outcomes as they come, in no fixed order.

    A case that fails, fails alone.  When a worker process dies, every case that was not finished is tried once more by
    itself; one that kills its worker again is given up and named.

    Args:
        function: importable function of one task.
        tasks: arguments by case name.
        workers: processes; 1 runs in this process; None takes one for each core, at most one a task.
        threads: where it runs in this process, so many cases at a time; they need no time to start, but share what
            Python itself does, so for many cases processes are quicker.
        executor: another executor, which the caller starts and shuts down.

    Raises:
        Exception: an error of ``function`` that is no :class:`LungsegError` or ``MemoryError`` is a fault of this
            package and ends the run.
    """
    workers = min(len(tasks), workers or cores()) or 1
    if executor is not None:
        yield from _as_they_come(executor, function, tasks)
    elif workers == 1 and min(threads, len(tasks)) > 1:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
            yield from _as_they_come(pool, function, tasks)
    elif workers == 1:
        for case, task in tasks.items():
            yield _attempt(function, case, task)
    else:
        import multiprocessing
        from concurrent.futures.process import BrokenProcessPool

        left = dict(tasks)
        try:
            others = set(multiprocessing.active_children())
            with _pool(workers) as processes:
                for outcome in _as_they_come(processes, function, tasks, others):
                    del left[outcome.case]
                    yield outcome
        except BrokenProcessPool:
            for case, task in left.items():
                yield _alone(function, case, task)


def gather(outcomes: Iterable[Outcome[R]]) -> Gathered[R]:
    """Wait for all outcomes, and part them into results and problems.

    Raises:
        MachineError: the disk is full; the cases after it would fail as well.
    """
    results: dict[str, R] = {}
    problems: list[Problem] = []
    code, by_machine = 0, set()
    for outcome in outcomes:
        if outcome.error is None:
            results[outcome.case] = cast(R, outcome.result)
            continue
        if outcome.error.problem.code == "disk-full":
            raise outcome.error
        problems.append(outcome.error.problem)
        if isinstance(outcome.error, MachineError):
            by_machine.add(outcome.case)
        code = max(code, MachineError.exit_code if outcome.case in by_machine else DataError.exit_code)
    return Gathered(dict(sorted(results.items())), tuple(problems), code, frozenset(by_machine))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worth_workers(sizes_bytes: Collection[int]) -> int:
    """How many processes are quickest for files of these sizes: 1 where starting others would cost more than it saves.

    The time with n of them is that of the largest file, or of an n-th of all, whichever is more, after their start.
    """
    total, most = sum(sizes_bytes), min(len(sizes_bytes), cores())
    return most if most > 1 and START_BYTES + max(max(sizes_bytes), total / most) < total else 1


def _pool(workers: int) -> ProcessPoolExecutor:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _as_they_come(
    executor: Executor, function: Callable[[T], R], tasks: Mapping[str, T], others: set[BaseProcess] | None = None
) -> Iterator[Outcome[R]]:
    """Outcomes in the order in which they are done.

    Args:
        executor: where they are worked out.
        function, tasks: as for :func:`run_cases`.
        others: child processes that were there before ``executor``, where this module made it: its workers are then
            killed when the caller is interrupted or stops listening, because a scan at hand may take long.  What they
            left half done is cleared by the next run.
    """
    from concurrent.futures import as_completed

    with sigint_held():
        futures: dict[Future[Outcome[R]], str] = {
            executor.submit(_attempt, function, case, task): case for case, task in tasks.items()
        }
    try:
        for future in as_completed(futures):
            try:
                yield future.result()
            except WorkerDied:
                yield Outcome(futures[future], error=_died(futures[future]))
    except BaseException as error:
        if others is None or isinstance(error, Exception):
            for future in futures:
                future.cancel()
        else:
            import multiprocessing

            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
        raise


@contextlib.contextmanager
def sigint_held() -> Iterator[None]:
    """Workers that are started inside never see Ctrl-C, which goes to all processes of a terminal; this one does."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _attempt(function: Callable[[T], R], case: str, task: T) -> Outcome[R]:
    try:
        return Outcome(case, result=function(task))
    except LungsegError as error:
        # The cause may not survive the way from a worker; the problem says all that the user needs.
        error.__cause__ = None
        return Outcome(case, error=type(error)(error.problem.at(case=case), error.stage))
    except MemoryError:
        problem = Problem("memory", "there is not enough memory", case=case, mend="Use fewer --workers.")
        return Outcome(case, error=MachineError(problem))
    except Exception as error:
        if is_store_error(error):
            return Outcome(case, error=MachineError(store_error(error).problem.at(case=case)))
        raise


def _alone(function: Callable[[T], R], case: str, task: T) -> Outcome[R]:
    from concurrent.futures.process import BrokenProcessPool

    try:
        with _pool(1) as pool:
            return pool.submit(_attempt, function, case, task).result()
    except BrokenProcessPool:
        return Outcome(case, error=_died(case))


def _died(case: str) -> MachineError:
    mend = "Most often the memory ran out: use fewer --workers, or look at this scan by itself."
    return MachineError(Problem("worker-died", "the worker process died on this case, twice", case=case, mend=mend))
