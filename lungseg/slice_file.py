"""Files of a preprocessed folder: where a slice's mask lies, and reading a slice without trusting its file."""

from __future__ import annotations

import io
import math
import tokenize
from pathlib import Path

import numpy as np

from .errors import DataError, LungsegError, UsageError
from .files import check_digest, machine_error

# What numpy's parser of the header, a Python literal, raises on bytes that are none.
_NO_HEADER = (ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
_MEND = "Run the same `lungseg preprocess` again: it repairs damaged slices."


def mask_path(image_path: str | Path) -> Path:
    """File of the mask that belongs to the image ``<case>/images/<zzz>.npy``.

    Raises:
        UsageError: the file does not lie in a folder ``images``.
    """
    path = Path(image_path)
    if path.parent.name != "images":
        raise UsageError.of("no-image-path", "is no slice's image", expected="<case>/images/<zzz>.npy", file=path)
    return path.parent.parent / "masks" / path.name


def read_slice(path: str | Path, dtype: type[np.generic], size: int, digest: str | None = None) -> np.ndarray:
    """:func:`read_array` of ``[size, size]``."""
    return read_array(path, dtype, (size, size), digest)


def read_array(
    path: str | Path, dtype: type[np.generic], shape: tuple[int, ...], digest: str | None = None
) -> np.ndarray:
    """Read an ``.npy`` file that holds ``shape`` of ``dtype``; never unpickles, never trusts its header.

    Args:
        path: the file.
        dtype: type of its numbers.
        shape: of the array.
        digest: its XXH3-128 from the manifest; None leaves that check out.

    Raises:
        DataError: the file is missing, cut short, or holds something else.
        IntegrityError: it is not the file that was hashed.
        MachineError: the system can not read it.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError as cause:
        raise DataError.of("missing-slice", "the slice is missing", file=path, mend=_MEND) from cause
    except OSError as cause:
        raise machine_error(cause, path) from cause
    if digest is not None:
        check_digest(data.data, digest, path)
    start, count = _header(data, path, np.dtype(dtype), shape)
    if len(data) - start != count:
        raise _damaged(path, f"{count} bytes of pixels", str(len(data) - start))
    return data[start:].view(dtype).reshape(shape)


def _header(data: np.ndarray, path: str | Path, dtype: np.dtype, wanted: tuple[int, ...]) -> tuple[int, int]:
    """Where the pixels start and how many bytes they should have, once the header says what is expected."""
    file = io.BytesIO(data[:4096].tobytes())
    try:
        np.lib.format.read_magic(file)
        shape, fortran, found = np.lib.format.read_array_header_1_0(file)
    except _NO_HEADER as cause:
        raise _damaged(path, "an .npy file", f"{len(data)} bytes that are none") from cause
    if (shape, fortran, found) != (wanted, False, dtype):
        order = ", column by column" if fortran else ""
        raise _damaged(path, f"{dtype} {list(wanted)}", f"{found} {list(shape)}{order}")
    return file.tell(), math.prod(wanted) * dtype.itemsize


def _damaged(path: str | Path, expected: str, found: str) -> LungsegError:
    return DataError.of("bad-slice", "the slice is damaged", expected=expected, found=found, file=path, mend=_MEND)
