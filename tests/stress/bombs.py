"""Files that would take gigabytes: each is read in a process of its own, its time and memory measured (row 14)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.volumes import chest_like, raw_bytes

from . import Figure

MOST_SECONDS, MOST_BYTES = 1.0, 100_000_000
# Memory is what the reading adds to a process that has loaded the package.
READER = """
import json, resource, sys, time
from lungseg.errors import LungsegError
from lungseg.nifti import read_scan
from nibabel import Nifti1Header, Nifti2Header
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, started, code = peak(), time.perf_counter(), "accepted"
try:
    read_scan(sys.argv[1])
except LungsegError as error:
    code = error.problem.code
print(json.dumps([code, time.perf_counter() - started, peak() - before]))
"""


def _packed(head: bytes, zeros: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return (
        packer.compress(head) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)) + packer.flush()
    )


def _header(*dims: int, offset: float = 352, flag: int = 0) -> bytes:
    data = raw_bytes(chest_like((8, 8, 8)))[:352]
    struct.pack_into("<4h", data, 40, 3, *dims)
    struct.pack_into("<f", data, 108, offset)
    data[348] = flag
    return bytes(data)


FORMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "dims 32767^3": ("a.nii", lambda: _header(32767, 32767, 32767) + bytes(1000)),
    "dims 32767^3, packed": ("a.nii.gz", lambda: _packed(_header(32767, 32767, 32767), 1 << 20)),
    "dims of 2^32 voxels and no data": ("a.nii", lambda: _header(2048, 2048, 1024) + bytes(1000)),
    "400 MB of zeros after a small scan": ("a.nii.gz", lambda: _packed(_header(8, 8, 8), 400 << 20)),
    "8.6 GB of zeros, and the header says so": (
        "a.nii.gz",
        # Only the beginning of the stream is made: the rest would be the same, and is never looked at.
        lambda: (start := _packed(_header(2048, 2048, 1024), 16 << 20)) + bytes(8_600_000 - len(start)),
    ),
    "an extension of 1 GB": ("a.nii.gz", lambda: _packed(_header(8, 8, 8, offset=float(1 << 30), flag=1), 64 << 20)),
    "extensions of 16 MB that lie": (
        "a.nii.gz",
        lambda: _packed(_header(8, 8, 8, offset=float(16 << 20), flag=1) + struct.pack("<2i", 1 << 30, 6), 64 << 20),
    ),
    "a million gzip members of nothing": ("a.nii.gz", lambda: _packed(b"", 0) * 1_000_000),
}


def bombs(count: int, folder: Path) -> Figure:
    """The first ``count`` forms."""
    figure = Figure("bombs", "each refused in under 1 s and 100 MB")
    for form, (name, make) in list(FORMS.items())[:count]:
        path = folder / name
        path.write_bytes(make())
        done = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, text=True, timeout=120)
        figure.tried += 1
        if not figure.check(done.returncode == 0, f"{form}: {done.stderr[-300:]}"):
            continue
        code, seconds, grown = json.loads(done.stdout)
        figure.check(code != "accepted", f"{form}: accepted")
        figure.check(seconds < MOST_SECONDS, f"{form}: took {seconds:.2f} s")
        figure.check(grown < MOST_BYTES, f"{form}: took {grown / 1e6:.0f} MB")
        figure.facts[form] = f"{code} in {seconds:.3f} s and {grown / 1e6:.1f} MB of {path.stat().st_size / 1e6:.1f} MB"
        path.unlink()
    return figure
