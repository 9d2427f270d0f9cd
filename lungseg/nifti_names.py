"""What a file's name says: whether it is a NIfTI file, and of which case."""

from __future__ import annotations

import unicodedata
from pathlib import PurePath

SUFFIXES = (".nii.gz", ".nii")


def case_name(path: str | PurePath) -> str:
    """``lung_001`` for ``.../lung_001.nii.gz``; in composed form (NFC), because macOS takes letters apart in names."""
    name = unicodedata.normalize("NFC", PurePath(str(path)).name)
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def is_nifti(path: str | PurePath) -> bool:
    """Whether the name ends as a NIfTI file's does; macOS' ``._*`` companions are none."""
    name = PurePath(str(path)).name
    return name.lower().endswith(SUFFIXES) and not name.startswith("._")
