"""What shards hold, without LitData: samples, numbers, records that are refused.  The rest: tests/extras."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from lungseg.cli import main
from lungseg.errors import DataError, LungsegError
from lungseg.shards import Shards, check_index, holds_shards, is_address, numbered, pack, unpack

from .processed import write_processed

CASES = {"a": [0, 7, 0], "b": [5, 0], "bare": [0, 0]}
INDEX = {"chunks": [], "config": {"data_format": ["bytes"], "compression": None, "encryption": None}}
RECORD = {
    "format": 1,
    "streams": {
        "tumour": {"a": [["chunk-0-0.bin", 1]], "b": [["chunk-0-1.bin", 1]]},
        "clear": {"a": [["chunk-0-0.bin", 2]], "b": [["chunk-0-1.bin", 1]]},
    },
}


def test_a_sample_is_undone() -> None:
    number, image, mask = unpack(pack(2**40, b"image", b"mask!!"))
    assert (number, image.tobytes(), mask.tobytes()) == (2**40, b"image", b"mask!!")
    with pytest.raises(DataError, match="something else"):
        unpack(b"short")


def test_what_is_streamed(tmp_path: Path) -> None:
    assert is_address("s3://bucket/a") and is_address("local:a") and not is_address("a/b") and not is_address(Path("a"))
    assert holds_shards("gs://bucket") and not holds_shards(tmp_path)
    (tmp_path / "shards.json").write_text("{}")
    assert holds_shards(tmp_path) and holds_shards(str(tmp_path))


def test_labelled_slices_are_numbered_case_by_case(tmp_path: Path) -> None:
    manifest = write_processed(tmp_path, CASES, unlabelled=("bare",))
    assert list(numbered(manifest)) == [
        (0, "a", 0, False),
        (1, "a", 1, True),
        (2, "a", 2, False),
        (3, "b", 0, True),
        (4, "b", 1, False),
    ]


def test_records_are_read(tmp_path: Path) -> None:
    write_processed(tmp_path, CASES, unlabelled=("bare",))
    (tmp_path / "shards.json").write_text(json.dumps(RECORD))
    shards = Shards.read(tmp_path, "s3://bucket/a")
    assert shards.address == "s3://bucket/a"
    assert [shards.count(stream, ("a", "b")) for stream in ("tumour", "clear")] == [2, 3]
    assert shards.count("clear", ("b", "bare")) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99}, "99"),
        ({"format": "1"}, "format 1"),
        ({"streams": {"tumour": {}}}, "files of each stream"),
        ({"streams": {"tumour": {}, "clear": {}}}, "expected 3 slices of a; found 0"),
        ({"streams": {"tumour": {"a": [["../x", 2]]}, "clear": {}}}, "no plain file name"),
        ({"streams": {"tumour": {"a": 7}, "clear": {}}}, "files of each stream"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write_processed(tmp_path, CASES, unlabelled=("bare",))
    (tmp_path / "shards.json").write_text(json.dumps({**RECORD, **change}))
    with pytest.raises(LungsegError, match=said):
        Shards.read(tmp_path, str(tmp_path))


@pytest.mark.parametrize("odd", [{"data_format": ["pickle"]}, {"compression": "zstd"}, {"item_loader": "Other"}, None])
def test_an_index_of_anything_but_bytes_is_refused(odd: dict[str, object] | None) -> None:
    config = {**INDEX["config"], "item_loader": "PyTreeLoader"}  # type: ignore[dict-item]
    check_index({"chunks": [], "config": config}, Path("index.json"))
    with pytest.raises(DataError, match="samples of bytes"):
        check_index({"config": {**config, **odd}} if odd else [], Path("index.json"))


@pytest.mark.skipif(importlib.util.find_spec("litdata") is not None, reason="LitData is installed")
def test_without_litdata_the_commands_say_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = write_processed(tmp_path / "processed", CASES, unlabelled=("bare",))
    assert main(["shard", str(manifest.root), str(tmp_path / "shards")]) == 2
    assert "pip install lungseg[stream]" in capsys.readouterr().err
    assert main(["train", "s3://bucket/shards", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "pip install lungseg[stream]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
