"""Hashes against other implementations of them, and what a seal notices."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lungseg.digests import check_digest, digest, seal, sha256_of
from lungseg.errors import IntegrityError
from lungseg.records import read_json, write_json


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc" * 1000)
    assert sha256_of(path, block=7) == hashlib.sha256(b"abc" * 1000).hexdigest()
    check_digest(b"abc", digest(b"abc"), path)
    with pytest.raises(IntegrityError):
        check_digest(b"abd", digest(b"abc"), path)
    # The published test vector of XXH3-128 for empty input with seed 0.
    assert digest(b"") == "99aa06d3014798d86001c324468d497f"


def test_a_seal_finds_any_other_value(tmp_path: Path) -> None:
    record = {"shape": [1, 2], "sums": {"a": 0.1, "b": "é\udc80"}, "none": None}
    write_json(tmp_path / "a.json", record)
    read = read_json(tmp_path / "a.json")
    assert seal(read, b"data") == seal(record, b"data") == seal({**record, "shape": (1, 2)}, b"data")
    others = [({**record, "shape": [2, 2]}, b"data"), (record, b"date"), ({**record, "sums": {}}, b"data")]
    assert len({seal(record, b"data"), *(seal(*other) for other in others)}) == 4
