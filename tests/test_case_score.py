"""One patient's measures, by hand and against a second implementation."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lungseg.case_score import NEEDS_WHOLE_SCAN, CaseScore, score_case, write_csv

from .masks import boxes, random_pair

ML = (10.0, 10.0, 10.0)  # voxels of 1 ml


def of_dice(case: str, dice: float, missed: bool = False) -> CaseScore:
    return CaseScore(case, dice, 1.0, 1.0, 0.0, 0.0, missed)


def test_by_hand() -> None:
    truth, found = np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 2), np.uint8)
    truth[0, :, 0] = 1
    found[0, 1:, 0] = 1
    found[1, :3, 0] = 1
    score = score_case("a", truth, found, (10.0, 10.0, 5.0), skipped_voxels=1)
    assert score.dice == pytest.approx(2 * 3 / (4 + 6))
    assert (score.truth_ml, score.predicted_ml, score.volume_error_ml) == (2.0, 3.0, 1.0)
    assert score.volume_error_percent == 50.0 and not score.missed and score.truth_skipped_ml == 0.5


@pytest.mark.parametrize(
    ("true", "found", "dice", "missed", "percent"),
    [(0, 0, 1.0, False, None), (3, 0, 0.0, True, -100.0), (0, 3, 0.0, False, None)],
)
def test_row_42_empty_masks_have_a_rule(
    true: int, found: int, dice: float, missed: bool, percent: float | None
) -> None:
    truth, prediction = np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)
    truth[0, :true], prediction[1, :found] = 1, 1
    score = score_case("a", truth, prediction, ML)
    assert (score.dice, score.missed, score.volume_error_percent) == (dice, missed, percent)


def test_a_tumour_that_is_found_elsewhere_is_missed() -> None:
    truth, prediction = np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)
    truth[0], prediction[3] = 1, 1
    assert score_case("a", truth, prediction, ML).missed


def test_dice_equals_scikit_learns_f1_score() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, found = (rng.random((5, 6, 7)) < rng.random() for _ in range(2))
        score = score_case("a", truth.astype(np.uint8), found.astype(np.uint8) * 3, (5.0, 10.0, 2.0))
        assert score.dice == pytest.approx(f1_score(truth.ravel(), found.ravel(), zero_division=1.0), abs=1e-12)
        assert score.volume_error_ml == pytest.approx(0.1 * (int(found.sum()) - int(truth.sum())))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        score_case("a", np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), ML)


def test_csv_holds_a_row_a_patient(tmp_path: Path) -> None:
    scores = [of_dice("lung_001", 0.25), CaseScore("b, ü", 1.0, 0.0, 0.0, 0.0, None, False)]
    write_csv(tmp_path / "cases.csv", scores)
    with open(tmp_path / "cases.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["lung_001", "b, ü"] and rows[0]["dice"] == "0.25"
    assert rows[1]["volume_error_percent"] == ""


def test_200_random_pairs_equal_an_independent_computation() -> None:
    for number in range(200):
        truth, found, spacing_mm = random_pair(number)
        score = score_case("a", truth, found.astype(np.uint8), spacing_mm)
        voxels, mm3 = set(zip(*np.nonzero(truth), strict=True)), float(spacing_mm[0] * spacing_mm[1] * spacing_mm[2])
        others = set(zip(*np.nonzero(found), strict=True))
        assert score.dice == pytest.approx(2 * len(voxels & others) / (len(voxels) + len(others)), abs=1e-6)
        assert score.volume_error_ml == pytest.approx((len(others) - len(voxels)) * mm3 / 1000, abs=1e-6)
        assert score.volume_error_percent == pytest.approx(100 * (len(others) / len(voxels) - 1), abs=1e-6)
        assert (score.truth_voxels, score.predicted_voxels) == (len(voxels), len(others))
        shown = {place[2] for place in voxels}
        assert score.tumour_slices == len(shown)
        assert score.tumour_slices_found == len({place[2] for place in voxels & others})
        assert score.false_slices == len({place[2] for place in others} - shown)


def test_lesions_are_counted() -> None:
    truth = boxes((9, 3, 3), ((0, 2), (0, 1), (0, 1)), ((4, 6), (0, 1), (0, 1)))
    found = boxes((9, 3, 3), ((0, 2), (0, 1), (0, 1)), ((8, 9), (2, 3), (2, 3)))
    score = score_case("a", truth, found, ML)
    assert (score.lesions, score.lesions_found, score.false_positives) == (2, 1, 1) and len(score.details) == 4


def test_a_slice_set_has_neither_distances_nor_volumes_nor_lesions(tmp_path: Path) -> None:
    truth, found, spacing_mm = random_pair(1)
    whole, stack = (score_case("a", truth, found, spacing_mm, slice_set=gaps) for gaps in (False, True))
    assert stack.dice == whole.dice and stack.tumour_slices_found == whole.tumour_slices_found
    assert all(getattr(stack, name) is None for name in NEEDS_WHOLE_SCAN) and stack.details == ()
    assert set(whole.as_dict()) - set(stack.as_dict()) == set(NEEDS_WHOLE_SCAN)
    write_csv(tmp_path / "cases.csv", [stack])
    assert (tmp_path / "cases.csv").read_text().splitlines()[0].split(",") == list(stack.as_dict())


def test_a_measure_without_a_name_for_slice_sets_is_not_forgotten() -> None:
    """A new measure in mm or ml has to be decided on: it is either in the list or no such measure."""
    units = [name for name in CaseScore.__dataclass_fields__ if name.endswith(("_mm", "_ml", "_percent", "_2mm"))]
    assert set(units) <= set(NEEDS_WHOLE_SCAN)
