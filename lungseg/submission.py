"""Masks of test scans as the Medical Segmentation Decathlon takes them: a zip with a folder a task.

What is known of the form: automl/AutoNNUnet, whose submissions were scored, packs ``Task06_Lung/lung_NNN.nii.gz``,
each mask under the name of its scan, into one zip with the folders of the other tasks.  The challenge scores all ten
tasks at once: a zip without the folder of the first one was refused (Ziyan-Huang/FLARE22, issue 2).  So this zip holds
the lung's part, to be put beside those of the other nine; by itself it would not be scored.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from .archive_plan import ROOT
from .errors import DataError
from .files import atomic_path

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: equal masks are equal files


def write_submission(masks: str | Path, cases: Sequence[str], out: str | Path) -> Path:
    """Pack the masks of test scans.

    Args:
        masks: folder with ``<case>.nii.gz`` for each case, as ``predict`` writes them.
        cases: names of the test scans.
        out: the zip.

    Raises:
        DataError: a mask is missing, so that the challenge would refuse the zip.
        MachineError: it can not be written; nothing is left behind then.
    """
    folder, out = Path(masks), Path(out)
    missing = [case for case in cases if not (folder / f"{case}.nii.gz").is_file()]
    if missing:
        raise DataError.of(
            "missing-masks",
            "has no mask of some test scans, so there is nothing whole to hand in",
            expected=f"{len(cases)} masks",
            found=f"none of {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
            file=folder,
            mend="Mend the scans that were named above, and run the same command again.",
        )
    with atomic_path(out, durable=True) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as pack:
        for case in sorted(cases):
            entry = zipfile.ZipInfo(f"{ROOT}/{case}.nii.gz", _NO_DATE)
            entry.external_attr = 0o644 << 16
            pack.writestr(entry, (folder / f"{case}.nii.gz").read_bytes())
    return out
