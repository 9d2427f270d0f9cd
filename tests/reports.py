"""Tiny evaluations for tests of the report: chests in which the true and the predicted tumour are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lungseg.config import HU_MAX
from lungseg.files import make_folder
from lungseg.geometry import SliceGrid, slice_of
from lungseg.report.case_file import CaseView, write_case
from lungseg.report.content import (
    Calibration,
    Curve,
    OperatingPoint,
    Patient,
    ReliabilityBin,
    Report,
)

SHAPE, MM = (48, 40, 24), (8.0, 9.0, 10.0)  # L, A, S; a chest of 38 x 36 x 24 cm
SIZE = 64
SKIPPED = 3
BAD_NAME = "<img src=x onerror=alert(1)>&\"'</script>"


def lungs_hu() -> np.ndarray:
    """HU ``[L, A, S]``: two lungs in a body, from slice 6 to slice 20."""
    left, front, head = np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij")
    hu = np.where(left**2 + front**2 < 0.8, 40.0, -1000.0)
    lung = (np.abs(left) > 0.15) & (np.abs(left) < 0.7) & (np.abs(front) < 0.5) & (head > -0.45) & (head < 0.75)
    return np.where(lung, -850.0, hu)


def box(*ends: tuple[int, int]) -> np.ndarray:
    """A mask ``[L, A, S]`` that is 1 within ``[start, stop)`` along each axis; empty without ends."""
    mask = np.zeros(SHAPE, np.uint8, order="F")
    if ends:
        mask[tuple(slice(*pair) for pair in ends)] = 1
    return mask


def view(found: np.ndarray, truth: np.ndarray | None = None, *, whole: bool = True) -> CaseView:
    """A patient of that chest; a tumour shows as soft tissue."""
    hu = lungs_hu()
    hu[(found if truth is None else truth) > 0] = 60.0
    grid = SliceGrid.of(SHAPE, MM, SIZE)

    def image(z: int) -> np.ndarray:
        return (grid.shrink_image(slice_of(hu, z), -1000.0) / np.float32(HU_MAX)).astype(np.float16)

    return CaseView(image, range(SKIPPED, SHAPE[2]), grid, MM, found=found, truth=truth, whole=whole)


TUMOUR = box((33, 37), (18, 22), (10, 13))
ELSEWHERE = box((10, 16), (18, 24), (15, 18))


def write_patient(folder: Path, case: str, found: np.ndarray, truth: np.ndarray = TUMOUR, **more: object) -> Patient:
    """Score a patient by hand and write its file."""
    path = make_folder(folder) / f"{len(list(folder.iterdir()))}.json"
    findings = write_case(path, view(found, truth))
    voxels, overlap = findings.true_voxels + findings.found_voxels, findings.overlap_voxels
    values = {
        "case": case,
        "dice": 2 * overlap / voxels if voxels else 1.0,
        "missed": findings.true_voxels > 0 and overlap == 0,
        "truth_ml": findings.true_voxels * findings.voxel_ml,
        "predicted_ml": findings.found_voxels * findings.voxel_ml,
        "lesions": findings.n_truth,
        "lesions_found": sum(spot.overlap > 0 for spot in findings.truth),
        "false_positives": findings.n_false,
        "findings": findings,
        "pictures": path,
    }
    return Patient(**{**values, **more})  # type: ignore[arg-type]


def small_report(folder: Path) -> Report:
    """Five patients: missed with a false positive and a name that is markup, missed, poor, good, perfect."""
    pictures = folder / "pictures"
    patients = (
        write_patient(pictures, "good", box((33, 37), (18, 22), (10, 14))),
        write_patient(pictures, BAD_NAME, ELSEWHERE),
        write_patient(pictures, "poor", box((33, 34), (18, 22), (10, 13))),
        write_patient(pictures, "nothing", box()),
        write_patient(pictures, "perfect", TUMOUR),
    )
    return Report(
        title="Run <of> a test",
        patients=patients,
        dice_mean=float(np.mean([patient.dice for patient in patients])),
        dice_interval=(0.1, 0.8),
        dice_median=0.4,
        not_scored={"lost<b>": "a slice is damaged & <i>gone</i>"},
        curves=(
            Curve("loss", "training", ((0.0, 1.0), (1.0, 0.7), (2.0, 0.5))),
            Curve("validation Dice", "Dice, mean of patients", ((0.0, 0.0), (1.0, 0.2), (2.0, 0.4))),
        ),
        threshold=0.5,
        free_response=tuple(OperatingPoint(t, 4 * (1 - t), 1 - t / 2) for t in (0.1, 0.3, 0.5, 0.7, 0.9)),
        calibration=Calibration(tuple(ReliabilityBin(p, p * p, 1000) for p in (0.1, 0.5, 0.9)), 0.02, 0.01),
        settings=(("recipe", "demo"),),
    )
