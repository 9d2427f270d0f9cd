"""A whole tree is checked: every problem of every case is listed, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.cli import main
from lungseg.errors import UsageError
from lungseg.verify import table, verify

from .volumes import affine_of, chest_like, tree_bytes, write_tree, write_volume

SHAPE = (24, 24, 10)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data")


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Eight cases, of which lung_008 alone is as it should be."""
    root = write_tree(tmp_path / "data", cases=8, test_cases=1)
    image, label = root / "imagesTr", root / "labelsTr"
    data = (image / "lung_001.nii.gz").read_bytes()
    (image / "lung_001.nii.gz").write_bytes(data[: len(data) // 2])  # and its label is bad as well:
    write_volume(label / "lung_001.nii.gz", np.full(SHAPE, 3, np.uint8))
    (label / "lung_002.nii.gz").unlink()
    write_volume(label / "lung_003.nii.gz", np.ones(SHAPE, np.uint8), affine_of("LPS"))
    write_volume(label / "lung_004.nii.gz", np.zeros(SHAPE, np.uint8))
    holes = chest_like(SHAPE).astype(np.float32)
    holes[3, 4, 5:7] = np.nan
    write_volume(image / "lung_005.nii.gz", holes)
    write_volume(image / "lung_006.nii.gz", (chest_like(SHAPE).clip(-1000, 900) + 1024).astype(np.int16))
    write_volume(image / "lung_007.nii.gz", np.zeros((24, 24), np.int16))
    write_volume(label / "lung_007.nii.gz", np.zeros(SHAPE, np.uint8))
    data = bytearray((root / "imagesTs" / "lung_009.nii.gz").read_bytes())
    data[-8] ^= 1
    (root / "imagesTs" / "lung_009.nii.gz").write_bytes(data)
    for name in ("._dataset.json", "imagesTr/._lung_001.nii.gz"):
        (root / name).write_bytes(b"\0\5\x16\7")
    return root


FOUND = {
    ("lung_001", "gzip-truncated", "error", "imagesTr/lung_001.nii.gz"),
    ("lung_001", "label-values", "error", "labelsTr/lung_001.nii.gz"),
    ("lung_002", "missing-label", "error", "labelsTr/lung_002.nii.gz"),
    ("lung_003", "grid-direction", "error", "labelsTr/lung_003.nii.gz"),
    ("lung_004", "no-tumour", "warning", "labelsTr/lung_004.nii.gz"),
    ("lung_005", "not-finite", "error", "imagesTr/lung_005.nii.gz"),
    ("lung_006", "hu-no-air", "warning", "imagesTr/lung_006.nii.gz"),
    ("lung_007", "not-3d", "error", "imagesTr/lung_007.nii.gz"),
    ("lung_007", "no-tumour", "warning", "labelsTr/lung_007.nii.gz"),
    ("lung_009", "gzip-damaged", "error", "imagesTs/lung_009.nii.gz"),
}


def found(verified) -> set[tuple[str, ...]]:
    listed = [(problem.case, problem.code, problem.severity, problem.file) for problem in verified.problems]
    assert listed == sorted(listed, key=lambda item: (item[0], item[3], item[1]))
    assert len(set(listed)) == len(listed)
    return set(listed)


def test_a_clean_tree(clean: Path) -> None:
    before = tree_bytes(clean)
    verified = verify(clean, workers=1)
    assert verified.problems == () and verified.exit_code == verified.errors == verified.ignored == 0
    assert verified.cases == ("lung_001", "lung_002", "lung_003", "lung_004")
    assert table(verified) == "4 cases: 0 errors, 0 warnings"
    assert tree_bytes(clean) == before


def test_every_problem_of_every_case_is_listed(spoilt: Path) -> None:
    before = tree_bytes(spoilt)
    verified = verify(spoilt, workers=1)
    assert found(verified) == FOUND
    assert (verified.errors, verified.exit_code, verified.ignored) == (7, 3, 2)
    assert tree_bytes(spoilt) == before


def test_two_workers_find_the_same(spoilt: Path) -> None:
    assert verify(spoilt, workers=2) == verify(spoilt, workers=1)


def test_the_table_is_a_line_a_problem_and_the_counts(spoilt: Path) -> None:
    lines = table(verify(spoilt, workers=1)).splitlines()
    assert len(lines) == len(FOUND) + 1
    assert lines[-1] == "8 cases: 7 errors, 3 warnings, 2 macOS ._ files ignored"
    line = next(line for line in lines if "lung_005" in line)
    assert line.startswith("error") and "imagesTr/lung_005.nii.gz" in line and "2 of them" in line
    assert not any(str(spoilt) in line for line in lines)


def test_the_json_form_says_the_same(spoilt: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    verified = verify(spoilt, workers=1, json_file=out)
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content == verified.as_dict()
    assert (content["errors"], content["warnings"], content["ignored_macos_files"]) == (7, 3, 2)
    assert {(p["case"], p["code"], p["severity"], p["file"]) for p in content["problems"]} == FOUND
    assert all(p["what"] and p["mend"] for p in content["problems"])
    assert content["cases"] == [f"lung_{number:03d}" for number in (1, 3, 4, 5, 6, 7, 8, 9)]
    assert str(tmp_path) not in out.read_text(encoding="utf-8")


def test_a_tilted_scan_and_its_label_are_both_warned_of(clean: Path) -> None:
    angle = np.radians(15)
    affine = affine_of("LAS")
    affine[:2, :2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ affine[:2, :2]
    write_volume(clean / "imagesTr/lung_001.nii.gz", chest_like(SHAPE), affine)
    write_volume(clean / "labelsTr/lung_001.nii.gz", np.ones(SHAPE, np.uint8), affine)
    verified = verify(clean, workers=1)
    assert [(problem.code, problem.file) for problem in verified.problems] == [
        ("oblique", "imagesTr/lung_001.nii.gz"), ("oblique", "labelsTr/lung_001.nii.gz"),
    ]  # fmt: skip
    assert verified.exit_code == 0


def test_exit_code_with_warnings_alone_is_0_and_with_errors_3(clean: Path, capsys) -> None:
    assert main(["verify", str(clean), "--workers", "1"]) == 0
    write_volume(clean / "labelsTr" / "lung_002.nii.gz", np.zeros(SHAPE, np.uint8))
    assert main(["verify", str(clean), "--workers", "1"]) == 0
    assert "4 cases: 0 errors, 1 warning\n" in capsys.readouterr().out
    (clean / "imagesTr" / "lung_001.nii.gz").write_bytes(b"")
    assert main(["verify", str(clean), "--workers", "1"]) == 3
    out, err = capsys.readouterr()
    assert "4 cases: 1 error, 1 warning\n" in out and "Traceback" not in out + err


def test_a_missing_or_empty_folder_is_a_usage_error(tmp_path: Path, capsys) -> None:
    with pytest.raises(UsageError):
        verify(tmp_path / "missing")
    assert main(["verify", str(tmp_path)]) == 2
    assert "holds no scans" in capsys.readouterr().err


def test_a_tree_of_which_no_case_is_complete_is_listed_too(clean: Path) -> None:
    for path in clean.glob("images*/*"):
        path.unlink()
    verified = verify(clean, workers=1)
    assert verified.cases == () and verified.exit_code == 3
    assert [problem.code for problem in verified.problems] == ["missing-image"] * 4


def test_row_49_odd_names_stay_on_one_line(tmp_path: Path) -> None:
    names = ("a b", "Ünïcode 肺", "-dash", "new\nline", "per%cent'\"")
    for number, name in enumerate(names):
        write_volume(tmp_path / name / "image.nii", chest_like(SHAPE, number))
        write_volume(tmp_path / name / "label.nii", np.zeros(SHAPE, np.uint8))
    verified = verify(tmp_path, workers=1)
    assert verified.cases == tuple(sorted(names))
    lines = table(verified).splitlines()
    assert len(lines) == len(names) + 1 and "new\\nline/label.nii" in "\n".join(lines)


def test_row_34_the_same_scan_under_two_names_is_warned_of(clean: Path) -> None:
    (clean / "imagesTs" / "lung_009.nii.gz").write_bytes((clean / "imagesTr" / "lung_002.nii.gz").read_bytes())
    (clean / "dataset.json").unlink()
    verified = verify(clean, workers=1)
    assert [(problem.case, problem.code, problem.file) for problem in verified.problems] == [
        ("lung_009", "same-scan", "imagesTs/lung_009.nii.gz")
    ]
    assert "the very scan of lung_002" in table(verified) and verified.exit_code == 0


def test_image_and_label_that_are_exchanged_are_both_said(clean: Path) -> None:
    image, label = clean / "imagesTr" / "lung_001.nii.gz", clean / "labelsTr" / "lung_001.nii.gz"
    data = image.read_bytes()
    write_volume(image, (np.indices(SHAPE)[0] % 2).astype(np.uint8))
    label.write_bytes(data)
    problems = {problem.code: problem for problem in verify(clean, workers=1).problems}
    assert set(problems) == {"hu-mask", "label-values"}
    assert "Is it the label?" in problems["hu-mask"].mend and "no image" in problems["label-values"].mend


@pytest.mark.parametrize("name", [".nii.gz", "..nii.gz", "...nii.gz", "a\\b.nii.gz", "manifest.json.nii.gz"])
def test_a_scan_without_a_usable_name_is_listed(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / "good.nii.gz", chest_like(SHAPE))
    (tmp_path / "good.nii.gz").with_name(name).write_bytes((tmp_path / "good.nii.gz").read_bytes())
    verified = verify(tmp_path, workers=1)
    assert [(problem.code, problem.file) for problem in verified.problems] == [("bad-case-name", name)]
    assert verified.cases == ("good",) and verified.exit_code == 3


def test_row_25_a_label_without_tumour_is_warned_of_and_listed(clean: Path, tmp_path: Path, capsys) -> None:
    empty = [write_volume(clean / "labelsTr" / f"lung_00{n}.nii.gz", np.zeros(SHAPE, np.uint8)) for n in (1, 3)]
    assert main(["verify", str(clean), "--json", str(tmp_path / "v.json"), "--workers", "1"]) == 0
    content = json.loads((tmp_path / "v.json").read_text())
    listed = [(p["case"], p["file"], p["code"], p["severity"]) for p in content["problems"]]
    assert listed == [(p.name[:8], f"labelsTr/{p.name}", "no-tumour", "warning") for p in empty]
    out = tmp_path / "slices"
    assert main(["preprocess", str(clean), str(out), "--size", "16", "--skip-slices", "0", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert said.count("the label shows no tumour") == 4 and "lung_003.nii.gz" in said


def test_rows_10_to_27_every_item_of_the_json_names_all_that_a_program_needs(spoilt: Path, tmp_path: Path) -> None:
    image = nib.Nifti1Image(chest_like(SHAPE), affine_of("LAS"))
    image.set_qform(affine_of("LAS", origin_mm=(0, 0, 0)), 1)
    image.set_sform(affine_of("LAS"), 1)
    nib.save(image, spoilt / "imagesTr" / "lung_008.nii.gz")  # two forms, and by that a warning of the header
    assert main(["verify", str(spoilt), "--json", str(tmp_path / "v.json"), "--workers", "1"]) == 3
    problems = json.loads((tmp_path / "v.json").read_text())["problems"]
    assert {p["code"] for p in problems} >= {"forms-differ", "gzip-truncated", "label-values", "grid-direction"}
    for problem in problems:
        assert set(problem) == {"case", "file", "code", "what", "expected", "found", "mend", "severity"}
        assert all(problem[key] for key in ("case", "file", "code", "what", "mend", "severity")), problem


@pytest.mark.parametrize("target", ["imagesTr/lung_001.nii.gz", "dataset.json", "new.json"])
def test_row_45_a_record_is_never_written_into_the_data(clean: Path, target: str) -> None:
    before = tree_bytes(clean)
    with pytest.raises(UsageError, match="over or into the data"):
        verify(clean, json_file=clean / target)
    assert tree_bytes(clean) == before


def test_where_a_record_can_not_be_written_is_said_before_the_scans_are_read(clean: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder does not exist"):
        verify(clean, json_file=tmp_path / "nowhere" / "found.json")
    with pytest.raises(UsageError, match="is a folder"):
        verify(clean, json_file=tmp_path)
    with pytest.raises(UsageError, match="over or into the data"):
        verify(clean, json_file=tmp_path / "other.nii.gz")
