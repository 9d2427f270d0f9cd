"""An evaluation's numbers and files as the report's content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lungseg.calibration import LogitHistogram, calibration
from lungseg.case_score import score_case
from lungseg.froc import free_response, froc_curve
from lungseg.patient_summary import over_patients
from lungseg.report.case_file import file_name, write_case
from lungseg.report.evaluation_page import write_report
from lungseg.report.from_evaluation import case_path, evaluation_report, training_curves_of

from .reports import BAD_NAME, ELSEWHERE, MM, TUMOUR, view


def test_measures_curves_and_calibration_reach_the_report(tmp_path: Path) -> None:
    levels = np.where(ELSEWHERE | TUMOUR, 200, 0).astype(np.uint8)
    scores = [score_case("a", TUMOUR, TUMOUR, MM), score_case("b", TUMOUR, ELSEWHERE, MM)]
    case_path(tmp_path, "b").parent.mkdir()
    write_case(case_path(tmp_path, "b"), view(ELSEWHERE, TUMOUR))
    (tmp_path / "metrics.csv").write_text("epoch,train_loss,val_loss,val_dice\n0,1.0,,0.1\n1,0.5,,0.3\n")
    histogram = LogitHistogram.of(np.array([0.1, 0.1, 0.9, 0.9]), np.array([0, 0, 1, 0]))
    summary = {
        **over_patients(scores, complete=True),
        "threshold": 0.5,
        "froc": froc_curve([free_response(TUMOUR, levels, MM)]),
        "calibration": calibration(histogram),
        "model": {"recipe": "demo"},
    }
    report = evaluation_report(
        scores, summary, tmp_path, title="t", metrics=[tmp_path / "metrics.csv", tmp_path / "none.csv"], folds={"a": 2}
    )
    first, second = report.patients
    assert (first.dice, first.nsd_2mm, first.hd95_mm, first.fold, first.pictures) == (1.0, 1.0, 0.0, 2, None)
    assert second.missed and second.findings is not None and second.lesions_found == 0 and second.false_positives == 1
    assert report.dice_mean == 0.5 and report.whole_scans
    assert [(curve.name, curve.points) for curve in report.curves] == [
        ("training", ((0.0, 1.0), (1.0, 0.5))),
        ("Dice, mean of patients", ((0.0, 0.1), (1.0, 0.3))),
    ]
    middle = next(point for point in report.free_response if abs(point.threshold - 0.5) < 0.01)
    assert (middle.sensitivity, middle.false_positives) == (1.0, 1.0)
    assert report.calibration is not None
    said = [(round(one.predicted, 2), one.observed, one.pixels) for one in report.calibration.bins]
    assert said == [(0.1, 0.0, 2), (0.9, 0.5, 2)]
    assert report.calibration.expected_error == pytest.approx(0.5 * 0.1 + 0.5 * 0.4, abs=0.01)
    text = write_report(report, tmp_path).read_text("utf-8")
    for words in ("Free response", "Reliability", "Training: loss", "Surface Dice", "0 of 1"):
        assert words in text


def test_slice_sets_stay_slice_sets(tmp_path: Path) -> None:
    scores = [score_case("a", TUMOUR, ELSEWHERE, MM, slice_set=True)]
    report = evaluation_report(scores, over_patients(scores, complete=True), tmp_path, title="t")
    assert not report.whole_scans and report.free_response == () and report.calibration is None
    assert report.patients[0].tumour_slices == 3 and report.patients[0].truth_ml is None
    assert "slices found" in write_report(report, tmp_path).read_text("utf-8")


def test_an_evaluation_without_a_label_of_tumour_has_no_curve(tmp_path: Path) -> None:
    summary = {"froc": [{"threshold": 0.5, "sensitivity": None, "false_positives_per_scan": 1.0}], "calibration": {}}
    report = evaluation_report([], summary, tmp_path, title="t")
    assert report.free_response == () and report.calibration is None


def test_curves_of_a_run_without_validation(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("epoch,train_loss\n0,1.0\n")
    assert [curve.panel for curve in training_curves_of(tmp_path / "m.csv")] == ["loss"]


def test_names_of_files_are_plain_and_no_two_alike() -> None:
    names = ["lung_001", "a b", BAD_NAME, "../up", "a/b", "a%2Fb", "x" * 300, "x" * 301, "ü", "\udce9"]
    files = [file_name(name, ".json") for name in names]
    assert files[0] == "lung_001.json" and len(set(files)) == len(names)
    assert all(
        "/" not in name and len(name.encode()) < 200 and not name.startswith("..") for name in files[:3] + files[4:]
    )
    assert "/" not in file_name("../up", ".json")
