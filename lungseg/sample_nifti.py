"""The bytes of the phantom's NIfTI files, the same for equal volumes on every run."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

_CODES = {"int16": (4, 16), "uint8": (2, 8)}  # datatype, bitpix
_MILLIMETRES = 2  # xyzt_units


def nifti_bytes(volume: NDArray[Any], spacing_mm: tuple[float, float, float]) -> bytes:
    """A gzipped NIfTI-1 file of an L-A-S volume centred on the origin.

    Order and codes of the header are those of the NIfTI-1.1 standard (nifti1.h).  The gzip stream holds no time.

    Args:
        volume: ``int16`` or ``uint8 [x, y, z]``, L-A-S.
        spacing_mm: along x, y, z.
    """
    code, bits = _CODES[volume.dtype.name]
    sx, sy, sz = spacing_mm
    nx, ny, nz = volume.shape
    ox, oy, oz = sx * (nx - 1) / 2, -sy * (ny - 1) / 2, -sz * (nz - 1) / 2
    header = (
        struct.pack("<i34xcx", 348, b"r")
        + struct.pack("<8h", 3, nx, ny, nz, 1, 1, 1, 1)
        + struct.pack("<12x4h", 0, code, bits, 0)
        + struct.pack("<8f", -1, sx, sy, sz, 0, 0, 0, 0)  # the first is qfac: the axes are left-handed
        + struct.pack("<3f3xB", 352, 1, 0, _MILLIMETRES)
        + struct.pack("<24x80s24x", b"lungseg sample (synthetic)")
        # qform and sform say the same: the quaternion (0, 0, 1, 0) with qfac -1 is diag(-1, 1, 1).
        + struct.pack("<2h6f", 1, 1, 0, 1, 0, ox, oy, oz)
        + struct.pack("<12f", -sx, 0, 0, ox, 0, sy, 0, oy, 0, 0, sz, oz)
        + struct.pack("<16x4s4x", b"n+1\0")
    )
    values = np.ascontiguousarray(volume.transpose(2, 1, 0)).astype(volume.dtype.newbyteorder("<"), copy=False)
    return igzip.compress(header + values.tobytes(), compresslevel=1, mtime=0)
