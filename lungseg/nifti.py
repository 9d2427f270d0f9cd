"""The one gate that every reader of a scan goes through, and the writer of masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash
from isal import isal_zlib

from .errors import DataError, MachineError, Problem, UsageError
from .files import atomic_path, machine_error
from .geometry import orientation_of
from .memory import Room
from .nifti_errors import MEND_FORMAT, bad
from .nifti_fields import SIZEOF_V1, SIZEOF_V2, mask_header
from .nifti_header import Header
from .nifti_names import case_name, is_nifti
from .nifti_stream import CHUNK, MAX_DEFLATE_RATIO, collect, inflated, plain
from .place import is_remote, place

_PLANES = 16  # of a mask, written at a time
# Metal reaches some 30,000 HU in extended CT scales (20,349 in lung_018 of Task06); nothing reaches this.
_MAX_ABS_HU = 1e5


@dataclass(frozen=True)
class Scan:
    """A scan or a label, as its file holds it.

    Args:
        voxels: [x, y, z] in the order of the file; HU for scans.  The file's integer type where it asks for no scaling,
            else float32.
        header: the checked header.
        path: the file as the user named it.
        bytes: size of the file on disk.
        hash: XXH3-128 of the file on disk, hex.
        warnings: what is odd, but can be read.
    """

    voxels: np.ndarray
    header: Header
    path: Path
    bytes: int = 0
    hash: str = ""
    warnings: tuple[Problem, ...] = field(default=())

    @property
    def affine(self) -> np.ndarray:
        """float64 [4, 4], voxel index to R-A-S mm."""
        return self.header.affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along the axes of the file."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def name(self) -> str:
        """The case's name: the file's, without suffix."""
        return case_name(self.path)


def read_scan(path: str | Path, room: Room | None = None) -> Scan:
    """Read a CT scan, checked to its last byte.

    Args:
        path: a ``.nii`` or ``.nii.gz`` file, NIfTI-1 or -2, either byte order, or its address in a store.
        room: memory to read it into, where several are read one after the other; the next one overwrites this one.

    Raises:
        UsageError: there is no such file.
        DataError: the file is damaged, no three-dimensional scan, or its values can not be HU.
        MachineError: the system can not read it.
    """
    path = place(path)
    try:
        header, raw, size, hash_ = _read(path, room or Room())
        voxels = _values(header, raw)
    except (DataError, MachineError) as error:
        raise type(error)(error.problem.at(file=path), error.stage) from error
    found = tuple(problem.at(file=path) for problem in (*header.warnings, *_odd(header)))
    return Scan(voxels, header, path, size, hash_, found)


def read_label(path: str | Path, room: Room | None = None) -> Scan:
    """Read a label: as :func:`read_scan`, and its values must be 0 and 1.

    Returns:
        A scan whose voxels are uint8.

    Raises:
        DataError: as :func:`read_scan`, or there are other values than 0 and 1, which are listed.
    """
    scan = read_scan(path, room)
    values = scan.voxels
    if not (values.dtype == np.uint8 and values.max() <= 1):
        strange = np.unique(values[(values != 0) & (values != 1)])
        if strange.size:
            listed = ", ".join(f"{value:g}" for value in strange[:8]) + (", ..." if strange.size > 8 else "")
            mend = "Give a mask of tumour (1) and everything else (0); check that this is no image."
            raise DataError(
                Problem("label-values", "the label has other values than 0 and 1", "0 and 1", listed, mend, str(path))
            )
    return Scan(values.astype(np.uint8, copy=False), scan.header, scan.path, scan.bytes, scan.hash, scan.warnings)


def write_mask(path: str | Path, mask: np.ndarray, like: Scan) -> None:
    """Write a mask on the very grid of a scan, with a fresh header, in one durable step.

    Args:
        path: ends in ``.nii`` or ``.nii.gz``.
        mask: uint8 [x, y, z], the shape of ``like``.
        like: the scan whose affine and form codes are taken; nothing else of its header is.

    Raises:
        UsageError: the path has another suffix.
        MachineError: it can not be written; nothing is left behind then.
    """
    if not is_nifti(path):
        raise UsageError.of("bad-suffix", "a mask is written as NIfTI", expected=".nii.gz or .nii", file=path)
    if mask.shape != like.header.shape:
        raise ValueError(f"mask has shape {mask.shape}, the scan {like.header.shape}")
    sform_code, qform_code = like.header.sform_code, like.header.qform_code
    code = sform_code or qform_code or 1
    size = SIZEOF_V1 if like.header.version == 1 else SIZEOF_V2
    header = mask_header(mask.shape, like.affine, size=size, codes=(code, qform_code or code))
    planes = mask.transpose()
    pieces = (np.ascontiguousarray(planes[z : z + _PLANES], np.uint8).data for z in range(0, len(planes), _PLANES))
    with atomic_path(path, durable=True) as temporary, open(temporary, "wb") as file:
        if not str(path).lower().endswith(".gz"):
            file.write(header)
            for piece in pieces:
                file.write(piece)
            return
        # No time stamp and no name in the stream: equal masks are equal files.
        packer = isal_zlib.compressobj(2, wbits=31)
        file.write(packer.compress(header))
        for piece in pieces:
            file.write(packer.compress(piece))
        file.write(packer.flush())


def _read(path: Path, room: Room) -> tuple[Header, np.ndarray, int, str]:
    """Header, raw voxels [n] in the file's type, size of the file and its hash."""
    if path.is_dir():
        mend = "Name the scan's file in it, or give the folder another name."
        raise UsageError.of("not-a-file", "is a folder, where a scan is wanted", file=path, mend=mend)
    if not is_nifti(path) and path.exists():
        what, found = "is no NIfTI file by its name", path.suffix or "no suffix"
        raise bad("bad-suffix", what, ".nii or .nii.gz", found, MEND_FORMAT)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size if is_remote(path) else os.fstat(file.fileno()).st_size
            hasher = xxhash.xxh3_128()
            packed = path.name.lower().endswith(".gz")
            stream = inflated(file, hasher) if packed else plain(file, hasher)
            header, raw = collect(stream, size * MAX_DEFLATE_RATIO + CHUNK if packed else size, room)
            return header, raw, size, hasher.hexdigest()
    except OSError as cause:
        raise machine_error(cause, path) from cause


