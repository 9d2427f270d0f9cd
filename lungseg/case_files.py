"""What may be removed from the folder of a case: what a run wrote there, and nothing else."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from .case_record import CASE_RECORD, TUMOUR
from .files import TEMPORARY_PREFIX
from .place import is_remote


def remove_stale(folder: Path, wanted: set[str]) -> None:
    """Remove what another run left in a case's folder, so that the tree depends on this run's input alone.

    Files that no run writes stay: the folder may be one that the user keeps something else in.
    """
    if not is_remote(folder):
        for path in folder.glob(f"**/{TEMPORARY_PREFIX}*"):
            if path.is_dir():
                shutil.rmtree(path)
    for pattern in (CASE_RECORD, TUMOUR, "images/[0-9]*.npy", "masks/[0-9]*.npy", f"**/{TEMPORARY_PREFIX}*"):
        for path in folder.glob(pattern):
            if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
                path.unlink()
    if is_remote(folder):  # which has no folders that could stay behind
        return
    for name in ("images", "masks"):
        with contextlib.suppress(OSError):  # not empty, or not there
            (folder / name).rmdir()


def remove_case(folder: Path) -> None:
    """Remove a case's folder, but for files that no run writes."""
    remove_stale(folder, set())
    if not is_remote(folder):
        with contextlib.suppress(OSError):
            folder.rmdir()
