"""The report in words: three sentences, and an honest reason for each patient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lungseg.report.content import FoundTumour, Patient, Report, ScanReport
from lungseg.report.findings import find
from lungseg.report.wording import millilitres, percent, reason, scan_summary, summary

from .reports import ELSEWHERE, MM, TUMOUR, box

VOXEL_ML = float(np.prod(MM)) / 1000
NOTHING = "missed: nothing of 35 ml of tumour was outlined"
SMALL = box((34, 35), (19, 20), (11, 12))


def patient(found: np.ndarray, truth: np.ndarray = TUMOUR, skipped_ml: float = 0.0) -> Patient:
    facts = find(truth, found, VOXEL_ML)
    true, predicted, overlap = facts.true_voxels, facts.found_voxels, facts.overlap_voxels
    dice = 2 * overlap / (true + predicted) if true + predicted else 1.0
    return Patient(
        "p", dice, true > 0 and not overlap, true * VOXEL_ML, predicted * VOXEL_ML, skipped_ml, findings=facts
    )


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (patient(box()), f"{NOTHING} (slice 10); the network outlined nothing at all"),
        (
            patient(ELSEWHERE),
            f"{NOTHING} (slice 10); "
            "a false positive, more than the tumour itself: 78 ml, slice 15",
        ),
        (
            patient(box(), SMALL),
            "missed: nothing of 0.72 ml of tumour was outlined, a small tumour (slice 11); "
            "the network outlined nothing at all",
        ),
        (
            patient(box(), skipped_ml=48 * VOXEL_ML),
            "missed: all 35 ml of tumour lie in slices at the feet end that are skipped (slice 10)",
        ),
        (patient(box((33, 34), (18, 22), (10, 13))), "partly found: 25 % of 35 ml was outlined"),
        (
            patient(box((30, 40), (15, 25), (9, 14))),
            "outlined too large: 10.4 times the true size, around the tumour",
        ),
        (
            patient(TUMOUR | SMALL | ELSEWHERE | box((2, 3), (2, 3), (2, 3))),
            "found: 100 % of 35 ml outlined; "
            "2 false positives, more than the tumour itself: 78 ml in all, the largest 78 ml, slice 15",
        ),
        (patient(TUMOUR, TUMOUR | ELSEWHERE), "partly found: 31 % of 112 ml was outlined; "
                                              "1 of 2 separate tumours not found"),
        (patient(box(), box()), "no tumour in the label, and none was outlined"),
        (patient(ELSEWHERE, box()), "false alarm: the label holds no tumour, 78 ml was outlined"),
    ],
)  # fmt: skip
def test_reasons(of: Patient, said: str) -> None:
    assert reason(of) == said


def test_of_slices_with_gaps_no_volume_is_told() -> None:
    said = reason(patient(ELSEWHERE), whole_scans=False)
    assert "ml" not in said and "48 pixels" in said and "108 pixels" in said


def test_without_masks_only_the_measures_speak() -> None:
    assert reason(Patient("p", 0.0, True)) == "missed: nothing of the true tumour was outlined"
    assert reason(Patient("p", 0.4, False)) == ""


def test_three_sentences_say_how_many_how_well_and_who_failed() -> None:
    patients = (Patient("a", 0.0, True), Patient("b", 0.3, False), Patient("c", 0.9, False))
    first, second, third = summary(Report("r", patients, dice_mean=0.4, dice_interval=(0.1, 0.7)))
    assert "3 patients" in first
    assert "0.40" in second and "between 0.10 and 0.70 (95 % interval)" in second
    assert "2 of 3 (a, b)" in third and "in 1 of these the tumour was missed" in third


def test_what_is_missing_is_said_and_not_made_up() -> None:
    patients = (Patient("a", 0.9, False),)
    alone = summary(Report("r", patients, dice_mean=0.9))
    assert "1 patient " in alone[0] and "one patient can not show" in alone[1] and "failed in none" in alone[2]
    partial = summary(Report("r", patients, not_scored={"b": "damaged"}))
    assert "1 patient could not be scored" in partial[0] and "no average" in partial[1]


def test_many_failures_are_counted_after_the_first_names() -> None:
    patients = tuple(Patient(f"p{number}", 0.0, True) for number in range(9))
    third = summary(Report("r", patients, dice_mean=0.0, dice_interval=(0.0, 0.0)))[2]
    assert "9 of 9 (p0, p1, p2, p3 and 5 more), where the tumour was missed altogether" in third


def test_the_worst_comes_first_and_of_equals_the_largest() -> None:
    few, much = patient(box(), SMALL), patient(box())
    report = Report("r", (patient(TUMOUR), few, replace(much, case="q")))
    assert [one.case for one in report.worst_first] == ["q", "p", "p"] and len(report.failed) == 2


def test_numbers_for_people() -> None:
    assert [millilitres(value) for value in (0.0, 0.001, 0.424, 3.14, 67.6)] == [
        "0.00 ml", "under 0.01 ml", "0.42 ml", "3.1 ml", "68 ml"
    ]  # fmt: skip
    assert [percent(share) for share in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "0 %", "under 1 %", "50 %", "over 99 %", "100 %"
    ]  # fmt: skip


def test_one_scan_in_words() -> None:
    none = scan_summary(ScanReport("s", (), Path("x")))
    assert "no tumour" in none[0] and "does not mean that there is none" in none[1]
    two = (
        FoundTumour(3.0, 22.4, (4, 9), 6, 0.8, "left side, lower third of the lungs"),
        FoundTumour(1.0, 9, (1, 1), 1),
    )
    said = scan_summary(ScanReport("s", two, Path("x")))
    assert "2 regions" in said[0] and "4.0 ml in all" in said[0] and "22 mm across" in said[1]
    assert "left side" in said[1] and "Nobody has checked" in said[2]
