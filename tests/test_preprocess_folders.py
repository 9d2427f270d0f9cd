"""Folders of slices: reruns and repairs, other settings, bad cases, and what must be left alone."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungseg.cli import main
from lungseg.errors import DataError, MachineError, UsageError
from lungseg.files import TEMPORARY_PREFIX
from lungseg.folder_lock import LOCK_NAME, folder_lock
from lungseg.manifest import Manifest
from lungseg.preprocess import summary

from .slices import again, codes_of, label_of, scan_of, write_pair
from .volumes import affine_of, chest_like, tree_bytes, write_tree, write_volume


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "root")


def test_workers_and_threads_give_the_same_bytes_and_leave_the_data_alone(tree: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    content = tree_bytes(tree)
    again(tree, tmp_path / "one", workers=1)
    again(tree, tmp_path / "two", workers=2)
    again(tree, tmp_path / "threads")
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "threads")
    assert len(tree_bytes(tmp_path / "one")) == 3 * (8 + 8 + 1) + 8 + 4 + 1
    assert tree_bytes(tree) == content
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_a_rerun_takes_what_is_whole_as_done(tree: Path, tmp_path: Path) -> None:
    first = again(tree, tmp_path / "out")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    content = tree_bytes(tmp_path / "out")
    second = again(tree, tmp_path / "out")
    assert first.reused == () and second.reused == tuple(first.manifest.cases)
    assert second.manifest.cases == first.manifest.cases
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")} == written
    assert tree_bytes(tmp_path / "out") == content
    assert "4 were there already" in summary(second)


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"zeros": bytes(len(data)), "cut": data[:-7], "bit": data[:-1] + bytes([data[-1] ^ 1])}[how])


@pytest.mark.parametrize("how", ["zeros", "cut", "bit", "missing"])
@pytest.mark.parametrize("name", ["images/004.npy", "masks/009.npy", "tumour.npy", "case.json"])
def test_row_29_a_damaged_file_is_made_again(tree: Path, tmp_path: Path, how: str, name: str) -> None:
    again(tree, tmp_path / "out")
    content = tree_bytes(tmp_path / "out")
    spoil(tmp_path / "out" / "lung_002" / name, how)
    done = again(tree, tmp_path / "out")
    assert done.reused == ("lung_001", "lung_003", "lung_004") and done.exit_code == 0
    assert tree_bytes(tmp_path / "out") == content


def test_row_28_what_a_kill_leaves_is_finished_to_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    again(tree, out)
    content = tree_bytes(out)
    # As if it had been killed in lung_003: no manifest, no record, half of the slices, a temporary file.
    (out / "manifest.json").unlink()
    (out / "lung_003/case.json").unlink()
    for z in range(6, 10):
        (out / f"lung_003/masks/{z:03d}.npy").unlink()
    for name in ("lung_003/masks", "lung_003", "."):
        (out / name / f"{TEMPORARY_PREFIX}dead.npy").write_bytes(b"half")
    done = again(tree, out)
    assert done.reused == ("lung_001", "lung_002", "lung_004")
    assert tree_bytes(out) == content


def test_a_kill_before_the_first_record_is_no_foreign_folder(tree: Path, tmp_path: Path, made) -> None:
    (tmp_path / "out/lung_001/images").mkdir(parents=True)
    (tmp_path / "out/lung_001/images/002.npy").write_bytes(b"half")
    (tmp_path / "out" / LOCK_NAME).touch()
    again(tree, tmp_path / "out")
    assert tree_bytes(tmp_path / "out") == tree_bytes(made[1])


def test_a_scan_that_was_replaced_is_sliced_again(tree: Path, tmp_path: Path) -> None:
    again(tree, tmp_path / "out")
    write_volume(tree / "imagesTr/lung_002.nii.gz", chest_like((24, 24, 10), seed=77))
    (tree / "labelsTr/lung_003.nii.gz").write_bytes((tree / "labelsTr/lung_001.nii.gz").read_bytes())
    assert again(tree, tmp_path / "out").reused == ("lung_001", "lung_004")
    again(tree, tmp_path / "fresh")
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "fresh")


def test_a_label_that_was_taken_away_takes_its_masks_along(tmp_path: Path) -> None:
    write_pair(tmp_path / "root", "a", scan_of(), label_of())
    again(tmp_path / "root", tmp_path / "out")
    (tmp_path / "root/a_label.nii").unlink()
    again(tmp_path / "root", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out/a").iterdir()) == ["case.json", "images"]


@pytest.mark.parametrize("options", [{"size": 24}, {"skip_slices": 3}, {"skip_slices": "auto"}])
def test_row_31_other_settings_are_refused_and_rebuilt_when_asked(tmp_path: Path, options: dict) -> None:
    root = tmp_path / "root"
    write_volume(root / "a.nii", chest_like((32, 32, 10)), affine_of("LAS", (10, 10, 8)))
    again(root, tmp_path / "out")
    content = tree_bytes(tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        again(root, tmp_path / "out", **options)
    problem = caught.value.problem
    (name, value), *_ = options.items()
    assert problem.code == "other-settings" and "--rebuild" in problem.mend
    assert problem.expected == f"{name} {value}" and problem.found == f"{name} {({'size': 16, 'skip_slices': 2})[name]}"
    assert tree_bytes(tmp_path / "out") == content
    assert again(root, tmp_path / "out", rebuild=True, **options).reused == ()
    again(root, tmp_path / "fresh", **options)
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "fresh")


def test_other_settings_of_an_unfinished_folder_are_refused_too(tree: Path, tmp_path: Path) -> None:
    again(tree, tmp_path / "out")
    (tmp_path / "out/manifest.json").unlink()
    with pytest.raises(UsageError, match="other settings"):
        again(tree, tmp_path / "out", size=24)


def test_a_folder_of_other_cases_is_refused_and_cleared_when_asked(tree: Path, tmp_path: Path) -> None:
    write_pair(tmp_path / "other", "mine", scan_of(), label_of())
    again(tmp_path / "other", tmp_path / "out")
    with pytest.raises(UsageError, match=r"cases that are not in the data folder.*mine"):
        again(tree, tmp_path / "out")
    again(tree, tmp_path / "out", rebuild=True)
    again(tree, tmp_path / "fresh")
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "fresh") and not (tmp_path / "out/mine").exists()


# Folders that are left alone


def test_a_folder_of_other_files_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("three years of work")
    for _ in range(2):
        with pytest.raises(UsageError, match="holds other files"):
            again(tree, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]  # not even a lock
    (tmp_path / "out" / LOCK_NAME).touch()
    with pytest.raises(UsageError, match="holds other files"):
        again(tree, tmp_path / "out")
    assert tree_bytes(tmp_path / "out") == {"thesis.txt": b"three years of work"}


@pytest.mark.parametrize("rebuild", [False, True])
def test_other_files_in_a_cases_folder_survive(tree: Path, tmp_path: Path, rebuild: bool) -> None:
    mine = tmp_path / "out/lung_001/notes/reading.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    again(tree, tmp_path / "out", rebuild=rebuild)
    again(tree, tmp_path / "out")
    (tree / "imagesTr/lung_001.nii.gz").write_bytes(b"bad")
    done = again(tree, tmp_path / "out")
    assert "lung_001" not in done.manifest.cases and mine.read_text() == "mine"
    assert list(tree_bytes(tmp_path / "out/lung_001")) == ["notes/reading.txt"]


@pytest.mark.parametrize("out", ["root", "root/out", "root/imagesTr/deep/er", "."])
@pytest.mark.parametrize("rebuild", [False, True])
def test_out_inside_or_around_the_data_is_refused(tree: Path, tmp_path: Path, out: str, rebuild: bool) -> None:
    content = tree_bytes(tmp_path)
    with pytest.raises(UsageError) as caught:
        again(tree, tmp_path / out, rebuild=rebuild)
    assert caught.value.problem.code == "out-in-root"
    assert tree_bytes(tmp_path) == content and not (tmp_path / "root/out").exists()


def test_out_inside_the_data_by_a_link_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree, target_is_directory=True)
    with pytest.raises(UsageError, match="one in the other"):
        again(tree, tmp_path / "link" / "out")
    with pytest.raises(UsageError, match="one in the other"):
        again(tmp_path / "link", tree / "out")


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_case_folder_that_is_a_link_is_refused(tree: Path, tmp_path: Path, rebuild: bool) -> None:
    again(tree, tmp_path / "others")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "lung_002").symlink_to(tmp_path / "others" / "lung_002")
    before = tree_bytes(tmp_path / "others")
    with pytest.raises(UsageError, match="lung_002: is a link"):
        again(tree, tmp_path / "out", rebuild=rebuild)
    assert tree_bytes(tmp_path / "others") == before


def test_a_folder_of_a_later_version_is_left_as_it_is_but_for_rebuild(tree: Path, tmp_path: Path) -> None:
    again(tree, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "lungseg": "9.0"}))
    before = tree_bytes(tmp_path / "out")
    with pytest.raises(UsageError, match=r"later version.*version 9\.0.*Update lungseg"):
        again(tree, tmp_path / "out")
    assert tree_bytes(tmp_path / "out") == before
    assert len(again(tree, tmp_path / "out", rebuild=True).manifest.cases) == 4


def test_the_same_scan_under_two_names_is_warned_of(tree: Path, tmp_path: Path) -> None:
    (tree / "imagesTr" / "lung_003.nii.gz").write_bytes((tree / "imagesTr" / "lung_001.nii.gz").read_bytes())
    done = again(tree, tmp_path / "out")
    assert [(problem.case, problem.code) for problem in done.problems] == [("lung_003", "same-scan")]
    assert done.exit_code == 0


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_and_folders_are_as_open_as_the_user_has_it(tree: Path, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        again(tree, tmp_path / "out")
    finally:
        os.umask(before)
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        mode = path.stat().st_mode & 0o777
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert mode == wanted or path.name == LOCK_NAME, (path, oct(mode))


def test_row_32_a_locked_folder_is_refused_and_left_alone(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with folder_lock(out, stage="another"), pytest.raises(MachineError) as caught:
        again(tree, out)
    assert caught.value.problem.code == "locked" and caught.value.exit_code == 5
    assert tree_bytes(out) == {}
    assert again(tree, out).exit_code == 0


@pytest.mark.parametrize("size", [0, 7, 5000, -16])
def test_sizes_that_can_not_be_meant(tree: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError, match="slice size"):
        again(tree, tmp_path / "out", size=size)
    assert not (tmp_path / "out").exists()


# Bad cases


def test_row_30_one_bad_case_of_several(tree: Path, tmp_path: Path, made, capsys) -> None:
    path = tree / "imagesTr/lung_002.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    command = ["preprocess", str(tree), str(out), "--size", "16", "--skip-slices", "2", "--workers", "1"]
    assert main(command) == 3
    said = capsys.readouterr()
    assert "imagesTr/lung_002.nii.gz" in said.out and "gzip stream is cut off" in said.out
    assert "3 cases, 2 labelled" in said.out and "1 case failed" in said.out
    assert "Traceback" not in said.out + said.err
    manifest = Manifest.read(out)
    assert list(manifest.cases) == ["lung_001", "lung_003", "lung_004"]
    assert manifest.failed == {"lung_002": "the gzip stream is cut off"}
    assert not (out / "lung_002").exists()
    path.write_bytes(whole)  # mended: the next run does what was left
    assert main(command) == 0
    assert "3 were there already" in capsys.readouterr().out
    assert tree_bytes(out) == tree_bytes(made[1])


def test_every_kind_of_bad_case_is_left_out_and_named(tree: Path, tmp_path: Path) -> None:
    write_volume(tree / "labelsTr/lung_001.nii.gz", np.full((24, 24, 10), 2, np.uint8))
    write_volume(tree / "labelsTr/lung_002.nii.gz", np.ones((24, 24, 9), np.uint8))
    (tree / "labelsTr/lung_003.nii.gz").unlink()
    done = again(tree, tmp_path / "out")
    assert codes_of(done.problems) == [
        ("lung_001", "label-values"), ("lung_002", "grid-shape"), ("lung_003", "missing-label"),
    ]  # fmt: skip
    assert list(done.manifest.cases) == ["lung_004"] and sorted(done.manifest.failed) == [
        "lung_001", "lung_002", "lung_003",
    ]  # fmt: skip
    assert done.exit_code == 3


def test_a_case_that_went_bad_loses_its_slices(tree: Path, tmp_path: Path) -> None:
    again(tree, tmp_path / "out")
    (tree / "imagesTr/lung_001.nii.gz").write_bytes(b"\x1f\x8bno")
    done = again(tree, tmp_path / "out")
    assert done.exit_code == 3 and done.reused == ("lung_002", "lung_003", "lung_004")
    assert not (tmp_path / "out/lung_001").exists()


def test_what_a_kill_left_of_a_case_that_went_bad_is_removed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out/lung_001/images").mkdir(parents=True)
    (tmp_path / "out/lung_001/images/002.npy").write_bytes(b"half")
    (tree / "imagesTr/lung_001.nii.gz").write_bytes(b"\x1f\x8bno")
    again(tree, tmp_path / "out")
    assert not (tmp_path / "out/lung_001").exists()


def test_a_finished_case_that_can_not_be_looked_at_for_a_while_is_kept(tree: Path, tmp_path: Path, monkeypatch) -> None:
    again(tree, tmp_path / "out")
    before = tree_bytes(tmp_path / "out/lung_001")
    module = sys.modules["lungseg.preprocess"]  # the package names the function so
    real = module._one_case

    def out_of_reach(task: Any) -> Any:
        if task.case.name == "lung_001":
            raise MachineError.of("os-error", os.strerror(errno.EIO), file=task.case.image)
        return real(task)

    monkeypatch.setattr(module, "_one_case", out_of_reach)
    done = again(tree, tmp_path / "out", workers=1)
    assert done.exit_code == 5 and "lung_001" not in done.manifest.cases
    assert tree_bytes(tmp_path / "out/lung_001") == before
    monkeypatch.undo()
    assert "lung_001" in again(tree, tmp_path / "out").reused


def test_no_good_case_at_all_is_an_error_and_no_manifest(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        again(tree, tmp_path / "out", skip_slices=10)
    assert caught.value.problem.code == "no-slice-left" and caught.value.exit_code == 3
    assert tree_bytes(tmp_path / "out") == {}


def fill_disk_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``count`` files be written or moved; then the disk is full."""
    left = iter(range(count))

    def until_full(function: Callable[..., Any]) -> Callable[..., Any]:
        def full(*args: Any) -> Any:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*args)

        return full

    for name in ("replace", "write"):
        monkeypatch.setattr(os, name, until_full(getattr(os, name)))


def test_row_08_a_full_disk_ends_the_run_and_the_next_goes_on(tree: Path, tmp_path: Path, made, monkeypatch) -> None:
    fill_disk_after(30, monkeypatch)  # lung_001 takes 20: 16 slices, 2 folders of them, tumour.npy and case.json
    with pytest.raises(MachineError) as caught:
        again(tree, tmp_path / "out", workers=1)
    assert caught.value.problem.code == "disk-full" and caught.value.exit_code == 5
    assert not (tmp_path / "out/manifest.json").exists()
    monkeypatch.undo()
    assert again(tree, tmp_path / "out").reused == ("lung_001",)
    assert tree_bytes(tmp_path / "out") == tree_bytes(made[1])


def test_a_rebuild_that_broke_off_leaves_no_old_record_on_new_slices(tree: Path, tmp_path: Path, monkeypatch) -> None:
    again(tree, tmp_path / "out", size=24)
    fill_disk_after(5, monkeypatch)
    with pytest.raises(MachineError):
        again(tree, tmp_path / "out", rebuild=True, workers=1)
    assert not (tmp_path / "out/lung_001/case.json").exists() and (tmp_path / "out/lung_002/case.json").exists()
