"""A Dask cluster of separate processes on this machine, started as a user starts it: a scheduler, and workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 2_000_000_000  # that each worker is given, bytes
# Without the address Dask serves its metrics to everybody who can reach the machine.
_NO_PAGES = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]


class DaskProcesses:
    """Scheduler and workers of one thread each; all end with the block.

    Args:
        folder: for logs and scratch files.
        workers: how many are started at once.
        nanny: let a process watch each worker and start it again when it dies.
        host: address that all listen on.
        prefix: words before each command, by its number (0 is the scheduler), such as ``ip netns exec NAME``.
        hosts: address of each worker, where they are not all ``host``.
        preload: a module that scheduler and workers import before anything else.
        tls: certificate and key of all of them; who shows another is refused.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        *,
        nanny: bool = True,
        host: str = "127.0.0.1",
        prefix: list[list[str]] | None = None,
        hosts: list[str] | None = None,
        preload: str | None = None,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.folder, self.host, self.nanny, self.scheme = folder, host, nanny, "tls" if tls else "tcp"
        self._prefix, self._hosts = prefix or [], hosts or []
        self._always = [*_NO_PAGES, *(["--preload", preload] if preload else [])]
        if tls:
            self._always += ["--tls-ca-file", str(tls[0]), "--tls-cert", str(tls[0]), "--tls-key", str(tls[1])]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.workers: list[subprocess.Popen[bytes]] = []
        self._started = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.start_scheduler()
        for _ in range(workers):
            self.start_worker()

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def start_scheduler(self) -> None:
        words = ["distributed.cli.dask_scheduler", "--port", str(self.port), "--no-jupyter", "--protocol", self.scheme]
        self.scheduler = self._start(0, [*words, "--host", self.host])
        if not self._prefix or not self._prefix[0]:
            self._wait_for_scheduler()

    def _wait_for_scheduler(self, seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.scheduler.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the scheduler did not start: {(self.folder / 'scheduler-0.log').read_text()[-2000:]}")

    def start_worker(self) -> None:
        self._started += 1
        host = self._hosts[self._started - 1] if self._hosts else self.host
        words = ["distributed.cli.dask_worker", self.address, "--nthreads", "1", "--memory-limit", str(MEMORY)]
        words += ["--host", host, "--local-directory", str(self.folder), "--death-timeout", "60"]
        self.workers.append(self._start(self._started, [*words, "--nanny" if self.nanny else "--no-nanny"]))

    def _start(self, number: int, words: list[str]) -> subprocess.Popen[bytes]:
        prefix = self._prefix[number] if number < len(self._prefix) else []
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with open(self.folder / f"{words[0].rpartition('_')[2]}-{number}.log", "ab") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, "-m", *words, *self._always],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": path},
                stdout=log,
                stderr=log,
                # Linux shares a busy machine by sessions (autogroup): each of these counts as a machine would.
                start_new_session=True,
            )

    def kill_scheduler(self) -> None:
        """With SIGKILL; its workers end by themselves."""
        self.scheduler.kill()
        self.scheduler.wait(60)
        for worker in self.workers:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:  # it was only starting, and would wait for a scheduler
                worker.kill()
                worker.wait(20)
        self.workers.clear()

    def __enter__(self) -> DaskProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self.workers, self.scheduler):
            process.send_signal(signal.SIGTERM)
        for process in (*self.workers, self.scheduler):
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:  # some wait for each other
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)
