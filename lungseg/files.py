"""Writing so that nothing is ever half there: atomic files, folders and free space.

A file is written under a temporary name in its own folder and then moved over its final name, which the file system
does in one step.  ``durable=True`` adds an fsync of the file and its folder, for what can not be made again cheaply:
manifests, checkpoints and predictions.  A kill needs no fsync, only a power cut does; for slices the manifest's hashes
find what a power cut spoilt.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import LungsegError, MachineError, Problem, UsageError
from .place import is_remote, place, put

TEMPORARY_PREFIX = ".lungseg-partial-"
_LEFTOVER_S = 3600  # no writer takes so long for one file
_LONGEST_NAME = 255  # bytes, of a file's name on all common file systems
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_path(path: str | Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``; on leaving the block without an error it takes the place of ``path``.

    For an address in an object store it is a file of this machine, which is then put there in one request.

    Args:
        path: the final name; its folder must exist.
        durable: fsync the file before and its folder after the move.

    Raises:
        UsageError: ``path`` is no plain file (see :func:`refuse_special`).
        MachineError: the disk is full or the folder can not be written; the temporary file is gone then, and what stood
            at ``path`` before still stands there.
    """
    path = place(path)
    if is_remote(path):
        with _to_be_put(path) as temporary:
            yield temporary
        return
    refuse_special(path)
    # The suffix stays last, because some writers choose their format by it.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{path.name}")
    if len(os.fsencode(temporary.name)) > _LONGEST_NAME:
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if durable:
            _fsync(temporary)
        os.replace(temporary, path)
        if durable and os.name == "posix":
            _fsync(path.parent)
        if durable:
            _clear_leftovers(path)
    except OSError as error:
        raise machine_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def refuse_special(path: Path) -> None:
    """Refuse to move a file over a device, a pipe or a socket, or over a link such as ``/dev/stdout``.

    The system lets a superuser do that, and the whole machine is then without its ``/dev/null``.

    Raises:
        UsageError: ``path`` is such a thing.  A folder, or nothing, is for others to judge.
    """
    special = False
    try:
        special = path.is_symlink() and os.readlink(path).startswith(("/proc/", "/dev/"))  # noqa: PTH115 (as written)
        mode = path.stat().st_mode
    except OSError:
        mode = stat.S_IFREG
    if special or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageError.of(
            "not-a-file",
            "is a device, a pipe or a socket, where a file is wanted",
            file=path,
            mend="Name a file in a folder of your own.",
        )


@contextlib.contextmanager
def _to_be_put(path: Path) -> Iterator[Path]:
    """A file of this machine that becomes an object of a store when the block is left without an error."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        try:
            put(path, temporary.read_bytes())
        except OSError as error:
            raise machine_error(error, path) from error


def atomic_write(path: str | Path, data: bytes | memoryview, *, durable: bool = False) -> None:
    """Write ``data`` to ``path`` in one step (see :func:`atomic_path`)."""
    with atomic_path(path, durable=durable) as temporary, open(temporary, "wb") as file:
        file.write(data)


def clear_temporary(folder: str | Path) -> None:
    """Remove the temporary files that a killed writer left in ``folder`` itself (not below it)."""
    for leftover in Path(folder).glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def make_folder(folder: str | Path) -> Path:
    """Make ``folder`` and its parents; a file in its way or a read-only place is said as such."""
    folder = place(folder)
    if is_remote(folder):  # where a folder is only the beginning of names
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as cause:
        raise UsageError.of(
            "not-a-folder", "is a file, where a folder is wanted", file=folder, mend="Choose another output folder."
        ) from cause
    except OSError as cause:
        raise machine_error(cause, folder) from cause
    return folder


def require_free_space(folder: str | Path, needed_bytes: int, *, stage: str) -> None:
    """Ask for room before a long write.

    Raises:
        MachineError: the file system of ``folder`` has less than ``needed_bytes`` bytes free.
    """
    if is_remote(folder):
        return
    probe = Path(folder).absolute()
    while not probe.exists():
        probe = probe.parent
    free = shutil.disk_usage(probe).free
    if free < needed_bytes:
        raise MachineError(
            Problem(
                "disk-space",
                "not enough free space on the disk",
                expected=f"{needed_bytes / 1e9:.2f} GB",
                found=f"{free / 1e9:.2f} GB",
                file=str(folder),
                mend="Free some space, or choose an output folder on another disk.",
            ),
            stage,
        )


def machine_error(error: OSError, path: str | Path) -> LungsegError:
    """The package's own error for an ``OSError`` at ``path``."""
    if error.errno in _FULL:
        what, mend = "the disk is full", "Free some space and run the same command again: it goes on where it was."
        return MachineError(Problem("disk-full", what, file=str(path), mend=mend))
    if isinstance(error, FileNotFoundError):
        return UsageError(Problem("missing-file", "there is no such file or folder", file=str(path)))
    reason = error.strerror or type(error).__name__
    mend = "Check the permissions and the disk."
    return MachineError(Problem("os-error", f"the system says: {reason}", file=str(path), mend=mend))


def _clear_leftovers(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it; what is young may be of one that is still writing."""
    with contextlib.suppress(OSError):
        for leftover in path.parent.glob(f"{TEMPORARY_PREFIX}*-{glob.escape(path.name)}"):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_S:
                leftover.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
