"""The bytes of a NIfTI file, inflated once and to their end.

Bytes are counted, the gzip CRC is checked, and bytes must equal what the header says.  Nothing larger than the file can
back is allocated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import xxhash
from isal import igzip_lib

from .errors import DataError
from .memory import Room, require_memory
from .nifti_errors import MEND_COPY, MEND_FORMAT, MEND_WRITE, bad
from .nifti_fields import SIZEOF_V1, SIZEOF_V2
from .nifti_header import Header, check_extensions, header_size, parse_header

CHUNK = 1 << 16  # memory of twice as much is given back after each use, and cleared by the system at the next
# Tools that pack in blocks (bgzip, pigz) make members of some 64 kB; empty ones would keep a reader for hours.
_MEMBERS, _MEMBER_BYTES = 1000, 512
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate can not shrink more than this (zlib's technical notes); a header that claims more is a lie.
MAX_DEFLATE_RATIO = 1032
# No scan or label has so many bytes; of what has, a real one does not shrink to a 100th of its size.
_BOMB_BYTES, _BOMB_RATIO = 1 << 32, 100


def inflated(file: BinaryIO, hasher: xxhash.xxh3_128) -> Iterator[bytes]:
    """The inflated chunks of a gzip file of one or more members, each with its CRC and length checked at its end."""
    left = file.read(CHUNK)
    hasher.update(left)
    if not left.startswith(_GZIP_MAGIC):
        if not left:
            raise bad("empty-file", "is an empty file", "a scan", "0 bytes", MEND_COPY)
        raise _not_packed(left)
    members = given = 0
    while True:
        inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not inflater.eof:
            data = left
            left = b""
            if not data and inflater.needs_input:
                data = file.read(CHUNK)
                hasher.update(data)
                if not data:
                    raise bad(
                        "gzip-truncated",
                        "the gzip stream is cut off",
                        "the end of the stream",
                        f"the file ends at byte {file.tell():,}",
                        MEND_COPY,
                    )
            try:
                chunk = inflater.decompress(data, CHUNK)
            except igzip_lib.IsalError as cause:  # type: ignore[misc]
                raise bad(
                    "gzip-damaged",
                    "the gzip stream is damaged",
                    "valid data with a matching CRC",
                    re.sub(r"^Error -?[0-9]+ | found$", "", str(cause)).lower(),  # "Error -6 Incorrect checksum found"
                    MEND_COPY,
                ) from cause
            given += len(chunk)
            yield chunk
        members += 1
        if members > _MEMBERS and given < members * _MEMBER_BYTES:
            raise bad(
                "gzip-members",
                "the gzip stream is in pieces that hold next to nothing",
                f"pieces of {_MEMBER_BYTES} bytes or more",
                f"{members:,} pieces of {given:,} bytes in all",
                MEND_COPY,
            )
        left = inflater.unused_data
        if len(left) < 2:
            more = file.read(CHUNK)
            hasher.update(more)
            left += more
        if not left:
            return
        if not left.startswith(_GZIP_MAGIC):
            raise bad(
                "trailing-bytes",
                "there are bytes after the gzip stream",
                "the end of the file",
                f"{left[:8]!r}",
                MEND_COPY,
            )


def plain(file: BinaryIO, hasher: xxhash.xxh3_128) -> Iterator[bytes]:
    """The chunks of a file that is not packed."""
    while chunk := file.read(CHUNK):
        hasher.update(chunk)
        yield chunk


def _not_packed(start: bytes) -> DataError:
    """The error of a file whose name ends in .gz and whose bytes are something else, by what they are."""
    mend = MEND_FORMAT
    if start[:4] in (size.to_bytes(4, order) for size in (SIZEOF_V1, SIZEOF_V2) for order in ("little", "big")):
        mend = "It is a scan that is not packed: name it .nii, or pack it with gzip."
    elif not any(start):
        mend = f"It holds zeros only, as a copy that was cut off. {MEND_COPY}"
    elif start[128:132] == b"DICM":
        mend = "It is a DICOM file: convert the series with dcm2niix first."
    what, expected = "is no gzip file, though its name says so", "a file that begins with 1f 8b"
    return bad("not-gzip", what, expected, repr(start[:16]), mend)


def collect(stream: Iterator[bytes], most: int, room: Room) -> tuple[Header, np.ndarray]:
    """Header and raw voxels from the chunks of the inflated file, of which there can be ``most`` bytes at most."""
    start = bytearray()
    for chunk in stream:
        start += chunk
        if len(start) >= SIZEOF_V2 + 4:
            break
    header = parse_header(bytes(start[: SIZEOF_V2 + 4]))
    if header.file_bytes > most:
        raise bad(
            "size-mismatch",
            "the file is too small for what its header says",
            _bytes_of(header),
            f"at most {most:,} bytes",
            MEND_COPY,
        )
    if header.data_bytes > _BOMB_BYTES and header.file_bytes * MAX_DEFLATE_RATIO > most * _BOMB_RATIO:
        raise bad(
            "too-large",
            "would inflate to far more than any scan has",
            f"at most {_BOMB_BYTES:,} bytes, or a file of at least a {_BOMB_RATIO}th of them",
            f"{header.data_bytes:,} bytes ({' x '.join(map(str, header.shape))})",
            MEND_COPY,
        )
    require_memory(header.data_bytes)
    while len(start) < header.offset and (chunk := next(stream, b"")):
        start += chunk
    check_extensions(bytes(start[: header.offset]), header_size(bytes(start[:4])), header.offset)
    raw = room.take(header.data_bytes)
    filled = _fill(raw, 0, start[header.offset :], header)
    del start
    for chunk in stream:
        filled = _fill(raw, filled, chunk, header)
    if filled < raw.size:
        raise bad(
            "size-mismatch",
            "the data end too early",
            _bytes_of(header),
            f"{header.offset + filled:,} bytes",
            MEND_COPY,
        )
    return header, raw.view(header.dtype)


def _fill(raw: np.ndarray, filled: int, chunk: bytes | bytearray, header: Header) -> int:
    end = filled + len(chunk)
    if end > raw.size:
        raise bad(
            "trailing-bytes",
            "there are bytes after the data",
            _bytes_of(header),
            "more",
            f"{MEND_COPY} Or: {MEND_WRITE}",
        )
    raw[filled:end] = np.frombuffer(chunk, np.uint8)
    return end


def _bytes_of(header: Header) -> str:
    """What the file has to hold, by its header."""
    shape = " x ".join(map(str, header.shape))
    return f"{header.file_bytes:,} bytes: {shape} voxels of {header.dtype.itemsize} bytes from byte {header.offset}"
