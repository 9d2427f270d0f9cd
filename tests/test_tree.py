"""The three layouts, and rows 10 and 26: everything missing, double or strange is listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg.errors import UsageError
from lungseg.tree import read_tree

from .volumes import chest_like, write_tree, write_volume


def test_task06_layout(tmp_path: Path) -> None:
    tree = read_tree(write_tree(tmp_path, cases=3, test_cases=1))
    assert [(case.name, case.label is not None) for case in tree.cases] == [
        ("lung_001", True), ("lung_002", True), ("lung_003", True), ("lung_004", False),
    ]  # fmt: skip
    assert tree.problems == () and tree.relative(tree.cases[0].image) == "imagesTr/lung_001.nii.gz"


def test_task06_layout_without_dataset_json(tmp_path: Path) -> None:
    (write_tree(tmp_path) / "dataset.json").unlink()
    assert len(read_tree(tmp_path).cases) == 4


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_own_data_a_folder_a_case(tmp_path: Path, suffix: str) -> None:
    for name in ("P 2", "P-1", "Ü"):
        write_volume(tmp_path / name / f"image{suffix}", chest_like((8, 8, 4)))
    write_volume(tmp_path / "P-1" / "label.nii.gz", chest_like((8, 8, 4)))
    tree = read_tree(tmp_path)
    assert [(case.name, case.label is not None) for case in tree.cases] == [("P 2", False), ("P-1", True), ("Ü", False)]


def test_own_data_flat(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "a_label.nii.gz", "b.nii"):
        write_volume(tmp_path / name, chest_like((8, 8, 4)))
    tree = read_tree(tmp_path)
    assert [(case.name, case.label and case.label.name) for case in tree.cases] == [
        ("a", "a_label.nii.gz"),
        ("b", None),
    ]


def test_row_10_macos_companions_are_ignored_and_counted(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for name in ("imagesTr/._lung_001.nii.gz", "labelsTr/._lung_001.nii.gz", "._dataset.json"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    tree = read_tree(tmp_path)
    assert tree.ignored == 3 and tree.problems == () and len(tree.cases) == 4


def test_row_26_every_missing_file_is_listed(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "imagesTr/lung_001.nii.gz").unlink()
    (tmp_path / "labelsTr/lung_002.nii.gz").unlink()
    (tmp_path / "imagesTs/lung_004.nii.gz").unlink()
    tree = read_tree(tmp_path)
    assert [(problem.code, problem.case) for problem in tree.problems] == [
        ("missing-image", "lung_001"), ("missing-label", "lung_002"), ("missing-image", "lung_004"),
    ]  # fmt: skip
    assert [case.name for case in tree.cases] == ["lung_003"]


def test_row_26_missing_label_without_dataset_json(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "labelsTr/lung_002.nii.gz").unlink()
    assert [problem.code for problem in read_tree(tmp_path).problems] == ["missing-label"]


def test_row_26_duplicates_are_both_left_out(tmp_path: Path) -> None:
    write_tree(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["test"].append("./imagesTs/lung_001.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    write_volume(tmp_path / "imagesTs/lung_001.nii.gz", chest_like((8, 8, 4)))
    tree = read_tree(tmp_path)
    assert "duplicate-case" in [problem.code for problem in tree.problems]
    assert "lung_001" not in [case.name for case in tree.cases]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"training": 3, "test": []}', '{"training": [{"image": 5, "label": "x"}], "test": []}',
     '{"training": [{"image": "../../etc/passwd.nii", "label": "/x.nii"}], "test": []}', "null"],
)  # fmt: skip
def test_row_26_bad_dataset_json_is_named_and_the_folders_are_used(tmp_path: Path, text: str) -> None:
    write_tree(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    tree = read_tree(tmp_path)
    assert [problem.code for problem in tree.problems] in (["bad-json"], ["bad-dataset-json"])
    assert len(tree.cases) == 4


def test_counts_and_strangers_are_warned_of(tmp_path: Path) -> None:
    write_tree(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text()) | {"numTraining": 63}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    write_volume(tmp_path / "imagesTr/lung_077.nii.gz", chest_like((8, 8, 4)))
    problems = read_tree(tmp_path).problems
    assert {(problem.code, problem.severity) for problem in problems} == {
        ("dataset-json-count", "warning"), ("not-listed", "warning"),
    }  # fmt: skip


def test_no_folder_and_no_scans(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        read_tree(tmp_path / "missing")
    with pytest.raises(UsageError, match="holds no scans"):
        read_tree(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        read_tree(tmp_path / "file")


def test_row_49_an_accent_may_be_written_in_two_ways(tmp_path: Path) -> None:
    composed, apart = "Jos\u00e9", "Jose\u0301"
    write_volume(tmp_path / "imagesTr" / f"{apart}.nii.gz", chest_like((8, 8, 4)))
    write_volume(tmp_path / "labelsTr" / f"{composed}.nii", chest_like((8, 8, 4)))
    for _ in range(2):
        tree = read_tree(tmp_path)
        assert [(case.name, case.label is not None) for case in tree.cases] == [(composed, True)] and not tree.problems
        assert tree.cases[0].image.is_file() and tree.cases[0].label.is_file()
        pair = {"image": f"imagesTr/{composed}.nii.gz", "label": f"labelsTr/{apart}.nii"}
        (tmp_path / "dataset.json").write_text(json.dumps({"training": [pair], "test": []}))


def test_row_26_names_that_differ_in_capitals_are_one_name_on_many_disks(tmp_path: Path) -> None:
    for name in ("lung_1", "Lung_1", "lung_2"):
        write_volume(tmp_path / f"{name}.nii.gz", chest_like((8, 8, 4)))
    tree = read_tree(tmp_path)
    assert [case.name for case in tree.cases] == ["lung_2"] and tree.exit_code == 3
    assert [problem.code for problem in tree.problems] == ["duplicate-case"]
    assert "capital letters" in str(tree.problems[0]) and "Lung_1.nii.gz" in str(tree.problems[0])
