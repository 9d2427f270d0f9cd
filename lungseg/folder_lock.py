"""One writer a folder at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .errors import MachineError, Problem
from .files import clear_temporary, machine_error, make_folder
from .place import is_remote, place

LOCK_NAME = ".lungseg.lock"


@contextlib.contextmanager
def folder_lock(folder: str | Path, *, stage: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold ``folder`` for one writer; makes it where it is missing, and clears temporary files that a kill left there.

    The lock belongs to the process (``flock``), so a killed writer leaves none behind.

    Raises:
        MachineError: another process holds it longer than ``wait_s`` seconds.
    """
    folder = place(folder)
    if is_remote(folder):  # which has no locks: two writers put equal objects
        yield
        return
    import filelock

    make_folder(folder)
    lock = filelock.FileLock(folder / LOCK_NAME, timeout=wait_s)
    try:
        lock.acquire()
    except filelock.Timeout as cause:
        raise MachineError(
            Problem(
                "locked",
                "another lungseg process is writing here",
                file=str(folder),
                mend="Wait for it to end, or choose another output folder.",
            ),
            stage,
        ) from cause
    except OSError as cause:
        raise machine_error(cause, folder) from cause
    try:
        clear_temporary(folder)
        yield
    finally:
        lock.release()
