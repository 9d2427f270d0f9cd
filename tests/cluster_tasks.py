"""What the workers of the tests' clusters do, in a module of its own that they import without the tests."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def leave_mark(task: tuple[str, float, str]) -> tuple[str, int]:
    """Write one more mark into a folder, then take some time; ``poison`` kills its process, ``once`` only at first."""
    folder, seconds, what = task
    Path(folder, f"{what}-{time.monotonic_ns()}-{os.getpid()}").touch()
    if what == "poison" or (what.startswith("once") and len(list(Path(folder).glob(f"{what}-*"))) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return what, os.getpid()


def bound_of(task: int) -> int | None:
    """The bound of this process' memory, bytes."""
    from lungseg import memory

    return memory._bound
