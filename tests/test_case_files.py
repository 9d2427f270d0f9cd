"""What is removed from a case's folder."""

from __future__ import annotations

from pathlib import Path

from lungseg.case_files import remove_case, remove_stale
from lungseg.files import TEMPORARY_PREFIX


def case_folder(folder: Path) -> Path:
    for name in (
        "case.json", "tumour.npy", "images/030.npy", "images/1000.npy", "masks/030.npy", "notes.txt",
        "images/mine.npy", "scans/image.nii.gz", f"images/{TEMPORARY_PREFIX}1.npy", f"{TEMPORARY_PREFIX}2.json",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_only_what_a_run_wrote_is_removed(tmp_path: Path) -> None:
    mine = {"notes.txt", "images/mine.npy", "scans/image.nii.gz"}
    folder = case_folder(tmp_path / "a [1]")
    remove_stale(folder, {"case.json", "images/1000.npy"})
    assert names(folder) == mine | {"case.json", "images/1000.npy"}
    assert not (folder / "masks").exists()  # an unlabelled case has none
    remove_case(folder)
    assert names(folder) == mine


def test_a_case_without_other_files_goes_as_a_whole(tmp_path: Path) -> None:
    folder = case_folder(tmp_path / "lung_001")
    for name in ("notes.txt", "images/mine.npy", "scans/image.nii.gz"):
        (folder / name).unlink()
    (folder / "scans").rmdir()
    remove_case(folder)
    assert not folder.exists()
    remove_case(folder)  # nothing there: nothing to do
