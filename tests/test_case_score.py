"""One patient's measures, by hand and against a second implementation, and the numbers over patients."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lungseg.case_score import CaseScore, over_patients, score_case, table, write_csv


def of_dice(case: str, dice: float, missed: bool = False) -> CaseScore:
    return CaseScore(case, dice, 1.0, 1.0, 0.0, 0.0, missed)


def test_by_hand() -> None:
    truth, found = np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 2), np.uint8)
    truth[0, :, 0] = 1
    found[0, 1:, 0] = 1
    found[1, :3, 0] = 1
    score = score_case("a", truth, found, voxel_ml=0.5, skipped_voxels=1)
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
    score = score_case("a", truth, prediction, voxel_ml=1.0)
    assert (score.dice, score.missed, score.volume_error_percent) == (dice, missed, percent)


def test_a_tumour_that_is_found_elsewhere_is_missed() -> None:
    truth, prediction = np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4, 1), np.uint8)
    truth[0], prediction[3] = 1, 1
    assert score_case("a", truth, prediction, voxel_ml=1.0).missed


def test_dice_equals_scikit_learns_f1_score() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, found = (rng.random((5, 6, 7)) < rng.random() for _ in range(2))
        score = score_case("a", truth.astype(np.uint8), found.astype(np.uint8) * 3, voxel_ml=0.1)
        assert score.dice == pytest.approx(f1_score(truth.ravel(), found.ravel(), zero_division=1.0), abs=1e-12)
        assert score.volume_error_ml == pytest.approx(0.1 * (int(found.sum()) - int(truth.sum())))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        score_case("a", np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), voxel_ml=1.0)


def test_numbers_over_patients() -> None:
    summary = over_patients([of_dice("a", 0.2, missed=True), of_dice("b", 0.6), of_dice("c", 0.7)], complete=True)
    assert summary["dice_mean"] == 0.5 and summary["dice_median"] == 0.6
    assert summary["patients"] == 3 and summary["missed"] == 1
    low, high = summary["dice_interval"]
    assert 0.2 <= low < 0.5 < high <= 0.7


def test_an_incomplete_set_has_no_mean() -> None:
    summary = over_patients([of_dice("a", 0.9)], complete=False)
    assert summary["dice_mean"] is None and summary["dice_interval"] is None and summary["patients"] == 1
    assert "no mean" in table([of_dice("a", 0.9)], summary)


def test_one_patient_has_no_interval() -> None:
    summary = over_patients([of_dice("a", 0.9)], complete=True)
    assert summary["dice_mean"] == 0.9 and summary["dice_interval"] is None


def test_the_table_begins_with_the_worst() -> None:
    scores = [of_dice("good", 0.9), of_dice("bad", 0.1), of_dice("new\nline", 0.5)]
    lines = table(scores, over_patients(scores, complete=True)).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["bad", "new\\nline", "good"]
    assert "over 3 patients 0.500" in lines[-1]


def test_csv_holds_a_row_a_patient(tmp_path: Path) -> None:
    scores = [of_dice("lung_001", 0.25), CaseScore("b, ü", 1.0, 0.0, 0.0, 0.0, None, False)]
    write_csv(tmp_path / "cases.csv", scores)
    with open(tmp_path / "cases.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["lung_001", "b, ü"] and rows[0]["dice"] == "0.25"
    assert rows[1]["volume_error_percent"] == ""
