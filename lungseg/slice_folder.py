"""Many small arrays that appear at once: written into a folder under a temporary name, which is then moved.

A slice set is hundreds of files.  Moving each into its place costs as much as writing it, so the folder is moved
instead: a kill at any moment leaves the old folder, the new one, or none, and a temporary one that the next run clears.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .digests import digest
from .files import TEMPORARY_PREFIX, machine_error


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """What an ``.npy`` file of this shape and type begins with."""
    start = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(start, fields)
    return start.getvalue()


class NpyFile:
    """The bytes of an ``.npy`` file, made once and filled again for every array of the same kind.

    Args:
        shape: of the array.
        dtype: of its numbers.

    Attributes:
        array: what to fill; the file's own memory.
        data: the whole file.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.header = npy_header(shape, np.dtype(dtype))
        self.data = bytearray(len(self.header) + math.prod(shape) * np.dtype(dtype).itemsize)
        self.data[: len(self.header)] = self.header
        self.array = np.frombuffer(self.data, dtype, offset=len(self.header)).reshape(shape)
        self.empty_digest = digest(memoryview(self.data))


class NewFolder:
    """A folder of files that nobody sees before all are there; see :func:`new_folder`."""

    def __init__(self, temporary: Path, folder: Path) -> None:
        self._temporary, self._folder = os.fspath(temporary), folder

    def write(self, name: str, file: NpyFile) -> str:
        """Write a file; returns its hash (:func:`lungseg.digests.digest`)."""
        with self._opened(name) as handle:
            left = memoryview(file.data)
            while left:
                left = left[os.write(handle, left) :]
        return digest(memoryview(file.data))

    def write_zeros(self, name: str, file: NpyFile) -> str:
        """Write the file that ``file`` is before it is filled; returns its hash.

        Most masks are empty.  The file is as long as any other and reads as zeros, but where the file system knows
        holes, it takes no room and no time.
        """
        with self._opened(name) as handle:
            os.write(handle, file.header)
            os.ftruncate(handle, len(file.data))
        return file.empty_digest

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            handle = os.open(os.path.join(self._temporary, name), flags, 0o666)  # noqa: PTH118 (hundreds of them)
            try:
                yield handle
            finally:
                os.close(handle)
        except OSError as error:
            raise machine_error(error, self._folder / name) from error


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[NewFolder]:
    """A folder to write to, which takes its place when the block is left without an error; else it is removed.

    Where ``folder`` stands already and holds something, the new files are moved into it one by one.

    Raises:
        MachineError: the disk is full or can not be written.
    """
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}-{folder.name}")
    try:
        try:
            temporary.mkdir()
            yield NewFolder(temporary, folder)
            _move(temporary, folder)
        except OSError as error:
            raise machine_error(error, folder) from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _move(temporary: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()  # an empty one only; Windows moves nothing onto it
    if not folder.exists():
        os.replace(temporary, folder)
        return
    for path in temporary.iterdir():
        os.replace(path, folder / path.name)