def _values(header: Header, raw: np.ndarray) -> np.ndarray:
    """Voxels [x, y, z] in HU from raw voxels [n], checked to be finite and of CT's size."""
    values = raw if raw.dtype.isnative else raw.astype(raw.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        wrong = values.size - int(np.count_nonzero(np.isfinite(values)))
        if wrong:
            raise bad(
                "not-finite",
                "there are voxels that are NaN or infinite",
                "numbers",
                f"{wrong:,} of them",
                "Find out which step wrote them, and make the scan again.",
            )
    if values.dtype == np.float64 or header.scaled or values.dtype.itemsize > 4:
        scaled = values.astype(np.float64) if values.dtype.itemsize > 4 else values.astype(np.float32)
        if header.scaled:
            scaled *= header.slope
            scaled += header.inter
        values = scaled.astype(np.float32, copy=False)
    if values.dtype.kind == "f" or values.dtype.itemsize > 2:
        low, high = float(values.min()), float(values.max())
        if not (low >= -_MAX_ABS_HU and high <= _MAX_ABS_HU):
            raise bad(
                "not-hu",
                "its values can not be Hounsfield units",
                f"within +-{_MAX_ABS_HU:,.0f}",
                f"{low:g} to {high:g}",
                "Check scl_slope, scl_inter and the type of the voxels.",
            )
    return values.reshape(header.shape, order="F")


def _odd(header: Header) -> Iterator[Problem]:
    orientation = orientation_of(header.affine)
    if orientation.oblique_deg > 10:
        yield Problem(
            "oblique",
            "the scan is tilted; it is taken along its nearest axes, without resampling",
            "at most 10 degrees",
            f"{orientation.oblique_deg:.0f} degrees",
            "Nothing need be done; resample it onto the patient's axes if a network does badly on it.",
            severity="warning",
        )
