"""A process that runs commands of lungseg in children, which can be killed or run out of disk at a chosen moment.

It has loaded the package and run nothing, so a child is a fork that costs no loading.  It answers JSON lines with JSON
lines, see :class:`Victim`.  Started as root or with user namespaces it has mounts of its own, so that a small disk can
be made that nobody else sees.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Python reports these before it does them; together they are every way in which the package changes a folder.
CHANGES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
PLENTY = 1 << 50


class Victim:
    """The process, from outside.

    Args:
        scratch: a folder for what the commands print.
        own_mounts: give it mounts of its own; see :func:`can_mount`.
    """

    def __init__(self, scratch: Path, *, own_mounts: bool = False) -> None:
        prefix = [*namespace(), "--"] if own_mounts else []
        command = [*prefix, sys.executable, "-m", "tests.stress.victim", str(scratch)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(600)
        except subprocess.TimeoutExpired:  # a busy machine must not cost a finished figure
            self._process.kill()

    def ask(self, do: str, **values: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **values}, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the victim died of {do} {values}")
        return json.loads(answer)

    def run(self, *words: object, **how: Any) -> dict[str, Any]:
        """Run a command; returns ``code`` (negative: the signal), ``out``, ``err``, ``changes``.

        Args:
            words: the command line.
            how: ``kill_at``: SIGKILL before the n-th change of a file below ``watch``; ``kill_after``: after so many
                seconds; ``most_bytes``: the largest file that the system lets it write; ``plenty``: it is told that the
                disk has room, as if somebody else filled it in the meantime; ``environment``.
        """
        answer: dict[str, Any] = self.ask("run", words=[str(word) for word in words], **how)
        return answer

    def race(self, count: int, *words: object) -> list[dict[str, Any]]:
        """Run the same command ``count`` times at once."""
        answer: list[dict[str, Any]] = self.ask("race", count=count, words=[str(word) for word in words])
        return answer


def namespace() -> list[str]:
    """What gives a process mounts of its own."""
    return ["unshare", "-m"] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["unshare", "-rm"]


def can_mount() -> bool:
    """Whether a small disk can be made here."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            words = [*namespace(), "mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]
            return subprocess.run(words, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def serve(scratch: Path) -> None:
    """Answer the lines of standard input until it ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        do = asked.pop("do")
        if do == "run":
            answer: Any = _finish(_start(scratch, 0, **asked), asked.get("kill_after"))
        elif do == "race":
            count, words = asked["count"], asked["words"]
            begin = time.monotonic() + 0.05
            answer = [_finish(child) for child in [_start(scratch, n, words, begin=begin) for n in range(count)]]
        else:
            answer = DISK[do](**{name: Path(value) if name == "path" else value for name, value in asked.items()})
        print(json.dumps(answer), flush=True)


def _start(
    scratch: Path,
    number: int,
    words: list[str],
    *,
    kill_at: int | None = None,
    watch: str = "",
    kill_after: float | None = None,
    most_bytes: int | None = None,
    plenty: bool = False,
    environment: dict[str, str] | None = None,
    begin: float = 0.0,
) -> tuple[int, Path]:
    """Fork a child that runs the command; its pid and where it writes what it prints."""
    said = scratch / f"said-{number}"
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child, said
    code = 70
    try:
        os.setsid()
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{said}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.environ.update(environment or {})
        counted = os.open(f"{said}.changes", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if watch:
            _count_changes(watch, kill_at, counted)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        if plenty:
            shutil.disk_usage = lambda _: shutil._ntuple_diskusage(PLENTY, 0, PLENTY)  # type: ignore[attr-defined]
        time.sleep(max(0.0, begin - time.monotonic()))
        from lungseg.cli import main

        code = main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 71
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _count_changes(watch: str, kill_at: int | None, counted: int) -> None:
    """Count each change of a file below ``watch``; die right before the one with the number ``kill_at``."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in CHANGES or not arguments or not str(arguments[0]).startswith(watch):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        count += 1
        os.pwrite(counted, f"{count:<12}".encode(), 0)
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _finish(child: tuple[int, Path], kill_after: float | None = None) -> dict[str, Any]:
    pid, said = child
    if kill_after is not None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # workers that a killed child has left
    texts = {name: Path(f"{said}.{name}").read_text("utf-8", "replace") for name in ("out", "err", "changes")}
    return {"code": code, **texts, "changes": int(texts["changes"] or 0)}


def mount(path: Path, size: int) -> None:
    """A disk of ``size`` bytes at ``path``."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)], check=True)


def read_only(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)


def freeze(path: Path) -> None:
    """Show what lies at ``path`` as a disk that can be read only."""
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)


def unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path, free: int) -> None:
    """Leave about ``free`` bytes on the disk of ``path``."""
    filler = path / "filler"
    filler.unlink(missing_ok=True)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(path).free - free))


def empty(path: Path) -> None:
    (path / "filler").unlink(missing_ok=True)


def used(path: Path) -> int:
    """Bytes that the files below ``path`` take, in whole pages."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in files if file.is_file())


def unsound(path: Path) -> list[str]:
    """Files below ``path`` that are not whole, or that are left from a write that failed."""
    from . import soundness

    return [why for file in sorted(path.rglob("*")) if file.is_file() for why in soundness.faults(file)]


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir()) if path.is_dir() else []


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


DISK = {
    function.__name__: function
    for function in (mount, read_only, freeze, unmount, fill, empty, used, unsound, names, remove)
}

if __name__ == "__main__":
    import torch

    import lungseg.evaluate
    import lungseg.export
    import lungseg.train
    import lungseg.visualize.animation  # noqa: F401
    from lungseg.config import RECIPES
    from tests.training import TINY

    torch.set_num_threads(1)
    RECIPES["demo"] = TINY.but(epochs=2, schedule="one_cycle", optimizer="adamw")
    serve(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # nothing is left to be done, and torch takes its time over it
