"""Parse and bound a NIfTI header before anything is allocated.

The fields are read by ``nifti_fields``; what is checked here is whether they can be meant; of how
they place a scan, in ``nifti_affine``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from .errors import Problem
from .nifti_affine import read_affine
from .nifti_errors import MEND_COPY, MEND_FORMAT, MEND_WRITE, bad
from .nifti_fields import MAGIC, SIZEOF_V1, SIZEOF_V2, Fields

# A whole-body CT at 0.5 mm is about 1024 x 1024 x 1000; four times that is no scan any more.
MAX_VOXELS = 1 << 32
MAX_DIM = 32767
MAX_EXTENSION_BYTES = 16 << 20  # a whole DICOM header kept as JSON takes about one

_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {
    0: "unknown",
    1: "single bits",
    32: "complex numbers",
    128: "RGB colours",
    1536: "128-bit floats",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "RGBA colours",
}


@dataclass(frozen=True)
class Header:
    """What of a NIfTI header is needed to read the voxels and to place them.

    Args:
        shape: voxels along the three axes of the file.
        dtype: of a stored voxel, with its byte order.
        offset: where the voxels begin, bytes.
        slope: factor from stored values to HU; 1 where the header asks for no scaling.
        inter: summand of the same.
        affine: float64 [4, 4], voxel index to R-A-S mm.
        version: 1 or 2.
        sform_code: what the sform refers to, 0 where it is not set.
        qform_code: the same of the qform.
        warnings: what is odd, but can be read.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    affine: np.ndarray
    version: int
    sform_code: int
    qform_code: int
    warnings: tuple[Problem, ...]

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def data_bytes(self) -> int:
        return self.voxels * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes of the whole file, inflated."""
        return self.offset + self.data_bytes

    @property
    def scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)


def header_size(start: bytes) -> int:
    """Bytes of the header that a file beginning with ``start`` has (348 or 540).

    Raises:
        DataError: it is no NIfTI file.
    """
    if len(start) >= 4:
        for order in "<>":
            size = struct.unpack(f"{order}i", start[:4])[0]
            if size in (SIZEOF_V1, SIZEOF_V2):
                return size
    raise bad("not-nifti", "is no NIfTI file", "a header of 348 or 540 bytes", repr(start[:4]), MEND_FORMAT)


def parse_header(block: bytes) -> Header:
    """Read and check a header.

    Args:
        block: the first bytes of the inflated file, at least as many as :func:`header_size` says and the 4 after them.

    Raises:
        DataError: a field can not be meant; the problem says which, what was expected and what was found.
    """
    size = header_size(block)
    if len(block) < size + 4:
        raise bad("truncated", "ends within its header", f"{size + 4} bytes", f"{len(block)} bytes", MEND_COPY)
    raw = Fields(block[:size])
    _check_magic(block[344:348] if size == SIZEOF_V1 else block[4:12], size)
    shape = _shape(raw)
    dtype = _dtype(raw)
    if math.prod(shape) * dtype.itemsize > MAX_VOXELS * 2:
        raise bad(
            "too-large",
            "claims more voxels than any scan has",
            f"at most {MAX_VOXELS:,} voxels",
            f"{' x '.join(map(str, shape))} of {dtype.itemsize} bytes",
            MEND_COPY,
        )
    slope, inter = _scaling(raw)
    warnings: list[Problem] = []
    affine = read_affine(raw, warnings)
    return Header(
        shape=shape,
        dtype=dtype,
        offset=_offset(raw, size),
        slope=slope,
        inter=inter,
        affine=affine,
        version=1 if size == SIZEOF_V1 else 2,
        sform_code=int(raw["sform_code"]),
        qform_code=int(raw["qform_code"]),
        warnings=tuple(warnings),
    )


def check_extensions(block: bytes, header_bytes: int, offset: int) -> None:
    """Check the sizes that the header extensions claim.

    Args:
        block: the inflated file up to the voxels.
        header_bytes: 348 or 540.
        offset: where the voxels begin.

    Raises:
        DataError: an extension does not end where the voxels begin.
    """
    at = header_bytes + 4
    if block[header_bytes] == 0:
        return
    order = "<" if struct.unpack("<i", block[:4])[0] == header_bytes else ">"
    while at + 8 <= offset:
        size = struct.unpack(f"{order}i", block[at : at + 4])[0]
        if size == 0 and not any(block[at:offset]):
            return  # zero padding up to the voxels
        if size < 8 or size % 16 or at + size > offset:
            raise bad(
                "bad-extension",
                "a header extension lies about its size",
                f"a multiple of 16 bytes that ends at byte {offset} or before",
                f"{size} bytes at byte {at}",
                MEND_WRITE,
            )
        at += size


def _check_magic(magic: bytes, size: int) -> None:
    wanted = MAGIC[size]
    if magic.startswith((b"ni1", b"ni2")):
        raise bad(
            "header-only",
            "is the header of a .hdr/.img pair",
            "header and voxels in one file",
            "magic 'ni1'",
            "Convert the pair to a single .nii or .nii.gz file.",
        )
    if magic != wanted:
        raise bad("not-nifti", "is no NIfTI file", f"magic {wanted!r}", repr(magic), MEND_FORMAT)


def _shape(raw: Fields) -> tuple[int, int, int]:
    dim = [int(value) for value in raw["dim"]]
    count = dim[0]
    if not 1 <= count <= 7:
        raise bad(
            "bad-dims",
            "says that it has no sensible number of dimensions",
            "dim[0] = 3",
            f"dim[0] = {count}",
            MEND_WRITE,
        )
    shape = dim[1 : count + 1]
    text = " x ".join(map(str, shape))
    if min(shape) < 1 or max(shape) > MAX_DIM:
        raise bad(
            "bad-dims",
            "has an axis without voxels, or with too many",
            f"1 to {MAX_DIM} voxels along each axis",
            text,
            MEND_WRITE,
        )
    if count < 3 or any(size > 1 for size in shape[3:]):
        mend = "Give one three-dimensional scan: a series has to be split into its volumes first."
        if count < 3:
            mend = "Give the whole scan: all slices of a patient in one file, as dcm2niix makes it from DICOM."
        axes = f"{text} voxels" if count > 1 else f"one axis of {text} voxels"
        raise bad("not-3d", "is no three-dimensional scan", "three axes", axes, mend)
    if math.prod(shape) > MAX_VOXELS:
        raise bad("too-large", "claims more voxels than any scan has", f"at most {MAX_VOXELS:,}", text, MEND_COPY)
    return shape[0], shape[1], shape[2]


def _dtype(raw: Fields) -> np.dtype:
    code, bits = int(raw["datatype"]), int(raw["bitpix"])
    if code not in _DTYPES:
        name = _OTHER_TYPES.get(code, f"an unknown type, code {code}")
        raise bad("bad-type", "holds no CT values", "integers or floats", name, "Give the scan in HU, as int16.")
    dtype = np.dtype(_DTYPES[code])
    if dtype.itemsize * 8 != bits:
        raise bad(
            "bad-type", "datatype and bitpix do not fit", f"{dtype.itemsize * 8} bits", f"{bits} bits", MEND_WRITE
        )
    return dtype.newbyteorder(raw.endianness)


def _offset(raw: Fields, size: int) -> int:
    offset = float(raw["vox_offset"])
    if not (size + 4 <= offset <= size + MAX_EXTENSION_BYTES and offset == int(offset)):
        raise bad(
            "bad-offset",
            "vox_offset points nowhere sensible",
            f"{size + 4} to {size + MAX_EXTENSION_BYTES}",
            f"{offset:g}",
            MEND_WRITE,
        )
    return int(offset)


def _scaling(raw: Fields) -> tuple[float, float]:
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0  # the standard: no scaling
    if not math.isfinite(slope) or not math.isfinite(inter) or abs(slope) > 1e6 or abs(inter) > 1e6:
        raise bad(
            "bad-scaling",
            "scl_slope or scl_inter can not lead to HU",
            "finite numbers of HU size",
            f"slope {slope:g}, intercept {inter:g}",
            MEND_WRITE,
        )
    return slope, inter
