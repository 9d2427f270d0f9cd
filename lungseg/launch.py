"""Starting the ranks of a node, watching them, and saying which one failed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from . import errors
from .errors import LungsegError, MachineError, Problem, UsageError
from .executor import cores, sigint_held
from .placement import LOST, Place
from .records import read_json, write_json

GRACE_S = 5.0  # in which the other ranks say what they met, once one has failed
Work = Callable[[Place], Any]


@dataclass(frozen=True)
class Failure:
    """How a rank ended.

    Args:
        rank: its number.
        code: its exit code, negative for a signal.
        error: what it reported; None where it could not.
        fault: an error that is no :class:`LungsegError`, as text.
    """

    rank: int
    code: int
    error: LungsegError | None = None
    fault: str = ""


def launch(place: Place, work: Work) -> None:
    """Start a node's ranks, each with ``work(its place)``, and wait for their end.

    None of them is left behind, however this ends: what they hold on disk is whole at any moment, so they are killed.

    Args:
        place: of this process, which ``starts``.
        work: what a rank does; it and its results cross to another process.

    Raises:
        LungsegError: a rank raised it; or, with its number, a rank was killed.
        RuntimeError: a rank met a fault of this package.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="lungseg-ranks-") as folder:
        url = place.url or f"file://{folder}/store"
        processes: list[SpawnProcess] = []
        reports = [Path(folder) / f"rank-{local}.json" for local in range(place.devices)]
        try:
            # What torch's C++ warns of is about options that the user of this package does not set.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
            with sigint_held():  # Ctrl-C goes to all processes of a terminal; this one decides
                for local, report in enumerate(reports):
                    own = replace(place, rank=place.rank + local, local_rank=local, url=url, starts=False)
                    process = context.Process(target=_rank, args=(work, own, str(report)), name=f"rank {own.rank}")
                    _start(process)
                    processes.append(process)
            dead = _watch(processes)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
        if dead:
            raise explained([_failure(place.rank + local, code, reports[local]) for local, code in dead])


def _start(process: BaseProcess) -> None:
    try:
        process.start()
    except OSError:
        raise
    except Exception as cause:  # of many kinds, for what can not be written down for another process
        mend = "From Python, give augment= an object of a module's own class, not of one in a function."
        what = "an argument can not be handed to another process"
        raise UsageError.of("not-portable", what, found=str(cause)[:160], mend=mend) from cause


def _watch(processes: Sequence[BaseProcess]) -> list[tuple[int, int]]:
    """(local rank, exit code) of those that failed, in the order of their deaths; none where all went well."""
    left = {process.sentinel: local for local, process in enumerate(processes)}
    dead: list[tuple[int, int]] = []
    deadline: float | None = None
    while left:
        ready = wait(list(left), None if deadline is None else max(0.0, deadline - time.monotonic()))
        ended = {left.pop(sentinel): 0 for sentinel in list(left) if sentinel in ready}
        for local in ended:
            processes[local].join()
            ended[local] = processes[local].exitcode or 0
        # A rank that a signal ended did not end because of another one.
        dead += sorted(((local, code) for local, code in ended.items() if code), key=lambda item: item[1])
        if dead and deadline is None:
            deadline = time.monotonic() + GRACE_S
        if deadline is not None and time.monotonic() >= deadline:
            break
    return dead


def explained(failures: Sequence[Failure]) -> Exception:
    """The error to raise for ranks that failed, in the order of their deaths: that of the one that failed by itself."""
    ordered = sorted(failures, key=_by_itself)
    worst = ordered[0]
    if worst.error is not None:
        return worst.error
    if worst.fault:
        return RuntimeError(f"rank {worst.rank}: {worst.fault}")
    if worst.code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-worst.code).name
            what = f"rank {worst.rank} was killed by {name}"
            mend = "Most often the memory ran out, or the job was cancelled. --resume goes on."
            return MachineError(Problem("rank-killed", what, mend=mend))
    found = f"exit code {worst.code}"
    return MachineError(Problem("rank-ended", f"rank {worst.rank} ended early", found=found, mend="--resume goes on."))


def _by_itself(failure: Failure) -> tuple[int, int]:
    """Sorts ranks that failed of themselves before those that others took along."""
    if failure.code < 0 and failure.code != -signal.SIGABRT:  # NCCL aborts a rank whose partner is gone
        return 0, 0
    if failure.error is not None:
        return (4 if failure.error.problem.code == LOST else 1), failure.rank
    return (2 if failure.fault else 3), 0


def _failure(rank: int, code: int, report: Path) -> Failure:
    if not report.exists():
        return Failure(rank, code)
    said: dict[str, Any] = read_json(report)
    if "fault" in said:
        return Failure(rank, code, fault=said["fault"])
    kind = getattr(errors, said["kind"], MachineError)
    return Failure(rank, code, kind(Problem(**said["problem"]), said["stage"]))


def _rank(work: Work, place: Place, report: str) -> None:
    """What a rank's process runs."""
    _end_with_parent()
    signal.signal(signal.SIGTERM, _terminated)
    if "torch" in sys.modules:  # with the work, which came from the other process
        sys.modules["torch"].set_num_threads(max(1, cores() // place.devices))
    with _reported(Path(report)):
        work(place)


@contextlib.contextmanager
def _reported(report: Path) -> Iterator[None]:
    """Write down what ends the process, and end it with the code of the error."""
    try:
        yield
    except LungsegError as error:
        said = {"kind": type(error).__name__, "stage": error.stage, "problem": error.problem.as_dict()}
        write_json(report, said, durable=False)
        sys.exit(error.exit_code)
    except MemoryError:
        problem = Problem("memory", "there is not enough memory", mend="Use a smaller --batch-size.")
        write_json(report, {"kind": "MachineError", "stage": "", "problem": problem.as_dict()}, durable=False)
        sys.exit(MachineError.exit_code)
    except Exception as error:
        write_json(report, {"fault": f"{type(error).__name__}: {error}"}, durable=False)
        raise


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="parent", daemon=True).start()


def _terminated(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)
