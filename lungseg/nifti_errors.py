"""The errors of a scan that can not be used, and what can be done about it."""

from __future__ import annotations

from .errors import DataError, Problem

MEND_COPY = "Copy or download the file again; this copy is damaged."
MEND_WRITE = "Write the scan again with the tool that made it; its header does not fit its data."
MEND_FORMAT = "Give a NIfTI file, whole as it was written; convert DICOM with dcm2niix first."


def bad(code: str, what: str, expected: str, found: str, mend: str) -> DataError:
    """The error of a scan that can not be used."""
    return DataError(Problem(code, what, expected=expected, found=found, mend=mend))
