"""The fields of a NIfTI header, as the standard lays them out, and the two ways in which they place a scan.

They are read here, because nibabel takes longer to import than a scan to be read, and written by nibabel.
Standard: NIfTI-1 (nifti1.h of the NIfTI Data Format Working Group, https://nifti.nimh.nih.gov/nifti-1) and NIfTI-2
(https://nifti.nimh.nih.gov/nifti-2).  Whether what they say can be meant, is asked in ``nifti_header`` and
``nifti_affine``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

SIZEOF_V1: Final = 348
SIZEOF_V2: Final = 540
MAGIC: Final = {SIZEOF_V1: b"n+1\0", SIZEOF_V2: b"n+2\0\r\n\x1a\n"}

# Field: type and place, bytes from the start of the header.
_V1 = {
    "sizeof_hdr": ("i4", 0), "dim": ("8i2", 40), "datatype": ("i2", 70), "bitpix": ("i2", 72), "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108), "scl_slope": ("f4", 112), "scl_inter": ("f4", 116), "xyzt_units": ("u1", 123),
    "qform_code": ("i2", 252), "sform_code": ("i2", 254), "quatern": ("3f4", 256), "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280), "magic": ("S4", 344),
}  # fmt: skip
_V2 = {
    "sizeof_hdr": ("i4", 0), "magic": ("S8", 4), "datatype": ("i2", 12), "bitpix": ("i2", 14), "dim": ("8i8", 16),
    "pixdim": ("8f8", 104), "vox_offset": ("i8", 168), "scl_slope": ("f8", 176), "scl_inter": ("f8", 184),
    "qform_code": ("i4", 344), "sform_code": ("i4", 348), "quatern": ("3f8", 352), "qoffset": ("3f8", 376),
    "srow": ("(3,4)f8", 400), "xyzt_units": ("i4", 500),
}  # fmt: skip


def _layout(fields: dict[str, tuple[str, int]], size: int) -> np.dtype:
    formats, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": list(formats), "offsets": list(offsets), "itemsize": size})


_LAYOUTS = {SIZEOF_V1: _layout(_V1, SIZEOF_V1), SIZEOF_V2: _layout(_V2, SIZEOF_V2)}


class Fields:
    """The fields of a header, by their names in the standard; ``quatern``, ``qoffset`` and ``srow`` are taken together.

    Args:
        block: the header, 348 or 540 bytes.

    Attributes:
        endianness: ``<`` or ``>``.

    Raises:
        ValueError: the block has another length.
    """

    def __init__(self, block: bytes) -> None:
        layout = _LAYOUTS.get(len(block))
        if layout is None:
            raise ValueError(f"a header has {SIZEOF_V1} or {SIZEOF_V2} bytes, not {len(block)}")
        self.endianness: Literal["<", ">"] = "<" if int.from_bytes(block[:4], "little") == len(block) else ">"
        self._values = np.frombuffer(bytearray(block), layout.newbyteorder(self.endianness))[0]

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def sform(self) -> np.ndarray:
        """Voxel index to R-A-S mm by the three rows: float64 [4, 4]."""
        return np.vstack([np.asarray(self["srow"], np.float64), [0, 0, 0, 1]])

    def qform(self) -> np.ndarray:
        """Voxel index to R-A-S mm by quaternion, voxel sizes and offset: float64 [4, 4].

        Raises:
            ValueError: the quaternion is longer than 1, a voxel size is negative, or qfac is neither 1 nor -1.
        """
        b, c, d = (float(value) for value in self["quatern"])
        qfac, *sizes = (float(value) for value in self["pixdim"][:4])
        if qfac not in (-1.0, 1.0):
            raise ValueError(f"qfac (pixdim[0]) is {qfac:g}, neither 1 nor -1")
        if any(size < 0 for size in sizes):
            raise ValueError(f"a voxel size is negative: {sizes}")
        rest = 1.0 - (b * b + c * c + d * d)
        rounding = 3.0 * float(np.finfo(self["quatern"].dtype).eps)
        if rest < -rounding:
            raise ValueError(f"the quaternion is longer than 1: its square is {1.0 - rest:g}")
        # Half a turn has a = 0; the root of what rounding leaves there would turn it by a fiftieth of a degree.
        a = 0.0 if abs(rest) < rounding else float(np.sqrt(rest))
        affine = np.eye(4)
        affine[:3, :3] = [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
        affine[:3, :3] *= [sizes[0], sizes[1], sizes[2] * qfac]
        affine[:3, 3] = self["qoffset"]
        return affine

    def best_affine(self) -> np.ndarray:
        """The sform where its code is set, else the qform where its is, else L-A-S with the centre at 0 mm."""
        if self["sform_code"] > 0:
            return self.sform()
        if self["qform_code"] > 0:
            return self.qform()
        sizes = np.asarray(self["pixdim"][1:4], np.float64) * [-1, 1, 1]
        affine = np.diag([*sizes, 1.0])
        affine[:3, 3] = -(np.asarray(self["dim"][1:4], np.float64) - 1) / 2 * sizes
        return affine


def mask_header(shape: tuple[int, int, int], affine: np.ndarray, *, size: int, codes: tuple[int, int]) -> bytes:
    """A fresh header for a uint8 mask, with the 4 bytes after it that say that it has no extension; made by nibabel.

    Args:
        shape: voxels along the axes of the file.
        affine: voxel index to R-A-S mm, written as sform and, as far as it is a rotation, as qform.
        size: 348 (NIfTI-1) or 540 (NIfTI-2).
        codes: sform_code and qform_code.
    """
    from nibabel import Nifti1Header, Nifti2Header

    header = (Nifti1Header if size == SIZEOF_V1 else Nifti2Header)(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(np.uint8)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0, 0.0)
    header.set_sform(affine, codes[0])
    header.set_qform(affine, codes[1])  # sets the voxel sizes too
    header["vox_offset"] = size + 4
    return bytes(header.binaryblock) + bytes(4)
