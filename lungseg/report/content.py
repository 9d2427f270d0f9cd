"""What a report says: plain frozen data, everything that may be missing optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lungseg.published import Against

from .findings import Findings

FAILED_BELOW = 0.5  # Dice under which an outline is said to have failed: less than half of the two is common
SIZE_CLASSES_ML = (1.0, 5.0, 20.0)  # a tumour of 20 ml is a ball of 34 mm


@dataclass(frozen=True)
class Patient:
    """One patient of an evaluation.

    Args:
        case: name.
        dice: 0 to 1.
        missed: whether there is true tumour of which nothing was found.
        truth_ml: true volume; None where slices have gaps, so that there is no volume.
        predicted_ml: predicted volume, likewise.
        truth_skipped_ml: true volume in slices that the network never saw.
        nsd_2mm: normalised surface Dice at 2 mm, 0 to 1.
        hd95_mm: 95 % Hausdorff distance, mm; None also where a mask is empty.
        lesions: true lesions; None where they mean nothing.
        lesions_found: those of them that a predicted one matches (``lesions.RULE``).
        false_positives: predicted lesions that match none.
        tumour_slices: axial slices with true tumour.
        tumour_slices_found: those of them in which some of it was found.
        false_slices: axial slices with predicted tumour and no true one.
        findings: what the masks show.
        pictures: file of the patient's pictures (``pictures.write_pictures``).
        fold: the fold that held the patient out.
    """

    case: str
    dice: float
    missed: bool
    truth_ml: float | None = None
    predicted_ml: float | None = None
    truth_skipped_ml: float = 0.0
    nsd_2mm: float | None = None
    hd95_mm: float | None = None
    lesions: int | None = None
    lesions_found: int | None = None
    false_positives: int | None = None
    tumour_slices: int | None = None
    tumour_slices_found: int | None = None
    false_slices: int | None = None
    findings: Findings | None = None
    pictures: Path | None = None
    fold: int | None = None

    @property
    def failed(self) -> bool:
        return self.missed or self.dice < FAILED_BELOW

    @property
    def rank(self) -> tuple[float, float, str]:
        """Sorts the worst first, as ``patient_summary.worst_first`` does."""
        facts = self.findings
        wrong = max(facts.true_voxels, facts.found_voxels) if facts is not None else 0
        return self.dice, -wrong, self.case


@dataclass(frozen=True)
class Curve:
    """One line of the training curves.

    Args:
        panel: which quantity, such as ``loss``; each panel has axes of its own.
        name: of the line; lines of several folds share a name.
        points: (epoch, value), rising by epoch.
    """

    panel: str
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class OperatingPoint:
    """Lesions found at one threshold.

    Args:
        threshold: on the probability.
        false_positives: a scan, on average.
        sensitivity: share of the true lesions that were found, 0 to 1.
        size_class: which lesions; empty for all.
    """

    threshold: float
    false_positives: float
    sensitivity: float
    size_class: str = ""


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels whose probability lies in one range: what was said, and what was so.

    Args:
        predicted: their mean probability.
        observed: share of them that is tumour.
        pixels: how many.
    """

    predicted: float
    observed: float
    pixels: int


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be taken at their word.

    Args:
        bins: rising by probability; empty ones left out.
        expected_error: expected calibration error, 0 to 1.
        brier: Brier score, 0 (best) to 1.
    """

    bins: tuple[ReliabilityBin, ...]
    expected_error: float | None = None
    brier: float | None = None


@dataclass(frozen=True)
class Report:
    """All that the page of an evaluation says.

    Args:
        title: such as the run's name.
        patients: in any order; the page sorts them.
        dice_mean: over patients; None where some could not be scored.
        dice_interval: of the mean.
        dice_median: over patients.
        whole_scans: False where slices have gaps: no volumes, distances and lesions are shown then.
        not_scored: why patients are missing, by name.
        curves: loss and Dice by epoch.
        threshold: the probability above which a voxel was called tumour.
        free_response: lesions found against false positives, over thresholds.
        calibration: of the probabilities.
        settings: what the run was, as (name, value), for the foot of the page.
        notes: sentences of whoever made the report, such as a comparison with another run.
        against: the same patients by published methods; the first setting of ours is the one that the page shows.
        against_notes: whose figures these are, and what they can not mean.
    """

    title: str
    patients: tuple[Patient, ...]
    dice_mean: float | None = None
    dice_interval: tuple[float, float] | None = None
    dice_median: float | None = None
    whole_scans: bool = True
    not_scored: Mapping[str, str] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    threshold: float | None = None
    free_response: tuple[OperatingPoint, ...] = ()
    calibration: Calibration | None = None
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    against: tuple[Against, ...] = ()
    against_notes: tuple[str, ...] = ()

    @property
    def worst_first(self) -> tuple[Patient, ...]:
        return tuple(sorted(self.patients, key=lambda patient: patient.rank))

    @property
    def failed(self) -> tuple[Patient, ...]:
        return tuple(patient for patient in self.worst_first if patient.failed)


@dataclass(frozen=True)
class FoundTumour:
    """One tumour of a prediction.

    Args:
        volume_ml: its volume.
        diameter_mm: longest axial diameter.
        slices: first and last axial slice.
        slice: the one with most of it.
        mean_probability: 0 to 1, over its voxels.
        place: where it lies, in words; may be empty.
    """

    volume_ml: float
    diameter_mm: float
    slices: tuple[int, int]
    slice: int
    mean_probability: float | None = None
    place: str = ""


@dataclass(frozen=True)
class ScanReport:
    """All that the page of one predicted scan says.

    Args:
        case: its name.
        tumours: largest first.
        pictures: file of its pictures.
        warnings: what was odd about the scan.
        settings: what the run was, as (name, value).
        threshold: the probability above which a voxel was called tumour.
    """

    case: str
    tumours: tuple[FoundTumour, ...]
    pictures: Path
    warnings: tuple[str, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    threshold: float | None = None
