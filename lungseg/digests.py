"""Hashes: of slices and records, which find damage, and SHA-256 of whole files, by which others know them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from .errors import IntegrityError


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
