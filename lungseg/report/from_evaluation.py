"""From an evaluation's scores, and the files that it left, to what the report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lungseg.case_score import CaseScore
from lungseg.visualize.curves import DICE_LINES, LOSS_LINES, read_metrics

from .case_file import file_name, read_case
from .content import Calibration, Curve, OperatingPoint, Patient, ReliabilityBin, Report

PICTURES = "pictures"  # folder of the patients' files below an evaluation's


def case_path(folder: str | Path, case: str) -> Path:
    """Where an evaluation keeps what the page shows of a patient (``case_file.write_case``)."""
    return Path(folder) / PICTURES / file_name(case, ".json")


def evaluation_report(
    scores: Sequence[CaseScore],
    summary: Mapping[str, Any],
    folder: str | Path,
    *,
    title: str,
    metrics: Sequence[Path] = (),
    folds: Mapping[str, int] | None = None,
) -> Report:
    """What the report says of an evaluation.

    Args:
        scores: one a patient.
        summary: the numbers over patients (``summary.json``).
        folder: the evaluation's folder, with a file for each patient at :func:`case_path`; missing ones are left out.
        title: such as the run's name.
        metrics: ``metrics.csv`` of each run that the scores come from; those that are not there are passed over.
        folds: the fold that held each patient out, where there are several.
    """
    patients = tuple(_patient(score, case_path(folder, score.case), (folds or {}).get(score.case)) for score in scores)
    interval = summary.get("dice_interval")
    return Report(
        title=title,
        patients=patients,
        dice_mean=summary.get("dice_mean"),
        dice_interval=None if interval is None else (interval[0], interval[1]),
        dice_median=summary.get("dice_median"),
        whole_scans=not any(score.slice_set for score in scores),
        not_scored=summary.get("not_scored", {}),
        curves=tuple(curve for path in metrics if path.is_file() for curve in training_curves_of(path)),
        threshold=summary.get("threshold"),
        free_response=_free_response(summary),
        calibration=_calibration(summary.get("calibration") or {}),
        settings=_settings(summary),
    )


def training_curves_of(metrics_csv: str | Path) -> list[Curve]:
    """The lines of a run's ``metrics.csv``; those without a value are left out."""
    values = read_metrics(metrics_csv)
    panels = (("loss", LOSS_LINES), ("validation Dice", DICE_LINES))
    return [
        Curve(panel, name, tuple(values[column])) for panel, lines in panels for column, name in lines if values[column]
    ]


def _patient(score: CaseScore, path: Path, fold: int | None) -> Patient:
    pictured = path.is_file()
    return Patient(
        case=score.case,
        dice=score.dice,
        missed=score.missed,
        truth_ml=score.truth_ml,
        predicted_ml=score.predicted_ml,
        truth_skipped_ml=score.truth_skipped_ml or 0.0,
        nsd_2mm=score.nsd_2mm,
        hd95_mm=score.hd95_mm,
        lesions=score.lesions,
        lesions_found=score.lesions_found,
        false_positives=score.false_positives,
        tumour_slices=score.tumour_slices,
        tumour_slices_found=score.tumour_slices_found,
        false_slices=score.false_slices,
        findings=read_case(path)[0] if pictured else None,
        pictures=path if pictured else None,
        fold=fold,
    )


def _free_response(summary: Mapping[str, Any]) -> tuple[OperatingPoint, ...]:
    """The curve of ``froc.froc_curve``; empty where no scan has a lesion."""
    return tuple(
        OperatingPoint(point["threshold"], point["false_positives_per_scan"], point["sensitivity"])
        for point in summary.get("froc") or ()
        if point["sensitivity"] is not None
    )


def _calibration(values: Mapping[str, Any]) -> Calibration | None:
    """What ``calibration.calibration`` gives; None where no pixel was looked at."""
    bins = tuple(
        ReliabilityBin(part["probability"], part["tumour"], part["pixels"])
        for part in values.get("bins", ())
        if part["pixels"]
    )
    return Calibration(bins, values.get("ece"), values.get("brier")) if bins else None


def _settings(summary: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the foot of the page says of the run."""
    model = summary.get("model", {})
    soft = summary.get("published_recipe", {}).get("soft_dice_pooled")
    known = {
        "recipe": model.get("recipe"),
        "neighbours on each side": model.get("neighbours"),
        "mirror images predicted too": "yes" if model.get("test_mirror") else None,
        "other zooms predicted too": ", ".join(f"{zoom:g}" for zoom in model.get("test_zooms", ())),
        "fold": None if summary.get("fold") is None else f"{summary['fold']} of {summary.get('n_folds')}",
        "folds by": summary.get("folds"),
        "checkpoint": model.get("checkpoint"),
        "its SHA-256": model.get("sha256"),
        "threshold": summary.get("threshold"),
        "median Dice": summary.get("dice_median"),
        "mean Dice, threshold and kept tumours chosen on the other folds": _tuned(summary.get("tuned")),
        "read from": summary.get("read_from"),
        "pooled soft Dice of the published recipe": None
        if soft is None
        else f"{soft:.3f}. {summary['published_recipe']['why_not_comparable']}",
    }
    return tuple((name, str(value)) for name, value in known.items() if value not in (None, ""))


def _tuned(tuned: Mapping[str, Any] | None) -> str | None:
    """The second figure of a cross-validation (:mod:`lungseg.crossval_score`), with its interval."""
    if not tuned or tuned["dice_mean"] is None:
        return None
    interval = tuned["dice_interval"]
    return f"{tuned['dice_mean']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
