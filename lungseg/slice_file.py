"""Files of a preprocessed folder: where a slice's mask lies, and reading a slice without trusting its file."""

from __future__ import annotations

import functools
import io
import math
import os
import tokenize
from pathlib import Path

import numpy as np

from .digests import check_digest
from .errors import DataError, LungsegError, UsageError
from .files import machine_error
from .memory import Room
from .slice_folder import npy_header

# What numpy's parser of the header, a Python literal, raises on bytes that are none.
_NO_HEADER = (ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError)
_HEADER_BYTES = 4096  # no header of ours is longer
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


def read_slice(
    path: str | Path, dtype: type[np.generic], size: int, digest: str | None = None, room: Room | None = None
) -> np.ndarray:
    """:func:`read_array` of ``[size, size]``."""
    return read_array(path, dtype, (size, size), digest, room)


def read_array(
    path: str | Path,
    dtype: type[np.generic],
    shape: tuple[int, ...],
    digest: str | None = None,
    room: Room | None = None,
) -> np.ndarray:
    """Read an ``.npy`` file that holds ``shape`` of ``dtype``; never unpickles, never trusts its header.

    Args:
        path: the file.
        dtype: type of its numbers.
        shape: of the array.
        digest: its XXH3-128 from the manifest; None leaves that check out.
        room: memory to read it into, where many are read; the next one overwrites this one.

    Raises:
        DataError: the file is missing, cut short, or holds something else.
        IntegrityError: it is not the file that was hashed.
        MachineError: the system can not read it.
    """
    count = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        data, length = _bytes(path, count + _HEADER_BYTES, room or Room())
    except FileNotFoundError as cause:
        raise DataError.of("missing-slice", "the slice is missing", file=path, mend=_MEND) from cause
    except OSError as cause:
        raise machine_error(cause, path) from cause
    return parse_array(data, path, dtype, shape, digest, length)


def parse_array(
    data: np.ndarray,
    path: str | Path,
    dtype: type[np.generic],
    shape: tuple[int, ...],
    digest: str | None = None,
    length: int | None = None,
) -> np.ndarray:
    """What :func:`read_array` does with the bytes of a file.

    Args:
        data: of the file, ``uint8 [N]``.
        path: what the file is called in messages.
        dtype, shape, digest: as there.
        length: of the file, where ``data`` is only its beginning.

    Returns:
        A view of ``data``.
    """
    if digest is not None:
        check_digest(data.data, digest, path)
    start = _start(data, path, np.dtype(dtype), shape)
    count = math.prod(shape) * np.dtype(dtype).itemsize
    length = data.size if length is None else length
    if length - start != count:
        raise _damaged(path, f"{count} bytes of pixels", str(length - start))
    return data[start:].view(dtype).reshape(shape)


def _bytes(path: str | Path, most: int, room: Room) -> tuple[np.ndarray, int]:
    """The first ``most`` bytes of a file, or all that it has, and how many it has."""
    with open(path, "rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        data = room.take(min(length, most))
        filled = 0
        while filled < data.size:
            read = file.readinto(data[filled:].data)
            if not read:  # it was cut while it was read
                return data[:filled], filled
            filled += read
    return data, length


def _start(data: np.ndarray, path: str | Path, dtype: np.dtype, wanted: tuple[int, ...]) -> int:
    """Where the pixels start, once the header says what is expected."""
    usual = _usual_header(wanted, dtype)
    if data[: len(usual)].tobytes() == usual:  # what preprocess writes; reading it would take longer than the pixels
        return len(usual)
    file = io.BytesIO(data[:_HEADER_BYTES].tobytes())
    try:
        np.lib.format.read_magic(file)
        shape, fortran, found = np.lib.format.read_array_header_1_0(file)
    except _NO_HEADER as cause:
        raise _damaged(path, "an .npy file", f"{len(data)} bytes that are none") from cause
    if (shape, fortran, found) != (wanted, False, dtype):
        order = ", column by column" if fortran else ""
        raise _damaged(path, f"{dtype} {list(wanted)}", f"{found} {list(shape)}{order}")
    return file.tell()


@functools.lru_cache(maxsize=8)
def _usual_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    return npy_header(shape, dtype)


def _damaged(path: str | Path, expected: str, found: str) -> LungsegError:
    return DataError.of("bad-slice", "the slice is damaged", expected=expected, found=found, file=path, mend=_MEND)
