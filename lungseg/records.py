"""Records in JSON: written whole, read with the place where the syntax broke, and never over something else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import LungsegError, Problem, UsageError
from .files import atomic_write, machine_error, refuse_special
from .place import is_remote, place


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


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")
