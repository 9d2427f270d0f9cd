"""Forms of archives that must be refused before anything is written, and the tiny good one that they are made from.

Shared by ``tests/test_archive.py`` and ``tests/stress/hostile.py``.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

ROOT = "Task06_Lung"
END = bytes(1024)
GOOD_FILES = {
    f"{ROOT}/dataset.json": json.dumps({"name": "Lung", "numTraining": 2}).encode(),
    f"{ROOT}/imagesTr/lung_001.nii.gz": b"image one" * 300,
    f"{ROOT}/imagesTr/lung_003.nii.gz": b"image three" * 200,
    f"{ROOT}/labelsTr/lung_001.nii.gz": b"label one",
    f"{ROOT}/labelsTr/lung_003.nii.gz": b"",
    f"{ROOT}/imagesTs/lung_002.nii.gz": bytes(range(256)) * 8,
}


def entry(
    name: str,
    content: bytes = b"",
    *,
    size: int | None = None,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    mode: int = 0o644,
    pax: dict[str, str] | None = None,
    form: int = tarfile.GNU_FORMAT,
) -> bytes:
    """One member: header (with its extended headers) and padded content; ``size`` may lie."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(content) if size is None else size
    if pax is not None:
        info.pax_headers, form = pax, tarfile.PAX_FORMAT
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


def good_members(prefix: str = "") -> bytes:
    return b"".join(entry(prefix + name, content) for name, content in GOOD_FILES.items())


def good_tar() -> bytes:
    """A tiny Task06_Lung as macOS would pack it: folders, ``./``, and its own ``._`` files."""
    folders = b"".join(entry(f"./{ROOT}{sub}", kind=tarfile.DIRTYPE) for sub in ("", "/imagesTr", "/labelsTr"))
    macos = entry(f"./{ROOT}/imagesTr/._lung_001.nii.gz", b"mac") + entry(f"./{ROOT}/.DS_Store", b"mac")
    return folders + macos + good_members("./") + END


def _after(*members: bytes) -> Callable[[Path], None]:
    """The good members first, so that a reader which checks as it writes has written something by then."""
    return lambda path: _write(path, good_members() + b"".join(members) + END)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _truncate(path: Path, at: int) -> None:
    _write(path, good_tar()[:at])


def _broken_checksum(path: Path) -> None:
    member = bytearray(entry(f"{ROOT}/imagesTr/lung_005.nii.gz", b"x"))
    member[10] ^= 1
    _write(path, good_members() + bytes(member) + END)


def _total_bomb(path: Path) -> None:
    """Eleven members of 1.9 GB as holes of a sparse file: a few kB on the disk."""
    size = 1_900_000_000
    with open(path, "wb") as file:
        file.write(good_members())
        for number in range(11):
            file.write(entry(f"{ROOT}/imagesTs/lung_{900 + number}.nii.gz", size=size))
            file.seek(size + -size % 512, 1)
        file.write(END)


def _gzip_bomb(path: Path) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        file.write(good_members() + entry(f"{ROOT}/imagesTs/lung_900.nii.gz", size=3_000_000_000) + bytes(5_000_000))
    _write(path, buffer.getvalue())


def _gzip_goes_on(path: Path) -> None:
    _write(path, gzip.compress(good_tar() + bytes(3_000_000)))


def _gzip_bad_crc(path: Path) -> None:
    data = bytearray(gzip.compress(good_tar()))
    data[-6] ^= 1
    _write(path, bytes(data))


