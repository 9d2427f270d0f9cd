"""Unpacking Task06_Lung: each file in one step, a marker last, and nothing at all from an archive that could harm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .archive_members import Reader, refusal
from .archive_plan import LIMITS, ROOT, SUBFOLDERS, Limits, Plan, plan_of, read_members
from .errors import IntegrityError, Problem, UsageError
from .files import atomic_path, clear_temporary, machine_error, make_folder, require_free_space
from .progress import byte_bar
from .records import read_json, write_json

MARKER = ".lungseg-download.json"  # in the root, written last: the names, sizes and hashes of the files
_CHUNK = 1 << 20


def unpack(
    path: str | Path, out: str | Path, *, origin: dict[str, Any], limits: Limits = LIMITS, any_root: bool = False
) -> Path:
    """Unpack the dataset's files of an archive into ``out/Task06_Lung``.

    A file that stands there already with the same content is kept; the marker is written last, so that a tree whose
    unpacking was cut off has none, and unpacking again repairs it.

    Args:
        path: the archive, whose hash has been checked.
        out: folder of the tree; the caller holds its lock.
        origin: what the marker says of where the files come from.
        limits: see :func:`plan_of`.
        any_root: see :func:`plan_of`.

    Returns:
        The root of the tree.

    Raises:
        IntegrityError: as :func:`plan_of`; nothing is written then.
        MachineError: the disk is too small, full or can not be written.
        UsageError: a part of the tree is a symbolic link, so that files would be written elsewhere.
    """
    path, root = Path(path), Path(out) / ROOT
    plan = plan_of(path, limits=limits, any_root=any_root)
    _prepare_folders(root)
    present = sum(size for target, size in plan.wanted.values() if _size_of(root / target) == size)
    require_free_space(root, plan.total_bytes - present, stage="download")
    try:
        files = _keep_or_write_all(path, root, plan)
    except OSError as cause:
        raise machine_error(cause, root) from cause
    write_json(root / MARKER, {"format": 1, "origin": origin, "files": dict(sorted(files.items()))})
    return root


def damaged_files(root: Path, origin: dict[str, Any]) -> list[str] | None:
    """Names of the files that are missing or are not what was unpacked; reads them all.

    Args:
        root: the tree.
        origin: what its marker must say.

    Returns:
        None where no unpacking was ever finished.

    Raises:
        UsageError: the tree is of another archive, whose files would stay among the new ones; or the marker is broken.
    """
    if not (root / MARKER).is_file():
        return None
    again = "Delete this file and run the same command again."
    marker = read_json(root / MARKER, mend=again)
    if not isinstance(marker, dict) or marker.get("format") != 1 or not isinstance(marker.get("files"), dict):
        what = "is no record that this version has written"
        raise UsageError(Problem("bad-marker", what, file=str(root / MARKER), mend=again))
    if marker.get("origin") != origin:
        what = "holds the files of another archive"
        mend = "Choose another output folder, or delete this one."
        raise UsageError(Problem("other-archive", what, str(origin), str(marker.get("origin")), mend, str(root)))
    files = marker["files"]
    if not all(_is_record(record) for record in files.values()):
        raise UsageError(Problem("bad-marker", "lists files without size or hash", file=str(root / MARKER), mend=again))
    with byte_bar(sum(record["bytes"] for record in files.values()), what="check") as bar:

        def is_good(name: str) -> bool:
            path, record = root / name, files[name]
            return _size_of(path) == record["bytes"] and _sha256(path, bar.update) == record["sha256"]

        return [name for name in files if not is_good(name)]


def _is_record(value: Any) -> bool:
    """Whether a value of the marker says of a file what :func:`_keep_or_write_all` wrote down."""
    return isinstance(value, dict) and type(value.get("bytes")) is int and isinstance(value.get("sha256"), str)


def _prepare_folders(root: Path) -> None:
    for folder in (root, *(root / name for name in SUBFOLDERS)):
        if folder.is_symlink():
            raise UsageError.of(
                "symbolic-link",
                "is a symbolic link, so the files would be written elsewhere",
                file=folder,
                mend="Remove the link, or give the folder that it leads to as the output folder.",
            )
        clear_temporary(make_folder(folder))


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def _keep_or_write_all(path: Path, root: Path, plan: Plan) -> dict[str, dict[str, Any]]:
    """The marker's records of all wanted files.  Temporary files are the only others that it makes."""
    left = dict(plan.wanted)
    files: dict[str, dict[str, Any]] = {}
    # The first pass keeps or writes; the second writes what the first found to differ.
    for _ in range(2):
        with byte_bar(sum(size for _, size in left.values()), what="unpack") as bar:
            for member, content in read_members(path) if left else ():
                target, size = left.get(member.name, ("", member.size))
                if size != member.size:
                    raise _changed(path)
                digest = _keep_or_write(content, root / target, size, bar.update) if target else ""
                if digest:
                    files[target] = {"bytes": size, "sha256": digest}
                    del left[member.name]
    if left:
        raise _changed(path)
    return files


def _keep_or_write(content: Reader, target: Path, size: int, tick: Callable[[int], object]) -> str:
    """SHA-256 of a file that is there with this content, or is written; "" where it was another and is removed."""
    if _size_of(target) == size:
        with open(target, "rb") as existing:
            digest = _each_chunk(content, size, tick, lambda chunk: existing.read(len(chunk)) == chunk)
        if not digest:
            target.unlink()
        return digest
    with atomic_path(target, durable=True) as temporary, open(temporary, "wb") as file:
        return _each_chunk(content, size, tick, lambda chunk: file.write(chunk) == len(chunk))


def _each_chunk(content: Reader, size: int, tick: Callable[[int], object], use: Callable[[bytes], bool]) -> str:
    """Give the content to ``use`` in chunks; its SHA-256, or "" as soon as ``use`` says no."""
    hasher = hashlib.sha256()
    left = size
    while left:
        chunk = content.read(min(_CHUNK, left))
        if not use(chunk):
            return ""
        hasher.update(chunk)
        tick(len(chunk))
        left -= len(chunk)
    return hasher.hexdigest()


def _sha256(path: Path, tick: Callable[[int], object]) -> str:
    with open(path, "rb") as file:
        return _each_chunk(file, path.stat().st_size, tick, lambda chunk: bool(chunk))


def _changed(path: Path) -> IntegrityError:
    return refusal("changed-archive", "the archive changed while it was being unpacked", path)
