"""The members of a tar, one after the other, forward only and in bounded memory.

The reader is our own, because ``tarfile`` takes a broken header in the middle for the end of the archive, and reads
extended headers of any size into memory.  Formats: POSIX.1-2001 ustar and pax, and GNU's long names.
"""

from __future__ import annotations

import gzip
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .archive_members import (
    FILE,
    FOLDER,
    SETUID,
    SETUID_BITS,
    Member,
    Reader,
    faults_as_refusals,
    refusal,
    truncated,
)

_BLOCK = 512
_CHUNK = 1 << 20
_MOST_EXTENDED = 1 << 20  # bytes of one extended header; real ones have a few hundred
_PAX_RECORD = re.compile(rb"([0-9]{1,8}) ([^=]+)=")
_SPARSE = "GNU.sparse"  # how the names of pax records of a sparse file begin
_MOST_HEADERS = 4000  # headers of all kinds; Task06_Lung has some 330 with its macOS ones
_KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
    tarfile.GNUTYPE_SPARSE: "sparse file",
}


class _Forward:
    """Reads a stream forward only and never takes its end for anything but a fault."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, path: Path) -> None:
        self._stream = stream
        self._path = path

    def take(self, size: int) -> bytes:
        with faults_as_refusals(self._path):
            data = self._stream.read(size)
        if len(data) < size:
            raise truncated(self._path)
        return data

    def skip(self, size: int) -> None:
        """Go past ``size`` bytes; the last one is read, so that a file which ends before it is found out."""
        if size and not isinstance(self._stream, gzip.GzipFile):
            self._stream.seek(size - 1, 1)
            size = 1
        while size:
            size -= len(self.take(min(size, _CHUNK)))

    def finish(self) -> None:
        """Inflate what is left, so that gzip's own CRC is checked; a tar pads its end with zeros, and with few."""
        if isinstance(self._stream, gzip.GzipFile) and len(self._stream.read(_CHUNK)) == _CHUNK:
            raise refusal("bytes-after-end", "the archive goes on after its end marker", self._path)


class _Content:
    """The bytes of one member of a tar."""

    def __init__(self, stream: _Forward, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, size: int, /) -> bytes:
        data = self._stream.take(min(size, self.left))
        self.left -= len(data)
        return data


def tar_members(file: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[tuple[Member, Reader]]:
    """The members of a tar, see :func:`~lungseg.archive_plan.read_members`."""
    stream = _Forward(file, path)
    extended: dict[str, str] = {}
    for _ in range(_MOST_HEADERS):
        block = stream.take(_BLOCK)
        if not any(block):  # the end marker; where it is missing, take() has found the archive truncated
            stream.finish()
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as cause:
            raise refusal("bad-header", "is no tar archive, or a damaged one", path, found=str(cause)) from cause
        if header.size < 0:
            raise refusal("bad-header", "a member states a negative size", path, found=str(header.size))
        if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
            records = _pax_records(_extended_header(stream, header, path), path)
            if header.type == tarfile.XGLTYPE:
                # A global header that renames or resizes every member has no honest use here.
                if records:
                    raise refusal("bad-header", "a global header sets the name or size of members", path)
            else:
                extended |= records
            continue
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            text = _extended_header(stream, header, path).split(b"\0", 1)[0]
            if header.type == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = text.decode("utf-8", "surrogateescape")
            continue
        kind = _tar_kind(header, extended)
        # A folder has no content, whatever size it states (POSIX lets it state a quota).
        size = 0 if kind == FOLDER else _size(header, extended, path)
        member = Member(extended.get("path", header.name), kind, size)
        content = _Content(stream, member.size)
        yield member, content
        stream.skip(content.left + -member.size % _BLOCK)
        extended = {}
    raise refusal("too-many-members", "the archive has too many members", path, expected=f"at most {_MOST_HEADERS}")


def _tar_kind(header: tarfile.TarInfo, extended: dict[str, str]) -> str:
    if _SPARSE in extended:
        return _KINDS[tarfile.GNUTYPE_SPARSE]
    if header.type == tarfile.DIRTYPE:
        return FOLDER
    if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return _KINDS.get(header.type, f"member of the unknown type {header.type!r}")
    return FILE if not header.mode & SETUID_BITS else SETUID


def _size(header: tarfile.TarInfo, extended: dict[str, str], path: Path) -> int:
    text = extended.get("size", str(header.size))
    if not re.fullmatch("[0-9]{1,18}", text):
        raise refusal("bad-header", "an extended header states a size that is no number", path, found=text[:40])
    return int(text)


def _extended_header(stream: _Forward, header: tarfile.TarInfo, path: Path) -> bytes:
    if header.size > _MOST_EXTENDED:
        raise refusal(
            "bad-header",
            "an extended header is too long",
            path,
            expected=f"at most {_MOST_EXTENDED} bytes",
            found=f"{header.size} bytes",
        )
    data = stream.take(header.size)
    stream.skip(-header.size % _BLOCK)
    return data


def _pax_records(data: bytes, path: Path) -> dict[str, str]:
    """What a pax header says of name, size and sparseness; the rest (times, attributes) is of no use here.

    A record is ``"<length> <key>=<value>\\n"``, where the length counts the whole record.
    """
    records: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        match = _PAX_RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise refusal("bad-header", "an extended header is malformed", path)
        key, value = match[2].decode("utf-8", "surrogateescape"), data[match.end() : end - 1]
        if key in ("path", "size"):
            records[key] = value.decode("utf-8", "surrogateescape")
        elif key.startswith(_SPARSE):
            records[_SPARSE] = ""
        at = end
    return records
