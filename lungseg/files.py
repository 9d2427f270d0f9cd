"""Writing so that nothing is ever half there: atomic files, hashes, locks and free space.

A file is written under a temporary name in its own folder and then moved over its final name, which the file system
does in one step.  ``durable=True`` adds an fsync of the file and its folder, for what can not be made again cheaply:
manifests, checkpoints and predictions.  A kill needs no fsync, only a power cut does; for slices the manifest's hashes
find what a power cut spoilt.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import xxhash

from .errors import IntegrityError, LungsegError, MachineError, Problem, UsageError
from .place import is_remote, place, put

TEMPORARY_PREFIX = ".lungseg-partial-"
LOCK_NAME = ".lungseg.lock"
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


def write_json(path: str | Path, value: Any, *, durable: bool = True) -> None:
    """Write ``value`` as JSON with sorted keys left as given, so that equal values give equal bytes.

    Raises:
        ValueError: ``value`` holds NaN or an infinity, which JSON does not know.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(path, text.encode("utf-8", "surrogateescape"), durable=durable)


def read_json(path: str | Path, *, error: type[LungsegError] = UsageError, mend: str = "") -> Any:
    """Read a JSON file; says which file and where in it the syntax broke.

    Raises:
        error: the file is missing, unreadable or no JSON.
    """
    try:
        with place(path).open(encoding="utf-8", errors="surrogateescape") as file:
            return json.load(file, parse_constant=_no_constant)
    except FileNotFoundError as cause:
        raise error(Problem("missing-file", "there is no such file", file=str(path), mend=mend)) from cause
    except OSError as cause:
        raise machine_error(cause, path) from cause
    except (ValueError, RecursionError) as cause:
        raise error(
            Problem("bad-json", "is no valid JSON", expected="JSON", found=str(cause), file=str(path), mend=mend)
        ) from cause


def check_format(content: Any, known: int, path: str | Path, *, error: type[LungsegError] = UsageError) -> bool:
    """Whether a record is of the format that is known; one of a later format is refused as such, not as damaged.

    Args:
        content: of the JSON file.
        known: number of the format that this version writes.
        path: of the file.
        error: what to raise.

    Raises:
        error: the record is of a later format.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if type(found) is int and found > known:
        by = str(content.get("lungseg", "unknown"))[:40]
        mend = "Update lungseg, or take files of this version."
        what = "was written by a later version of lungseg"
        expected = f"format {known}"
        raise error(Problem("later-format", what, expected, f"format {found}, version {by}", mend, str(path)))
    return type(found) is int and found == known


def digest(data: bytes | memoryview) -> str:
    """Hash of a slice for the manifest (XXH3-128, hex): finds damage, is no protection against an adversary."""
    return xxhash.xxh3_128_hexdigest(data)


def seal(values: Any, data: bytes | memoryview = b"") -> str:
    """Hash of plain values, and of what belongs to them: what a record keeps of itself, to find damage when it is read.

    Args:
        values: as they go into JSON, or come out of it.
        data: of a file beside the record.
    """
    return digest(json.dumps(values).encode() + bytes(data))


def sha256_of(path: str | Path, *, block: int = 1 << 20, tick: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, hex; ``tick`` is called with the number of bytes read in each block."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(block):
            hasher.update(data)
            if tick is not None:
                tick(len(data))
    return hasher.hexdigest()


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


def check_record(path: str | Path, data: Iterable[str | Path]) -> None:
    """Ask before long work whether a record (JSON, CSV) can be written to ``path`` without harm.

    Args:
        path: the file.
        data: folders or files of data, in and over which nothing is written.

    Raises:
        UsageError: it would overwrite a scan or lie within the data; it is a folder or no plain file, or its folder
            does not exist.
    """
    path = place(path)
    target, mend = path.resolve(), "Name another file, outside of the data."
    taken = [place(item).resolve() for item in data]
    if target.name.lower().endswith((".nii", ".nii.gz")) or any(item in (target, *target.parents) for item in taken):
        raise UsageError.of("out-in-data", "a record would be written over or into the data", file=path, mend=mend)
    if path.is_dir():
        raise UsageError.of("not-a-file", "is a folder, where a file is wanted", file=path, mend=mend)
    if is_remote(target):
        return
    refuse_special(path)
    if not target.parent.is_dir():
        raise UsageError.of("missing-folder", "its folder does not exist", file=path, mend="Make it, or name another.")


def refuse_other_record(path: Path, keys: Iterable[str]) -> None:
    """Refuse to write a record over JSON of something else, such as a ``dataset.json`` or a scan's own description.

    JSON that can not be read is taken for a record that was damaged, and may be made again.

    Args:
        path: of the record.
        keys: some that every record of this kind has, and no other.

    Raises:
        UsageError: what stands there lacks one of them.
    """
    try:
        found = read_json(path) if path.is_file() else None
    except LungsegError:
        return
    if path.is_file() and not (isinstance(found, dict) and set(keys) <= set(found)):
        raise UsageError.of(
            "other-record",
            "is JSON of something else, which would be written over",
            file=path,
            mend="Choose another name for the output; this file is named after it.",
        )


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


def check_digest(data: bytes | memoryview, expected: str, path: str | Path) -> None:
    """Raise :class:`IntegrityError` where the hash of ``data`` is not the one that was written down."""
    found = digest(data)
    if found != expected:
        raise IntegrityError.of(
            "hash-mismatch",
            "the file is not the one that was written",
            expected=expected,
            found=found,
            file=path,
            mend="Run the same `lungseg preprocess` again: it repairs damaged slices.",
        )


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


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
