"""A case made out of sight: whole or not there, and two writers of the same case do each other no harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from lungseg.case_record import CASE_RECORD
from lungseg.errors import UsageError
from lungseg.publish import files_of, new_case

from .volumes import tree_bytes


def fill(made: Path, text: str = "x") -> None:
    (made / "images").mkdir(exist_ok=True)
    for name in ("images/030.npy", "images/031.npy", "tumour.npy", CASE_RECORD):
        (made / name).write_text(f"{text} {name}")


def test_one_writer_works_in_the_folder_itself(tmp_path: Path) -> None:
    with new_case(tmp_path / "case", shared=False) as made:
        assert made == tmp_path / "case"


def test_nothing_is_seen_before_all_is_there_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "out/case"
    with new_case(folder, shared=True) as made:
        fill(made)
        assert not folder.exists() and made != folder
        assert list(folder.parent.glob(f"*/{CASE_RECORD}")) == []  # what a kill leaves is not taken for a case
    assert sorted(tree_bytes(folder)) == sorted(files_of(folder)) and files_of(folder)[-1] == CASE_RECORD
    assert [path.name for path in folder.parent.iterdir()] == ["case"]


def test_an_attempt_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "out/case"
    with new_case(folder, shared=True) as made:
        fill(made)
    before = tree_bytes(tmp_path)
    with pytest.raises(ZeroDivisionError), new_case(folder, shared=True) as made:
        fill(made, "other")
        raise ZeroDivisionError
    assert tree_bytes(tmp_path) == before


@pytest.mark.parametrize("order", ["first", "second"])
def test_two_writers_at_once_leave_one_whole_case(tmp_path: Path, order: str) -> None:
    folder = tmp_path / "out/case"
    one, two = new_case(folder, shared=True), new_case(folder, shared=True)
    for made in (one.__enter__(), two.__enter__()):
        fill(made)
    for writer in (one, two) if order == "first" else (two, one):
        writer.__exit__(None, None, None)
    assert tree_bytes(folder) == {name: f"x {name}".encode() for name in files_of(folder)}
    assert len(files_of(folder)) == 4 and [path.name for path in folder.parent.iterdir()] == ["case"]


def test_leftovers_of_other_settings_go_and_foreign_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "out/case"
    (folder / "images").mkdir(parents=True)
    (folder / "images/029.npy").write_text("of another run")
    (folder / "notes.txt").write_text("the user's")
    with new_case(folder, shared=True) as made:
        fill(made)
    assert set(files_of(folder)) == {"images/030.npy", "images/031.npy", "tumour.npy", "notes.txt", CASE_RECORD}


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/case").write_text("a file")
    with pytest.raises(UsageError, match="is a file"), new_case(tmp_path / "out/case", shared=True) as made:
        fill(made)
