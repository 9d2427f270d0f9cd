"""The record of one preprocessed case: what is known of it, and the names of its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import DataError, Problem

CASE_RECORD = "case.json"
TUMOUR = "tumour.npy"
FARTHEST_MM = 1e6  # a kilometre: no scan is so large, nor so far from its origin
MEND = "Run `lungseg preprocess` again into the same folder."


def image_name(z: int) -> str:
    """Path of a slice's image below its case folder; ``z`` is the slice's index in the L-A-S scan."""
    return f"images/{z:03d}.npy"


def mask_name(z: int) -> str:
    """Path of a slice's mask below its case folder."""
    return f"masks/{z:03d}.npy"


@dataclass(frozen=True)
class CaseRecord:
    """What is known of one preprocessed case.

    Args:
        labelled: whether the scan has a label.
        shape: voxels along the axes of the scan's file.
        affine: 4 x 4, voxel index to R-A-S millimetres, of the scan's file.
        orientation: axis codes of the file, such as ``LPS``.
        spacing_mm: voxel size along the axes of the file.
        las_shape: voxels along the axes left, front, head.
        las_spacing_mm: voxel size along the same.
        pad: native pixels of air added before resizing, ``[[top, bottom], [left, right]]``.
        skipped: axial slices dropped at the feet end.
        slices: index in the L-A-S scan of each slice written.
        tumour_pixels: tumour pixels of each written mask, in the order of ``slices``; empty where there is no label.
        tumour_voxels: tumour voxels of the whole label, on the scan's own grid.
        tumour_voxels_skipped: those of them that lie in dropped slices; they count as missed at evaluation.
        tumour_box: ``[start, stop]`` of the tumour along L, A, S, or None without tumour; ``tumour.npy`` is the label
            inside it, uint8.
        source: names, sizes in bytes and hashes of the files it was made from.
        hashes: XXH3-128 of every file written, by path below the case's folder.
        warnings: what is odd about the scan but does not make it unusable.
    """

    labelled: bool
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    orientation: str
    spacing_mm: tuple[float, float, float]
    las_shape: tuple[int, int, int]
    las_spacing_mm: tuple[float, float, float]
    pad: tuple[tuple[int, int], tuple[int, int]]
    skipped: int
    slices: tuple[int, ...]
    tumour_pixels: tuple[int, ...] = ()
    tumour_voxels: int = 0
    tumour_voxels_skipped: int = 0
    tumour_box: tuple[tuple[int, int], ...] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, millilitres."""
        x, y, z = self.las_spacing_mm
        return x * y * z / 1000.0

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))  # `asdict` would copy every hash of every slice

    @classmethod
    def from_dict(cls, values: Any, *, file: str | Path) -> CaseRecord:
        """A record from JSON values, checked.

        Raises:
            DataError: something is missing, of the wrong type, or does not fit together.
        """
        names = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= names:
            raise damaged(file, "a case record", str(type(values).__name__))
        try:
            record = cls(**{key: _frozen(value) for key, value in values.items()})
            record._check()
        except (TypeError, ValueError, AttributeError) as cause:
            raise damaged(file, "a complete case record", str(cause)) from cause
        return record

    def _check(self) -> None:
        for name, length in (("shape", 3), ("las_shape", 3), ("spacing_mm", 3), ("las_spacing_mm", 3), ("pad", 2)):
            if not isinstance(getattr(self, name), tuple) or len(getattr(self, name)) != length:
                raise ValueError(f"{name} has not {length} entries")
        numbers = (*self.shape, *self.las_shape, *self.slices, *self.tumour_pixels, self.skipped)
        numbers += (self.tumour_voxels, self.tumour_voxels_skipped)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a count is no whole number of 0 or more")
        if sorted(self.shape) != sorted(self.las_shape):
            raise ValueError("shape and las_shape differ by more than their order")
        sizes = (*self.spacing_mm, *self.las_spacing_mm)
        if not all(isinstance(size, (int, float)) and 0 < size < FARTHEST_MM for size in sizes):
            raise ValueError("a spacing is no size in millimetres")
        if len(self.affine) != 4 or any(len(row) != 4 for row in self.affine):
            raise ValueError("affine is not 4 x 4")
        values = [value for row in self.affine for value in row]
        if not all(isinstance(value, (int, float)) and -FARTHEST_MM < value < FARTHEST_MM for value in values):
            raise ValueError("affine holds something else than millimetres")
        ranges = (*self.pad, *(self.tumour_box or ()))
        if len(ranges) not in (2, 5) or not all(
            type(end) is int and end >= 0 for start, stop in ranges for end in (start, stop)
        ):
            raise ValueError("pad or tumour_box does not hold pairs of whole numbers")
        box = self.tumour_box or ()
        if any(not start < stop <= size for (start, stop), size in zip(box, self.las_shape, strict=False)):
            raise ValueError("tumour_box does not lie in the scan")
        most = math.prod(stop - start for start, stop in box) if box else 0
        if not bool(box) <= self.tumour_voxels <= most or self.tumour_voxels_skipped > self.tumour_voxels:
            raise ValueError("tumour_voxels do not fit into tumour_box")
        if type(self.labelled) is not bool or len(self.tumour_pixels) != (len(self.slices) if self.labelled else 0):
            raise ValueError("tumour_pixels has not one entry for each slice")
        if not self.slices:
            raise ValueError("there are no slices")
        if list(self.slices) != sorted(set(self.slices)) or any(z >= self.las_shape[2] for z in self.slices):
            raise ValueError("slices are not rising indices into the scan")
        if not isinstance(self.hashes, dict) or not isinstance(self.source, dict):
            raise ValueError("hashes or source is no table")
        files = {image_name(z) for z in self.slices} | {mask_name(z) for z in self.slices if self.labelled}
        if not files <= set(self.hashes):
            raise ValueError("a slice has no hash")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def damaged(path: str | Path, expected: str, found: str) -> DataError:
    """The error of a manifest, or a case record, that is not as it was written."""
    return DataError(Problem("bad-manifest", "is damaged", expected=expected, found=found, file=str(path), mend=MEND))
