"""What an archive is made of, the errors for a bad one, and the reader of zips (PKWARE APPNOTE 6.3)."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from .errors import IntegrityError, Problem
from .files import machine_error

FILE, FOLDER = "file", "folder"
SETUID = "file with a setuid or setgid bit"
SETUID_BITS = stat.S_ISUID | stat.S_ISGID
_BAD_ARCHIVE = (
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,  # zipfile's word for a compression or version that it does not know
    UnicodeDecodeError,
)
_ZIP_KINDS = {
    stat.S_IFLNK: "symbolic link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class Member:
    """One entry of an archive, as the archive states it.

    Args:
        name: its path as written, unchecked; undecodable bytes as surrogates.
        kind: :data:`FILE`, :data:`FOLDER`, or in words what else it is (``symbolic link``).
        size: bytes of its content, unpacked.
    """

    name: str
    kind: str
    size: int


class Reader(Protocol):
    """The content of one member; valid until the next member is asked for."""

    def read(self, size: int, /) -> bytes:
        """The next ``size`` bytes, fewer only at the member's end; an archive that ends before it is refused."""


@contextlib.contextmanager
def faults_as_refusals(path: Path) -> Iterator[None]:
    """What the libraries raise at a bad archive, or the system at a bad file, as errors of this package."""
    try:
        yield
    except EOFError as cause:  # the word of gzip and zipfile for a stream that ends too early
        raise truncated(path) from cause
    except _BAD_ARCHIVE as cause:
        raise refusal("damaged-archive", "the archive is damaged", path, found=str(cause)) from cause
    except OSError as cause:
        raise machine_error(cause, path) from cause


def refusal(code: str, what: str, path: Path, *, expected: str = "", found: str = "", mend: str = "") -> IntegrityError:
    """The error for an archive that is not to be unpacked."""
    mend = mend or "Nothing was unpacked. Get the archive anew from a source that you trust."
    return IntegrityError(Problem(code, what, expected=expected, found=found, mend=mend, file=str(path)))


def truncated(path: Path) -> IntegrityError:
    """The error for an archive that ends too early."""
    return refusal(
        "truncated-archive",
        "the archive is cut off before its end",
        path,
        mend="Delete it and get it anew; `lungseg download` goes on from a `.part` file by itself.",
    )


def zip_members(file: BinaryIO, path: Path) -> Iterator[tuple[Member, Reader]]:
    """The members of a zip, see :func:`~lungseg.archive_plan.read_members`."""
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            kind = FOLDER if info.is_dir() else _ZIP_KINDS.get(stat.S_IFMT(mode), FILE)
            if kind == FILE and mode & SETUID_BITS:
                kind = SETUID
            if info.flag_bits & 1:
                kind = "encrypted file"
            with archive.open(info) if kind == FILE else io.BytesIO() as content:
                yield Member(info.orig_filename, kind, info.file_size), _ZipContent(content, info.file_size, path)


class _ZipContent:
    """The bytes of one member of a zip; zipfile checks its CRC at the end."""

    def __init__(self, stream: IO[bytes], size: int, path: Path) -> None:
        self._stream = stream
        self._left = size
        self._path = path

    def read(self, size: int, /) -> bytes:
        with faults_as_refusals(self._path):
            data = self._stream.read(size)
        if len(data) < min(size, self._left):
            raise truncated(self._path)
        self._left -= len(data)
        return data
