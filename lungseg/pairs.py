"""Whether a label belongs to its image, and whether an image looks like a CT in HU."""

from __future__ import annotations

import numpy as np

from .errors import DataError, Problem
from .geometry import orientation_of
from .nifti import Scan

# Tools round affines to float32 and quaternions; over 512 voxels that moves a corner by about 1e-3 mm.  A tenth of the
# smallest voxel is far above rounding and far below any shift that matters.
TOLERANCE_VOXELS = 0.1
_SAMPLED_EVERY = 8  # slices looked at for the HU check; enough to see air


def check_pair(image: Scan, label: Scan, names: tuple[str, str] = ("image", "label")) -> None:
    """Check that both lie on the same grid: shape, and the place of every corner within a tenth of a voxel.

    Args:
        image: the scan, whose grid is the right one.
        label: what has to lie on it.
        names: what an error calls the two.

    Raises:
        DataError: they do not; the problem names the first difference among shape, spacing, direction and origin.
    """
    problem = grid_problem(image, label, names)
    if problem is not None:
        raise DataError(problem)


def grid_problem(image: Scan, label: Scan, names: tuple[str, str] = ("image", "label")) -> Problem | None:
    """What :func:`check_pair` would raise, or None."""
    both = f"{names[1]} and {names[0]}"
    mend = f"Resample or export the {names[1]} again on the grid of its {names[0]}."

    def differs(code: str, what: str, expected: str, found: str) -> Problem:
        return Problem(code, what, f"{expected} as in {image.path.name}", found, mend, str(label.path))

    if image.header.shape != label.header.shape:
        return differs(
            "grid-shape", f"{both} have different shapes", _times(image.header.shape), _times(label.header.shape)
        )
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.header.shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    apart = np.abs((image.affine - label.affine) @ corners)[:3].max()
    if apart <= TOLERANCE_VOXELS * min(image.spacing_mm):
        return None
    if not np.allclose(image.spacing_mm, label.spacing_mm, rtol=1e-3):
        return differs(
            "grid-spacing",
            f"{both} have different voxel sizes",
            _times(image.spacing_mm, "mm"),
            _times(label.spacing_mm, "mm"),
        )
    directions = [scan.affine[:3, :3] / scan.spacing_mm for scan in (image, label)]
    if not np.allclose(directions[0], directions[1], atol=1e-3):
        codes = [orientation_of(scan.affine).codes for scan in (image, label)]
        if codes[0] != codes[1]:  # by far the most frequent: an axis turned round, or two exchanged
            return differs("grid-direction", f"{both} point different ways", *(f"axes {code}" for code in codes))
        return differs("grid-direction", f"{both} point different ways", _rows(directions[0]), _rows(directions[1]))
    return differs(
        "grid-origin",
        f"{both} lie {apart:.3g} mm apart",
        f"the first voxel at {_times(image.affine[:3, 3], 'mm', ', ')}",
        f"at {_times(label.affine[:3, 3], 'mm', ', ')}",
    )


def hu_warnings(scan: Scan) -> list[Problem]:
    """What is implausible about the values of a chest CT in HU, judged on every eighth slice.

    Chest CT shows air (about -1000 HU) and soft tissue (about 0 to 100 HU); other scales make an empty mask silently.
    """
    sample = scan.voxels[..., ::_SAMPLED_EVERY]
    low, high = float(sample.min()), float(sample.max())

    def warning(code: str, what: str, expected: str, mend: str = "") -> list[Problem]:
        mend = f"Check that the scan is a CT in Hounsfield units.{mend}"
        return [Problem(code, what, expected, f"{low:g} to {high:g}", mend, str(scan.path), severity="warning")]

    if low == high:
        hint = " Is it an empty label?" if low == 0 else ""
        return warning("hu-constant", "every voxel has the same value", "a chest CT", hint)
    if low == 0 and high == 1:
        return warning("hu-mask", "its values are 0 and 1, as those of a mask", "a chest CT", " Is it the label?")
    if low >= 0 and high <= 255:
        mend = " A picture has lost them: convert the scan from its DICOM files again."
        return warning("hu-8-bit", "values look like an 8-bit picture, not HU", "air at about -1000 HU", mend)
    if high < 0:
        return warning("hu-all-negative", "all values are below 0", "soft tissue at about 0 to 100 HU")
    if low > -500:
        shifted = "" if low < -200 or high < 1000 else " Values from about 0 to 4095 are often HU + 1024."
        return warning("hu-no-air", "there is no air in the scan", "air at about -1000 HU", shifted)
    return []


def _times(values: object, unit: str = "", between: str = " x ") -> str:
    text = between.join(f"{float(value):.6g}" for value in np.asarray(values))
    return f"{text} {unit}".strip()


def _rows(matrix: np.ndarray) -> str:
    return "; ".join(" ".join(f"{value:.3f}" for value in row) for row in matrix)
