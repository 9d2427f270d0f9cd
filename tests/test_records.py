"""JSON records: what is written is read again, and what is broken is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg.errors import UsageError
from lungseg.records import read_json, write_json


def test_json_round_trip_and_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"b": [1, 2.5, None, "ü"], "a": {"x": True}}
    write_json(path, value)
    assert read_json(path) == value == json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == value
    for text in ("{", '{"a": NaN}', "", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(UsageError) as caught:
            read_json(path)
        assert caught.value.problem.code == "bad-json" and str(path) in str(caught.value)
    with pytest.raises(UsageError, match="no such file"):
        read_json(tmp_path / "missing.json")