def _header_of_size(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _pax_sparse() -> bytes:
    return entry(
        f"{ROOT}/imagesTr/lung_005.nii.gz",
        b"0" * 512,
        pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9000000000"},
    )


def _malformed_pax() -> bytes:
    data = b"99 path=x\n"
    return entry("p", data, kind=tarfile.XHDTYPE) + entry(f"{ROOT}/imagesTr/lung_005.nii.gz")


def _negative_size() -> bytes:
    """A size in GNU's base-256 form with the sign bit set, and the checksum made right again."""
    block = bytearray(entry(f"{ROOT}/imagesTr/lung_005.nii.gz"))
    block[124:136] = b"\xff" * 11 + b"\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def _global_path() -> bytes:
    data = b"29 path=../../escaped.nii.gz\n"
    return entry("g", data, kind=tarfile.XGLTYPE) + entry(f"{ROOT}/imagesTr/lung_005.nii.gz")


NEW = f"{ROOT}/imagesTr/lung_005.nii.gz"
# The form's name, the code of the problem that it must be refused with, and what writes it.
FORMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "parent folder": ("unsafe-path", _after(entry(f"{ROOT}/../../escaped.nii.gz", b"x"))),
    "parent folder that comes back": ("unsafe-path", _after(entry(f"{ROOT}/../{NEW}", b"x"))),
    "absolute path": ("unsafe-path", _after(entry("/escaped.nii.gz", b"x"))),
    "absolute path in a pax header": ("unsafe-path", _after(entry(NEW, b"x", pax={"path": "/escaped.nii.gz"}))),
    "parent folder in a GNU long name": ("unsafe-path", _after(entry("../" * 50 + "escaped.nii.gz", b"x"))),
    "parent folder in a global header": ("bad-header", _after(_global_path())),
    "Windows drive": ("unsafe-path", _after(entry("C:/escaped.nii.gz", b"x"))),
    "backslashes": ("unsafe-path", _after(entry("..\\..\\escaped.nii.gz", b"x"))),
    "NUL in a name": ("unsafe-path", _after(entry("x", b"x", pax={"path": f"{NEW}\0/../../escaped"}))),
    "newline in a name": ("unsafe-path", _after(entry("x", b"x", pax={"path": f"{NEW}\n"}))),
    "folder that is a parent": ("unsafe-path", _after(entry("../escaped", kind=tarfile.DIRTYPE))),
    "folder in a file's place": ("member-type", _after(entry(NEW, kind=tarfile.DIRTYPE))),
    "symbolic link out": ("member-type", _after(entry(f"{ROOT}/imagesTs", kind=tarfile.SYMTYPE, link="/tmp"))),
    "symbolic link as a scan": ("member-type", _after(entry(NEW, kind=tarfile.SYMTYPE, link="/etc/passwd"))),
    "symbolic link hidden as ._": ("member-type", _after(entry("._x", kind=tarfile.SYMTYPE, link="/etc"))),
    "hard link": ("member-type", _after(entry(NEW, kind=tarfile.LNKTYPE, link="/etc/passwd"))),
    "character device": ("member-type", _after(entry(NEW, kind=tarfile.CHRTYPE))),
    "block device": ("member-type", _after(entry(NEW, kind=tarfile.BLKTYPE))),
    "fifo": ("member-type", _after(entry(NEW, kind=tarfile.FIFOTYPE))),
    "unknown type": ("member-type", _after(entry(NEW, kind=b"V"))),
    "setuid": ("member-type", _after(entry(NEW, b"x", mode=0o4755))),
    "setgid": ("member-type", _after(entry(NEW, b"x", mode=0o2755))),
    "GNU sparse file": ("member-type", _after(entry(NEW, kind=tarfile.GNUTYPE_SPARSE))),
    "pax sparse file": ("member-type", _after(_pax_sparse())),
    "the same name twice": ("duplicate-member", _after(entry(f"{ROOT}/imagesTr/lung_001.nii.gz", b"other"))),
    "the same name written otherwise": ("duplicate-member", _after(entry(f"./{ROOT}/.//labelsTr/lung_001.nii.gz"))),
    "too many scans": (
        "too-many-members",
        _after(*(entry(f"{ROOT}/imagesTs/lung_{number:03d}.nii.gz") for number in range(500, 700))),
    ),
    "too many headers": ("too-many-members", _after(entry("x", kind=tarfile.DIRTYPE) * 4001)),
    "size bomb": ("too-large", _after(entry(NEW, size=2_000_000_001))),
    "size bomb in a pax header": ("too-large", _after(entry(NEW, pax={"size": "3000000000"}))),
    "total bomb": ("too-large", _total_bomb),
    "gzip bomb": ("too-large", _gzip_bomb),
    "size that is no number": ("bad-header", _after(entry(NEW, pax={"size": "-1"}))),
    "negative size": ("bad-header", _after(_negative_size())),
    "extended header of 8 GB": ("bad-header", _after(_header_of_size(tarfile.GNUTYPE_LONGNAME, 8_000_000_000))),
    "malformed pax header": ("bad-header", _after(_malformed_pax())),
    "broken checksum in the middle": ("bad-header", _broken_checksum),
    "no tar at all": ("bad-header", lambda path: _write(path, b"<html>" + b"sorry" * 500)),
    "empty file": ("truncated-archive", lambda path: _write(path, b"")),
    "cut within a scan": ("truncated-archive", lambda path: _truncate(path, 5000)),
    "cut within a header": ("truncated-archive", lambda path: _truncate(path, 2100)),
    "no end marker": ("truncated-archive", lambda path: _write(path, good_members())),
    "gzip cut in half": ("truncated-archive", lambda path: _write(path, gzip.compress(good_tar())[:300])),
    "gzip with a bad CRC": ("damaged-archive", _gzip_bad_crc),
    "gzip that goes on": ("bytes-after-end", _gzip_goes_on),
    "another dataset": ("no-task06", lambda path: _write(path, entry("Task09_Spleen/dataset.json", b"{}") + END)),
}


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Every path below ``folder`` with its bytes (None for a folder), to see that nothing was written."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and path.stat().st_size < 10**7 else None
        for path in sorted(folder.rglob("*"))
    }
