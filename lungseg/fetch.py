"""A file over HTTP that survives a bad line: a `.part` file, range resume, retries, an end to every stall.

Nothing that comes is trusted: the hash is checked by the caller, and what plainly is another file (an HTML page,
another length) is refused at once (RFC 9110 for ranges and conditional requests).
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import IntegrityError, MachineError, Problem, UsageError, printable
from .fetch_answer import not_the_file, validator_of, what_comes
from .files import machine_error, require_free_space
from .progress import byte_bar
from .records import read_json, write_json
from .web import Dropped, check_address, open_address, shown

_CHUNK = 1 << 20
_ENOUGH_TO_START_COUNTING_ANEW = 64_000_000  # bytes after which a line that drops is a line that works
_MEND = "Check the network and run the same command again: it goes on where it was."


@dataclass(frozen=True)
class Patience:
    """How long to wait for a bad line.

    Args:
        timeout_s: seconds without an answer, or with less than ``least_bytes`` coming in, after which a try has failed.
        least_bytes: see ``timeout_s``.
        backoff_s: seconds to wait before each new try; as many tries as there are entries, after the first one.
        sleep: what waits.
    """

    timeout_s: float = 30.0
    least_bytes: int = 10_000
    backoff_s: tuple[float, ...] = (2.0, 8.0, 30.0)
    sleep: Callable[[float], None] = time.sleep


PATIENCE = Patience()


def fetch(url: str, target: Path, *, size: int | None = None, most: int, patience: Patience) -> None:
    """Fetch ``url`` to ``target`` through ``target.part``, which is kept and gone on from.

    The note ``target.part.json`` (address, what tells a changed file) stays, see :func:`was_fetched`.

    Args:
        url: ``https``; ``http`` only on this machine itself.
        target: where the complete file is put; its folder exists, and the caller holds its lock.
        size: bytes that it must have; None takes what the server says.
        most: bytes that it may have at most.
        patience: how long to wait for a bad line.

    Raises:
        IntegrityError: what the server gives is not the file.
        MachineError: the network or the disk fails for good; what came is kept.
        UsageError: an address that is not to be used.
    """
    check_address(url)
    part = part_of(target)
    failures = 0
    while True:
        before = size_of(part)
        try:
            _try_once(url, target, size, most, patience)
            os.replace(part, target)
            return
        except Dropped as cause:
            if cause.stale:
                _forget(target)
            if size_of(part) - before >= _ENOUGH_TO_START_COUNTING_ANEW:
                failures = 0
            if failures == len(patience.backoff_s):
                kept = f"{size_of(part)} bytes are kept, after {failures + 1} tries: {cause}"
                raise MachineError(
                    Problem("network", "the download broke off", found=kept, file=shown(url), mend=_MEND)
                ) from cause
            pause = patience.backoff_s[failures]
            failures += 1
            _say(f"{cause}; {size_of(part)} bytes are kept, try {failures + 1} in {pause:g} s")
            patience.sleep(pause)
        except OSError as cause:
            raise machine_error(cause, part) from cause


def part_of(target: Path) -> Path:
    """Where the bytes are until all are there."""
    return target.with_name(target.name + ".part")


def note_of(target: Path) -> Path:
    """The note that is kept beside the part."""
    return target.with_name(target.name + ".part.json")


def was_fetched(target: Path) -> bool:
    """Whether a file that stands at ``target`` came by :func:`fetch`, and not from the user's own hand."""
    return note_of(target).exists() and not part_of(target).exists()


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def read_note(note: Path) -> dict[str, str]:
    """What the note says: ``url`` and ``validator``.

    Raises:
        UsageError: it is no such note.
    """
    mend = "Delete this file, and the .part beside it."
    noted = read_json(note, mend=mend)
    if not isinstance(noted, dict) or not all(
        isinstance(value, str) and value.isprintable() for value in noted.values()
    ):
        what, expected = "is no note of a download", "url and validator"
        raise UsageError.of("bad-note", what, expected=expected, found=str(noted)[:200], file=note, mend=mend)
    return dict(noted)


def _forget(target: Path) -> None:
    part_of(target).unlink(missing_ok=True)
    note_of(target).unlink(missing_ok=True)


def _try_once(url: str, target: Path, size: int | None, most: int, patience: Patience) -> None:
    part, note = part_of(target), note_of(target)
    have = size_of(part)
    if size is not None and have >= size:
        if have == size:
            return
        _forget(target)
        have = 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "lungseg"}
    noted = read_note(note) if have and note.exists() else {}
    if noted.get("url", shown(url)) != shown(url):
        have = 0  # from another address, so perhaps of another file
    if have:
        headers["Range"] = f"bytes={have}-"
        if noted.get("validator"):
            headers["If-Range"] = noted["validator"]
    with open_address(url, headers, patience.timeout_s) as response:
        start, total = what_comes(response, have, size, most, url)
        if start and noted.get("validator") and validator_of(response) not in ("", noted["validator"]):
            raise Dropped("the file has changed on the server", stale=True)  # it does not heed If-Range
        if total is not None:
            require_free_space(part.parent, total - size_of(part), stage="download")
        with open(part, "r+b" if start else "wb") as file:
            if not start or not note.exists():
                # After the truncation: a kill between the two must not give old bytes the new file's validator.
                write_json(note, {"url": shown(url), "validator": validator_of(response)})
            file.seek(start)
            try:
                _receive(response, file, start, total, most if total is None else total, url, patience)
            except IntegrityError:
                file.truncate(0)  # of another file, there is nothing to go on from
                raise


def _receive(
    response: http.client.HTTPResponse,
    file: Any,
    start: int,
    total: int | None,
    most: int,
    url: str,
    patience: Patience,
) -> None:
    """Write what comes to ``file``; returns once all of it is there."""
    have = start
    window_start, window_bytes = time.monotonic(), 0
    with byte_bar(total, what="download") as bar:
        bar.update(start)
        while True:
            try:
                block = response.read1(_CHUNK)
            except (OSError, http.client.HTTPException, ValueError) as cause:
                raise Dropped(f"the connection broke ({printable(str(cause)) or type(cause).__name__})") from cause
            if not block:
                break
            if have == 0 and block.lstrip()[:1] == b"<":
                raise not_the_file("html-page", "the server sends a web page instead of the file", url, "a tar", "<")
            have += len(block)
            if have > most:
                raise not_the_file("wrong-length", "the file is longer", url, f"{most} bytes", "more")
            file.write(block)
            bar.update(len(block))
            window_bytes += len(block)
            if (now := time.monotonic()) - window_start > patience.timeout_s:
                if window_bytes < patience.least_bytes:
                    raise Dropped(f"only {window_bytes} bytes came in {patience.timeout_s:g} s")
                window_start, window_bytes = now, 0
    if total is not None and have < total:
        if response.chunked:  # a chunked answer says itself where it ends: it was not cut off, it is another file
            raise not_the_file("wrong-length", "the file is shorter", url, f"{total} bytes", f"{have} bytes")
        raise Dropped("the connection ended early")


def _say(text: str) -> None:
    print(f"download: {text}", file=sys.stderr, flush=True)
