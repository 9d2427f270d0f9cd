"""A Dask scheduler as an executor of the ``concurrent.futures`` kind: cases go to machines that the user has started.

Dask moves the cases and watches the workers; what is kept here is small.  No more cases are handed over than there are
workers, so that each process has one case at a time: its memory is one scan's, and a GPU serves one scan.  Dask may
still queue a case on a worker that is about to die, so what a worker died with is only under suspicion: it is done
again at the end with nothing beside it, and then it is known what a second worker died of.  Where the scheduler is
gone, its cases are handed over again once it is back.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .dask_client import Lost, connected, count_workers, explained, unreachable
from .errors import LungsegError, MachineError
from .executor import Outcome, WorkerDied
from .memory import bound_memory
from .place import is_remote

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as DaskFuture

PATIENCE_S = 300.0  # for a scheduler that is started again; a job queue may be slow
_UNSEEN = "a worker does not see it"
_SHARE = "Let all machines see the data under the same path, or name folders by addresses (docs/clusters.md)."
LOOK_S, LOOK_PER_WORKER_S = 1.0, 0.02  # between two looks at how many workers there are


@dataclass
class _Job:
    """A call that was asked for, and what it is to be answered with."""

    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    begun: bool = field(default=False)
    suspect: bool = field(default=False)

    def alive(self) -> bool:
        """Whether anybody still waits for it; asked before it is handed over, and then it can not be cancelled."""
        self.begun = self.begun or self.future.set_running_or_notify_cancel()
        return self.begun


class DaskExecutor(Executor):
    """Calls of functions on the workers of a Dask scheduler, one at a time on each worker.

    Args:
        address: of the scheduler.
        resources: what a worker must have been started with, such as :data:`GPU`.
        folder: that relative paths are below, on the workers too; None where there are none.
        patience_s: how long a scheduler that is gone is waited for.
    """

    def __init__(
        self,
        address: str,
        resources: Mapping[str, float] | None = None,
        *,
        folder: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._folder = folder
        self._address, self._resources, self._patience_s = address, dict(resources or {}), patience_s
        self._waiting: deque[_Job] = deque()
        self._suspects: deque[_Job] = deque()  # a worker died while it had them
        self._running: dict[str, _Job] = {}
        self._events: queue.SimpleQueue[DaskFuture | None] = queue.SimpleQueue()  # None: look at what was asked
        self._closing = self._said = False
        self._count = 0
        self._driver = threading.Thread(target=self._drive, name="lungseg-cluster", daemon=True)
        self._driver.start()

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Ask for a call; its future fails with :class:`WorkerDied` where two workers died on it."""
        if keywords:
            raise TypeError("no keyword arguments: use functools.partial")
        if self._closing or not self._driver.is_alive():
            raise RuntimeError("the executor is shut down")
        future: Future[Any] = Future()
        self._waiting.append(_Job(future, function, arguments))
        self._events.put(None)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Hand over nothing more and leave the cluster, which goes on running; a case at hand is not waited for."""
        self._closing = True
        self._events.put(None)
        if wait:
            self._driver.join()

    def _drive(self) -> None:
        """Serve until shut down; what was running when the scheduler went away is handed over again."""
        error: BaseException = RuntimeError("the executor was shut down")
        lost_at = None
        while not self._closing:
            try:
                with connected(self._address) as client:
                    lost_at = None
                    self._serve(client)
            except (Lost, MachineError) as cause:
                for job in self._running.values():
                    (self._suspects if job.suspect else self._waiting).appendleft(job)
                self._running.clear()
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > self._patience_s:
                    error = cause if isinstance(cause, LungsegError) else unreachable(self._address)
                    break
                time.sleep(0.2)
            except BaseException as cause:  # of whatever kind: who waits for an answer must not wait forever
                error = cause
                break
        self._closing = True
        for job in (*self._running.values(), *self._waiting, *self._suspects):
            if not job.future.cancel() and not job.future.done():
                job.future.set_exception(error)

    def _serve(self, client: Client) -> None:
        slots, looked = 0, float("-inf")
        futures: dict[str, DaskFuture] = {}
        while not self._closing:
            if client.status != "running":
                raise Lost
            if time.monotonic() - looked > max(LOOK_S, slots * LOOK_PER_WORKER_S):
                slots, looked = count_workers(client, self._resources), time.monotonic()
                if slots == 0 and not futures:
                    self._say_once(f"waiting for workers at {self._address}")
            while (job := self._next(len(futures), slots)) is not None:
                if job.alive():
                    self._count += 1
                    # The name decides nothing; it must only be new, or Dask would take an old result for the answer.
                    key = f"lungseg-{id(self):x}-{self._count}-{time.time_ns():x}"
                    call = (_on_worker, __version__, self._folder, job.function, *job.arguments)
                    future = client.submit(*call, key=key, pure=False, resources=self._resources or None)
                    self._running[key], futures[key] = job, future
                    future.add_done_callback(self._events.put)
            try:
                done = self._events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if done is not None and done.key in futures:
                looked = float("-inf") if done.status != "finished" else looked
                self._answer(self._running[done.key], done)
                del self._running[done.key], futures[done.key]
                done.release()  # or Dask makes the result again when the worker that holds it dies

    def _next(self, running: int, slots: int) -> _Job | None:
        """The case to hand over now; one under suspicion is handed over alone, when all others are done."""
        if running >= slots or any(job.suspect for job in self._running.values()):
            return None
        if self._waiting:
            return self._waiting.popleft()
        return self._suspects.popleft() if self._suspects and not running else None

    def _answer(self, job: _Job, done: DaskFuture) -> None:
        """Hand on a result or an error; raises :class:`Lost` where there is neither."""
        from distributed import CancelledError, KilledWorker

        try:
            result = done.result()
        except (CancelledError, OSError) as cause:
            if isinstance(cause, OSError) and done.status == "error":
                job.future.set_exception(cause)
                return
            raise Lost from cause
        except KilledWorker as cause:
            if job.suspect:
                job.future.set_exception(WorkerDied(str(cause)))
            else:
                job.suspect = True
                self._suspects.append(job)
        except Exception as cause:
            job.future.set_exception(explained(cause))
        else:
            job.future.set_result(_seen_here(result))

    def _say_once(self, text: str) -> None:
        if not self._said:
            print(text, file=sys.stderr, flush=True)
            self._said = True


def _on_worker(version: str, folder: str | None, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs on a worker: the call, in the memory that the worker was given, and where relative paths are right."""
    if version != __version__:
        raise MachineError.of(
            "other-version",
            "a worker has another version of lungseg",
            expected=version,
            found=__version__,
            mend="Install the same version on all machines.",
        )
    from distributed import get_worker

    bound_memory(get_worker().memory_manager.memory_limit)
    before = Path.cwd()
    try:
        os.chdir(folder or before)
    except OSError as cause:
        raise MachineError.of("no-folder-there", _UNSEEN, file=folder, mend=_SHARE) from cause
    try:
        return function(*arguments)
    finally:
        os.chdir(before)


def _seen_here(done: Any) -> Any:
    """What a worker answered; a file that it misses and this machine sees is a matter of what the worker sees."""
    if isinstance(done, Outcome) and done.error is not None and done.error.problem.code == "missing-file":
        file = done.error.problem.file
        if file and not is_remote(file) and Path(file).exists():
            problem = replace(done.error.problem, what=_UNSEEN, mend=_SHARE)
            return replace(done, error=MachineError(problem, done.error.stage))
    return done
