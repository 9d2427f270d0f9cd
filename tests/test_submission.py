"""The zip for the Decathlon: names, bytes, and nothing that is not whole."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from lungseg.errors import DataError
from lungseg.submission import write_submission


def masks(folder: Path, *cases: str) -> Path:
    folder.mkdir()
    for case in cases:
        (folder / f"{case}.nii.gz").write_bytes(f"mask of {case}".encode())
        (folder / f"{case}.json").write_text("{}")
    return folder


def test_each_mask_lies_under_the_task_by_the_name_of_its_scan(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", "lung_002", "lung_007", "other")
    out = write_submission(folder, ["lung_007", "lung_002"], tmp_path / "s.zip")
    with zipfile.ZipFile(out) as pack:
        assert pack.namelist() == ["Task06_Lung/lung_002.nii.gz", "Task06_Lung/lung_007.nii.gz"]
        assert pack.read("Task06_Lung/lung_007.nii.gz") == b"mask of lung_007" and pack.testzip() is None


def test_equal_masks_give_equal_files(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", "a", "b")
    first = write_submission(folder, ["a", "b"], tmp_path / "1.zip").read_bytes()
    (folder / "a.nii.gz").touch()
    assert write_submission(folder, ["b", "a"], tmp_path / "2.zip").read_bytes() == first


def test_a_missing_mask_is_named_and_nothing_written(tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", "a")
    with pytest.raises(DataError, match=r"expected 2 masks; found none of b"):
        write_submission(folder, ["a", "b"], tmp_path / "s.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks"]
