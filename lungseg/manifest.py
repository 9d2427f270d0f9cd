"""The record of a preprocessed folder: what is in it, how it was made, and the way back to each scan's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from . import __version__
from .config import PreprocessConfig, from_dict, to_dict
from .errors import DataError, LungsegError, Problem
from .files import read_json, write_json

FORMAT = 1
MANIFEST = "manifest.json"
CASE_RECORD = "case.json"
TUMOUR = "tumour.npy"
_MEND = "Run `lungseg preprocess` again into the same folder."


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
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any, *, file: str | Path) -> CaseRecord:
        """A record from JSON values, checked.

        Raises:
            DataError: something is missing, of the wrong type, or does not fit together.
        """
        names = {item.name for item in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= names:
            raise _damaged(file, "a case record", str(type(values).__name__))
        try:
            record = cls(**{key: _frozen(value) for key, value in values.items()})
            record._check()
        except (TypeError, ValueError, AttributeError) as cause:
            raise _damaged(file, "a complete case record", str(cause)) from cause
        return record

    def _check(self) -> None:
        for name, length in (("shape", 3), ("las_shape", 3), ("spacing_mm", 3), ("las_spacing_mm", 3), ("pad", 2)):
            if not isinstance(getattr(self, name), tuple) or len(getattr(self, name)) != length:
                raise ValueError(f"{name} has not {length} entries")
        numbers = (*self.shape, *self.las_shape, *self.slices, *self.tumour_pixels, self.skipped, self.tumour_voxels)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a count is no whole number of 0 or more")
        if sorted(self.shape) != sorted(self.las_shape):
            raise ValueError("shape and las_shape differ by more than their order")
        if not all(isinstance(size, (int, float)) and size > 0 for size in (*self.spacing_mm, *self.las_spacing_mm)):
            raise ValueError("a spacing is not above 0")
        if len(self.affine) != 4 or any(len(row) != 4 for row in self.affine):
            raise ValueError("affine is not 4 x 4")
        if not all(isinstance(value, (int, float)) for row in self.affine for value in row):
            raise ValueError("affine holds something else than numbers")
        ranges = (*self.pad, *(self.tumour_box or ()))
        if len(ranges) not in (2, 5) or not all(
            type(end) is int and end >= 0 for start, stop in ranges for end in (start, stop)
        ):
            raise ValueError("pad or tumour_box does not hold pairs of whole numbers")
        if type(self.labelled) is not bool or len(self.tumour_pixels) != (len(self.slices) if self.labelled else 0):
            raise ValueError("tumour_pixels has not one entry for each slice")
        if list(self.slices) != sorted(set(self.slices)) or any(z >= self.las_shape[2] for z in self.slices):
            raise ValueError("slices are not rising indices into the scan")
        if not isinstance(self.hashes, dict) or not isinstance(self.source, dict):
            raise ValueError("hashes or source is no table")
        files = {image_name(z) for z in self.slices} | {mask_name(z) for z in self.slices if self.labelled}
        if not files <= set(self.hashes):
            raise ValueError("a slice has no hash")


@dataclass(frozen=True)
class Manifest:
    """A preprocessed folder.

    Args:
        root: the folder.
        config: the settings it was made with.
        cases: records by case name, sorted.
        failed: cases that could not be preprocessed, with the reason.
        slice_sets: whether the stacks have gaps (slices chosen out of scans), so that distances, volumes and connected
            lesions mean nothing and are left out of every evaluation.
    """

    root: Path
    config: PreprocessConfig
    cases: Mapping[str, CaseRecord]
    failed: Mapping[str, str] = field(default_factory=dict)
    slice_sets: bool = False

    @property
    def labelled(self) -> list[str]:
        """Names of the labelled cases, sorted."""
        return sorted(name for name, record in self.cases.items() if record.labelled)

    def record(self, case: str) -> CaseRecord:
        """The record of ``case``.

        Raises:
            DataError: the folder has no such case.
        """
        try:
            return self.cases[case]
        except KeyError as cause:
            raise DataError.of(
                "unknown-case", "has no such case", found=case, file=self.root / MANIFEST, mend=_MEND
            ) from cause

    def write(self) -> None:
        """Write ``manifest.json``, the last file of the stage, durably."""
        records = {name: self.cases[name].as_dict() for name in sorted(self.cases)}
        failed = {name: self.failed[name] for name in sorted(self.failed)}
        content = {
            "format": FORMAT,
            "lungseg": __version__,
            "settings": to_dict(self.config),
            "slice_sets": self.slice_sets,
            "cases": records,
            "failed": failed,
        }
        write_json(self.root / MANIFEST, content)

    @classmethod
    def read(cls, processed: str | Path) -> Manifest:
        """Read the manifest of a preprocessed folder.

        Raises:
            DataError: there is none, it is damaged, or it is of another version.
        """
        root = Path(processed)
        path = root / MANIFEST
        if not path.is_file():
            mend = "Name a folder that `lungseg preprocess` has finished writing."
            raise DataError.of(
                "no-manifest", "is no preprocessed folder: manifest.json is missing", file=root, mend=mend
            )
        content = read_json(path, error=DataError, mend=_MEND)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise _damaged(path, f"format {FORMAT}", str(found))
        cases, failed = content.get("cases"), content.get("failed", {})
        if not isinstance(cases, dict) or not isinstance(failed, dict):
            raise _damaged(path, "a table of cases", type(cases).__name__)
        slice_sets = content.get("slice_sets", False)  # not in the manifests of version 0.1
        if type(slice_sets) is not bool:
            raise _damaged(path, "slice_sets true or false", repr(slice_sets))
        for name in cases:
            if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise _damaged(path, "case names that are plain file names", repr(name))
        records = {name: CaseRecord.from_dict(values, file=path) for name, values in sorted(cases.items())}
        return cls(root, settings_from(content.get("settings"), path), records, failed, slice_sets)


def settings_from(values: Any, path: str | Path) -> PreprocessConfig:
    """The settings of a manifest or a case record, checked.

    Raises:
        DataError: they are no settings of this version.
    """
    if not isinstance(values, dict):
        raise _damaged(path, "preprocessing settings", type(values).__name__)
    try:
        config: PreprocessConfig = from_dict(PreprocessConfig, values)
    except (LungsegError, TypeError) as cause:
        raise _damaged(path, "preprocessing settings of this version", str(cause)) from cause
    if type(config.size) is not int or not 8 <= config.size <= 4096 or not isinstance(config.skip_slices, str):
        raise _damaged(path, "a slice size from 8 to 4096", repr(config.size))
    if not all(isinstance(value, (int, float)) for value in (config.hu_min, config.hu_max)):
        raise _damaged(path, "HU limits that are numbers", f"{config.hu_min!r}, {config.hu_max!r}")
    return config


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _damaged(path: str | Path, expected: str, found: str) -> DataError:
    return DataError(Problem("bad-manifest", "is damaged", expected=expected, found=found, file=str(path), mend=_MEND))
