"""Where a NIfTI header places a scan in the patient, and whether it can be meant."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import Problem
from .nifti_errors import MEND_WRITE, bad
from .nifti_fields import Fields

SPACING_MM = (0.02, 50.0)
FORM_CODES = range(6)  # nifti1.h: NIFTI_XFORM_UNKNOWN to NIFTI_XFORM_TEMPLATE_OTHER
# float32 affines of the same scan, written by different tools, agree to about this.
SAME_MM = 1e-2
_UNITS = {0: "unknown", 1: "metres", 2: "millimetres", 3: "micrometres"}


def read_affine(raw: Fields, warnings: list[Problem]) -> np.ndarray:
    """The affine of a header, voxel index to R-A-S mm, ``float64 [4, 4]``.

    Args:
        raw: the fields; a ``qfac`` of 0, or one that is not used, is set to 1 in them.
        warnings: what is odd, but can be read, is added here.

    Raises:
        DataError: it can not place a scan.
    """
    sform_code, qform_code = int(raw["sform_code"]), int(raw["qform_code"])
    pixdim = [float(value) for value in raw["pixdim"][1:4]]
    for code, name in ((sform_code, "sform_code"), (qform_code, "qform_code")):
        if code not in FORM_CODES:  # readers differ in which form they take then
            expected = f"{min(FORM_CODES)} to {max(FORM_CODES)}"
            raise bad("bad-affine", f"its {name} is none of the standard", expected, str(code), MEND_WRITE)
    qfac = float(raw["pixdim"][0])
    if qfac == 0 or (sform_code > 0 and qfac not in (-1, 1)):
        raw["pixdim"][0] = 1  # the standard: 0 stands for 1; and the qform is only compared where there is an sform
    if sform_code == 0 and not all(
        size > 0 for size in pixdim
    ):  # readers differ in whether such an axis is turned round
        raise bad("bad-spacing", "its voxels have no size", "pixdim above 0", _mm(pixdim), MEND_WRITE)
    try:
        with np.errstate(all="ignore"):
            qform = raw.qform() if qform_code > 0 else None
            sform = raw.sform() if sform_code > 0 else None
            affine = raw.best_affine()
    except ValueError as cause:
        raise bad(
            "bad-affine",
            "its position in the patient can not be read",
            "a valid qform or sform",
            str(cause),
            MEND_WRITE,
        ) from cause
    for form, name in ((sform, "sform"), (qform, "qform")):
        if form is not None and not np.isfinite(form).all():
            raise bad(
                "bad-affine", f"its {name} holds NaN or infinity", "finite numbers", "NaN or infinity", MEND_WRITE
            )
    unit = _UNITS.get(int(raw["xyzt_units"]) & 7, "no known unit")
    _check_affine(affine, unit)
    if unit not in ("millimetres", "unknown"):
        warnings.append(
            Problem(
                "units",
                "lengths are not said to be in millimetres; they are read as such",
                "millimetres",
                unit,
                "Check the voxel sizes; if they are right, set the header's unit to mm.",
                severity="warning",
            )
        )
    if sform is None and qform is None:
        warnings.append(
            Problem(
                "no-orientation",
                "does not say how it lies in the patient; L-A-S is assumed",
                "an sform or qform",
                "neither",
                "Convert the scan again from its DICOM files, or check in a viewer that left and right are right.",
                severity="warning",
            )
        )
    if (
        sform is not None
        and qform is not None
        and np.abs(sform - qform).max() > SAME_MM * max(1.0, np.abs(sform).max())
    ):
        warnings.append(
            Problem(
                "forms-differ",
                "sform and qform place it differently; the sform is used",
                "the same placing",
                f"up to {np.abs(sform - qform).max():.3g} mm apart",
                "Check in a viewer that the scan lies as it should, and write it again with one placing.",
                severity="warning",
            )
        )
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(sizes, np.abs(pixdim), rtol=1e-2, atol=1e-3):
        warnings.append(
            Problem(
                "pixdim-differs",
                "pixdim and affine give different voxel sizes; the affine is used",
                _mm(sizes),
                _mm(np.abs(pixdim)),
                "Check the voxel sizes against the source, and write the scan again.",
                severity="warning",
            )
        )
    return affine


def _check_affine(affine: np.ndarray, unit: str) -> None:
    axes = affine[:3, :3]
    if not np.isfinite(affine).all():
        raise bad("bad-affine", "its affine holds NaN or infinity", "finite numbers", "NaN or infinity", MEND_WRITE)
    sizes = np.linalg.norm(axes, axis=0)
    if not ((sizes >= SPACING_MM[0]) & (sizes <= SPACING_MM[1])).all():
        raise bad(
            "bad-spacing",
            "its voxels have no plausible size",
            f"{SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm",
            f"{_mm(sizes)} (unit in the header: {unit})",
            MEND_WRITE,
        )
    # 1 for perpendicular axes, 0 where two of them coincide.
    if abs(np.linalg.det(axes / sizes)) < 0.5:
        raise bad(
            "bad-affine",
            "its axes do not span a volume",
            "nearly perpendicular axes",
            f"determinant {np.linalg.det(axes / sizes):.3g} of the unit axes",
            MEND_WRITE,
        )
    if np.abs(affine[:3, 3]).max() > 1e5:
        raise bad(
            "bad-affine",
            "it lies nowhere near a patient",
            "an origin within 100 m",
            f"{np.abs(affine[:3, 3]).max():.3g} mm",
            MEND_WRITE,
        )


def _mm(sizes: Any) -> str:
    return " x ".join(f"{float(size):.4g}" for size in sizes) + " mm"
