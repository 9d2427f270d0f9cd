"""How much there is to do: scans, slices and voxels of a data set, from its headers or from what is published."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from isal import igzip, igzip_lib

from .download import TASK06
from .errors import DataError
from .geometry import orientation_of
from .nifti_fields import SIZEOF_V2
from .nifti_header import Header, parse_header
from .skip_slices import check_skip
from .tree import Tree


@dataclass(frozen=True)
class Amount:
    """Scans of one kind.

    Args:
        scans: how many.
        slices: axial slices that are left after skipping.
        voxels: of the scans, skipped slices included.
        largest: voxels of the largest scan.
    """

    scans: int = 0
    slices: int = 0
    voxels: int = 0
    largest: int = 0


@dataclass(frozen=True)
class Workload:
    """A data set by its size.

    Args:
        labelled: the scans with a label.
        test: the scans without.
        archive_bytes: what has to be fetched first; 0 where the tree is there.
        assumed: what of it was taken as likely and not counted, in words; may be empty.
    """

    labelled: Amount
    test: Amount
    archive_bytes: int = 0
    assumed: str = ""


# The labelled scans have 17,657 slices of 512 x 512 (data/README.md).  How many the test scans have is not published
# there, nor is the largest scan; of 25 labelled ones whose voxels nnU-Net's summary.json counts, it has 567 slices.
_PLANE, _SCANS, _SLICES, _TEST_SCANS, _LARGEST = 512 * 512, 63, 17_657, 32, 600


def published_workload(skip_slices: str) -> Workload:
    """Task06_Lung, before anything of it is here.

    Args:
        skip_slices: as for ``preprocess``.

    Raises:
        UsageError: ``skip_slices`` can not be read.
    """
    skipped = _SCANS * _skipped(check_skip(skip_slices), 1.0)
    test_slices = _TEST_SCANS * _SLICES // _SCANS
    return Workload(
        Amount(_SCANS, _SLICES - skipped, _SLICES * _PLANE, _LARGEST * _PLANE),
        Amount(_TEST_SCANS, test_slices - _TEST_SCANS * skipped // _SCANS, test_slices * _PLANE, _LARGEST * _PLANE),
        TASK06.bytes or 0,
        f"test scans have as many slices as the labelled ones on average, the largest scan {_LARGEST}",
    )


def workload_of(tree: Tree, skip_slices: str) -> Workload:
    """A tree on disk, by the headers of its scans; what can not be read is left to ``verify`` to tell.

    Raises:
        UsageError: ``skip_slices`` can not be read.
    """
    skip = check_skip(skip_slices)
    labelled = _amount((case.image for case in tree.cases if case.label is not None), skip)
    test = _amount((case.image for case in tree.cases if case.label is None), skip)
    return Workload(labelled, test, assumed="no slice is skipped" if skip == "auto" else "")


def _amount(images: Iterable[Path], skip: str) -> Amount:
    headers = [header for image in images if (header := _header(image)) is not None]
    slices = 0
    for header in headers:
        along = orientation_of(header.affine).axes[2]  # the axis of the file that runs from feet to head
        size_mm = math.hypot(*header.affine[:3, along])
        slices += max(0, header.shape[along] - _skipped(skip, size_mm))
    voxels = [header.voxels for header in headers]
    return Amount(len(headers), slices, sum(voxels), max(voxels, default=0))


def _skipped(skip: str, slice_mm: float) -> int:
    """Slices that are skipped of a scan; none for ``auto``, which depends on the lungs."""
    if skip == "auto":
        return 0
    return math.ceil(float(skip[:-2]) / slice_mm - 1e-4) if skip.endswith("mm") else int(skip)


def _header(path: Path) -> Header | None:
    """The header alone: a few hundred bytes."""
    try:
        with igzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
            return parse_header(file.read(SIZEOF_V2 + 4))
    except (DataError, OSError, EOFError, igzip_lib.IsalError):  # type: ignore[misc]
        return None
