"""The numbers over patients: nothing averaged away, the worst by name, a table that fits a terminal."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg.case_score import CaseScore, score_case
from lungseg.patient_summary import over_patients, table, worst_first
from lungseg.statistics import bootstrap_interval

from .masks import boxes, random_pair

ML = (10.0, 10.0, 10.0)


def of_dice(case: str, dice: float, missed: bool = False) -> CaseScore:
    return CaseScore(case, dice, 1.0, 1.0, 0.0, 0.0, missed)


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
    assert lines[4].startswith("mean Dice over 3 patients 0.500")


def scored(count: int, *, slice_set: bool = False) -> list[CaseScore]:
    return [score_case(f"lung_{n:03d}", *random_pair(n), slice_set=slice_set) for n in range(count)]


def test_every_measure_has_mean_median_and_interval() -> None:
    scores = scored(12)
    summary = over_patients(scores, complete=True)
    for name in ("dice", "nsd_2mm", "hd95_mm", "volume_error_ml", "volume_error_percent"):
        values = np.array([getattr(score, name) for score in scores])
        measure = summary["measures"][name]
        assert measure["defined"] == 12 and measure["mean"] == pytest.approx(values.mean(), abs=1e-5)
        assert measure["median"] == pytest.approx(np.median(values), abs=1e-5)
        assert measure["interval"] == pytest.approx(bootstrap_interval(values), abs=1e-5)
    assert summary["lesions"]["all"]["true"] == sum(score.lesions for score in scores)


def test_row_42_a_patient_without_a_distance_is_not_averaged_away() -> None:
    truth = boxes((9, 4, 4), ((2, 4), (1, 2), (1, 2)))
    near, far = np.roll(truth, 1, 0), np.roll(truth, 4, 0)
    scores = [score_case(name, truth, found, ML) for name, found in zip("abc", (near, far, truth & False), strict=True)]
    measure = over_patients(scores, complete=True)["measures"]["hd95_mm"]
    assert measure["defined"] == 2 and measure["mean"] is None and measure["interval"] is None
    assert measure["median"] == max(scores[0].hd95_mm, scores[1].hd95_mm)  # the middle of two numbers and infinity
    assert measure["mean_of_defined"] == pytest.approx((scores[0].hd95_mm + scores[1].hd95_mm) / 2)
    worse = over_patients([*scores, score_case("d", truth, truth & False, ML)], complete=True)
    assert worse["measures"]["hd95_mm"]["median"] is None
    assert "mean of the 2 patients that have one" in table(scores, over_patients(scores, complete=True))
    assert "mean of the 1 patient that has one" in table(scores[1:], over_patients(scores[1:], complete=True))


def test_the_worst_come_first_and_equal_ones_by_how_much_is_wrong() -> None:
    big, small = boxes((9, 4, 4), ((0, 6), (0, 3), (0, 3))), boxes((9, 4, 4), ((2, 4), (1, 2), (1, 2)))
    scores = [score_case("a", small, small & False, ML), score_case("b", big, big & False, ML),
              score_case("c", small, small, ML), score_case("d", small & False, small, ML)]  # fmt: skip
    assert [score.case for score in worst_first(scores)] == ["b", "a", "d", "c"]
    assert over_patients(scores, complete=True)["worst"] == ["b", "a", "d", "c"]


def test_slice_sets_have_no_distances_volumes_or_lesions_anywhere() -> None:
    scores = scored(5, slice_set=True)
    summary = over_patients(scores, complete=True)
    assert list(summary["measures"]) == ["dice"] and "lesions" not in summary and summary["slice_sets"]
    assert 0 <= summary["slices"]["sensitivity"] <= 1
    text = table(scores, summary)
    assert " mm" not in text and " ml" not in text and "gaps" in text


def test_the_table_fits_a_terminal() -> None:
    scores = [*scored(8), of_dice("a name that is far longer than what a patient is called elsewhere" * 2, 0.5)]
    for slice_set in (False, True):
        rows = scored(8, slice_set=slice_set) if slice_set else scores[:8]
        assert max(map(len, table(rows, over_patients(rows, complete=True)).splitlines())) <= 120
