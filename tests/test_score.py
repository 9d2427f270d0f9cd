"""Masks of any tool against labels: matched by name, on one grid, nothing averaged away."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lungseg.errors import DataError, UsageError
from lungseg.score import score

from .volumes import affine_of, write_volume

SHAPE = (12, 10, 6)
SPACING_MM = (0.7, 0.8, 2.5)


def mask_of(seed: int, share: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(seed).random(SHAPE) < share).astype(np.uint8)


def write(path: Path, mask: np.ndarray, codes: str = "LPS", spacing_mm: tuple[float, ...] = SPACING_MM) -> Path:
    return write_volume(path, mask, affine_of(codes, spacing_mm))


def dice_of(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one * other).sum()) / float(one.sum() + other.sum())


def test_two_files(tmp_path: Path) -> None:
    found, truth = mask_of(1), mask_of(2)
    scores = score(write(tmp_path / "by_any_tool.nii.gz", found), write(tmp_path / "lung_007.nii", truth))
    (case,) = scores.cases
    voxel_ml = np.prod(SPACING_MM) / 1000
    assert case.case == "lung_007" and case.dice == pytest.approx(dice_of(found, truth), abs=1e-12)
    assert case.truth_ml == pytest.approx(truth.sum() * voxel_ml, rel=1e-6)
    assert case.volume_error_ml == pytest.approx((int(found.sum()) - int(truth.sum())) * voxel_ml, rel=1e-5)
    assert scores.exit_code == 0 and scores.summary["dice_mean"] == pytest.approx(case.dice, abs=1e-6)


def test_two_folders_are_matched_by_name(tmp_path: Path) -> None:
    masks = {f"lung_{n:03d}": (mask_of(n), mask_of(100 + n)) for n in range(1, 4)}
    for name, (found, truth) in masks.items():
        write(tmp_path / "found" / f"{name}.nii", found)
        write(tmp_path / "labels" / f"{name}.nii.gz", truth)
    write(tmp_path / "found" / "lung_099.nii.gz", mask_of(9))
    scores = score(
        tmp_path / "found",
        tmp_path / "labels",
        json_file=tmp_path / "scores.json",
        csv_file=tmp_path / "scores.csv",
        workers=1,
    )
    expected = {name: dice_of(found, truth) for name, (found, truth) in masks.items()}
    assert {case.case: case.dice for case in scores.cases} == pytest.approx(expected)
    assert scores.summary["dice_mean"] == pytest.approx(np.mean(list(expected.values())), abs=1e-6)
    # A prediction without a label is said, and is no error.
    assert [(p.case, p.severity) for p in scores.problems] == [("lung_099", "warning")] and scores.exit_code == 0
    listed = json.loads((tmp_path / "scores.json").read_text())
    assert [item["case"] for item in listed] == sorted(masks) and {"dice", "volume_error_ml"} <= set(listed[0])
    with open(tmp_path / "scores.csv", newline="") as file:
        assert [float(row["dice"]) for row in csv.DictReader(file)] == [item["dice"] for item in listed]


def test_every_measure_stands_in_the_list(tmp_path: Path) -> None:
    surface_distance = pytest.importorskip("surface_distance")
    write(tmp_path / "found.nii", mask_of(1))
    write(tmp_path / "label.nii", mask_of(2))
    score(tmp_path / "found.nii", tmp_path / "label.nii", json_file=tmp_path / "scores.json")
    (case,) = json.loads((tmp_path / "scores.json").read_text())
    assert {"case", "dice", "nsd_2mm", "hd95_mm", "volume_error_ml"} <= set(case)
    distances = surface_distance.compute_surface_distances(mask_of(2) > 0, mask_of(1) > 0, SPACING_MM)
    surface_dice = surface_distance.compute_surface_dice_at_tolerance(distances, 2.0)
    assert case["nsd_2mm"] == pytest.approx(surface_dice, abs=1e-3)
    assert case["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(distances, 95), abs=1e-3)


def test_the_order_of_a_files_axes_does_not_matter(tmp_path: Path) -> None:
    """Slices are the axial ones, whichever axis of the file they lie along."""
    found, truth = mask_of(1, 0.03), mask_of(2, 0.03)
    scores = []
    for codes, axes in (("LAS", (0, 1, 2)), ("SLA", (2, 0, 1)), ("ASL", (1, 2, 0))):
        spacing_mm = tuple(SPACING_MM[axis] for axis in axes)
        paths = [
            write(tmp_path / codes / f"{name}.nii", mask.transpose(axes), codes, spacing_mm)
            for name, mask in (("a", found), ("b", truth))
        ]
        scores.append(score(*paths).cases[0].as_dict())
    assert scores[1] == pytest.approx(scores[0]) and scores[2] == pytest.approx(scores[0])
    assert scores[0]["tumour_slices"] == np.count_nonzero(truth.any(axis=(0, 1)))


def test_slice_sets_have_no_distances_volumes_or_lesions(tmp_path: Path) -> None:
    write(tmp_path / "found.nii", mask_of(1))
    write(tmp_path / "label.nii", mask_of(2))
    out = {"json_file": tmp_path / "s.json", "csv_file": tmp_path / "s.csv"}
    scores = score(tmp_path / "found.nii", tmp_path / "label.nii", slice_sets=True, **out)
    written = str(scores) + (tmp_path / "s.json").read_text() + (tmp_path / "s.csv").read_text()
    assert not [name for name in ("_mm", "_ml", " mm", " ml", "nsd", "hd95", '"lesions') if name in written]


def test_labels_may_be_named_as_in_the_flat_layout(tmp_path: Path) -> None:
    write(tmp_path / "found" / "a.nii.gz", mask_of(1))
    write(tmp_path / "own" / "a_label.nii.gz", mask_of(2))
    write(tmp_path / "own" / "a.nii.gz", mask_of(3))  # the image itself, which is no label
    scores = score(tmp_path / "found", tmp_path / "own", workers=1)
    assert [(case.case, case.dice) for case in scores.cases] == [("a", pytest.approx(dice_of(mask_of(1), mask_of(2))))]


def test_row_43_a_missing_prediction_is_an_error_and_there_is_no_mean(tmp_path: Path) -> None:
    write(tmp_path / "found" / "a.nii.gz", mask_of(1))
    for name in "ab":
        write(tmp_path / "labels" / f"{name}.nii.gz", mask_of(2))
    scores = score(tmp_path / "found", tmp_path / "labels", workers=1)
    assert scores.exit_code == 3 and [problem.case for problem in scores.problems] == ["b"]
    assert [case.case for case in scores.cases] == ["a"] and scores.summary["dice_mean"] is None
    assert "no prediction" in str(scores) and "no mean" in str(scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": "RPS"}, "direction|different ways"),
        ({"spacing_mm": (0.7, 0.8, 3.0)}, "voxel sizes"),
    ],
)
def test_row_43_another_grid_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    write(tmp_path / "label.nii", mask_of(2))
    with pytest.raises(DataError, match=message):
        score(write(tmp_path / "found.nii", mask_of(1), **change), tmp_path / "label.nii")


def test_row_43_where_no_case_can_be_measured_all_are_named(tmp_path: Path) -> None:
    for name in "abc":
        for folder in ("labels", "predictions"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.nii").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        score(tmp_path / "predictions", tmp_path / "labels", workers=1)
    named = [problem.file for problem in (*caught.value.others, caught.value.problem)]
    assert named == [str(tmp_path / "labels" / f"{name}.nii") for name in "abc"]


def test_row_43_another_shape_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path / "label.nii", mask_of(2))
    found = write_volume(tmp_path / "found.nii", mask_of(1)[:-1], affine_of("LPS", SPACING_MM))
    with pytest.raises(DataError, match=r"found\.nii: .*shapes.*12 x 10 x 6.*11 x 10 x 6"):
        score(found, tmp_path / "label.nii")


def test_row_24_a_probability_map_is_no_mask(tmp_path: Path) -> None:
    write(tmp_path / "label.nii", mask_of(2))
    with pytest.raises(DataError, match="0 and 1"):
        score(write_volume(tmp_path / "p.nii", mask_of(1) * np.float32(0.5)), tmp_path / "label.nii")


def test_paths_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    file = write(tmp_path / "labels" / "a.nii", mask_of(2))
    with pytest.raises(UsageError, match="file can not be measured"):
        score(file, tmp_path / "labels")
    with pytest.raises(UsageError, match="no such"):
        score(tmp_path / "nothing", tmp_path / "labels")
    with pytest.raises(UsageError, match="holds no labels"):
        score(tmp_path / "labels", tmp_path / "empty")
    with pytest.raises(DataError, match="no prediction"):
        score(tmp_path / "empty", tmp_path / "labels")


def test_beyond_the_list_one_file_is_not_taken_for_two_records(tmp_path: Path) -> None:
    label = write(tmp_path / "lung_001.nii.gz", mask_of(1))
    with pytest.raises(UsageError, match="named for two records"):
        score(label, label, json_file=tmp_path / "s", csv_file=tmp_path / "." / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("which", ["json_file", "csv_file"])
def test_row_45_a_record_is_never_written_over_a_label(tmp_path: Path, which: str) -> None:
    label, prediction = (write(tmp_path / folder / "lung_001.nii.gz", mask_of(1)) for folder in ("labels", "found"))
    before = label.read_bytes(), prediction.read_bytes()
    for target in (label, prediction, tmp_path / "labels" / "scores.json"):
        with pytest.raises(UsageError, match="over or into the data"):
            score(prediction.parent, label.parent, **{which: target})
        if target != tmp_path / "labels" / "scores.json":
            with pytest.raises(UsageError, match="over or into the data"):
                score(prediction, label, **{which: target})
    assert (label.read_bytes(), prediction.read_bytes()) == before
