"""Scans with mutated headers, and packed scans that were flipped, cut or added to (rows 11 to 22)."""

from __future__ import annotations

import gzip
import resource
import time
import zlib
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np

from lungseg.errors import DataError
from lungseg.nifti import Scan, read_scan
from tests.volumes import affine_of, chest_like

from . import Figure

SHAPE = (9, 8, 6)
MOST_SECONDS, MOST_BYTES = 1.0, 1 << 30


def base_scans() -> list[tuple[bytes, int]]:
    """Bytes of good scans, of every version, byte order and kind of number, and where their voxels begin."""
    scans = []
    for kind, order, dtype, extended in (
        (nib.Nifti1Image, "<", "i2", False),
        (nib.Nifti1Image, ">", "i2", False),
        (nib.Nifti2Image, "<", "f4", False),
        (nib.Nifti2Image, ">", "u2", False),
        (nib.Nifti1Image, "<", "f8", True),
    ):
        array = chest_like(SHAPE).astype(dtype) if dtype != "u2" else (chest_like(SHAPE) + 1100).clip(0).astype("u2")
        header = kind.header_class(endianness=order)
        image = kind(array, affine_of("LPS"), header)
        image.set_data_dtype(array.dtype)
        image.header.set_xyzt_units("mm")
        if extended:
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a name that must not be copied"))
        data = image.to_bytes()
        scans.append((data, len(data) - array.nbytes))
    return scans


def header_mutants(count: int, folder: Path, seed: int = 0) -> Figure:
    """Headers with one to four bytes exchanged."""
    figure = Figure(
        "header_mutants",
        "no crash, none over 1 s or 1 GiB, none accepted that is not finite, singular or of other size",
    )
    rng, bases = np.random.default_rng(seed), base_scans()
    codes: Counter[str] = Counter()
    slowest, before = 0.0, _peak_bytes()
    for number in range(count):
        original, start = bases[number % len(bases)]
        data = bytearray(original)
        for at in rng.integers(0, start, int(rng.integers(1, 5))):
            data[at] = int(rng.integers(256))
        path = folder / ("mutant.nii.gz" if number % 4 == 0 else "mutant.nii")
        path.write_bytes(gzip.compress(bytes(data), 1) if path.suffix == ".gz" else bytes(data))
        figure.tried += 1
        started = time.perf_counter()
        try:
            scan = read_scan(path)
        except DataError as error:
            codes[error.problem.code] += 1
            figure.check("\n" not in str(error) and bool(error.problem.mend), f"mutant {number}: message {error}")
        except Exception as error:
            figure.check(False, f"mutant {number}: {type(error).__name__}: {error}")
        else:
            codes["accepted"] += 1
            for what in _wrong(scan, path, bytes(data)):
                figure.check(False, f"mutant {number}: accepted though {what}")
        seconds = time.perf_counter() - started
        slowest = max(slowest, seconds)
        figure.check(seconds < MOST_SECONDS, f"mutant {number}: took {seconds:.1f} s")
    grown = _peak_bytes() - before
    figure.check(grown < MOST_BYTES, f"memory grew by {grown:,} bytes")
    figure.facts = {
        "accepted": codes.pop("accepted", 0),
        "slowest_s": round(slowest, 3),
        "memory_mb": round(grown / 1e6, 1),
        "refused_by": dict(codes.most_common()),
    }
    return figure


def _wrong(scan: Scan, path: Path, data: bytes) -> list[str]:
    """What is wrong with an accepted scan; nibabel is the oracle for its voxels and its place."""
    wrong = []
    if not np.isfinite(scan.voxels).all():
        wrong.append("voxels are not finite")
    if not np.isfinite(scan.affine).all() or abs(np.linalg.det(scan.affine[:3, :3])) < 1e-6:
        wrong.append("the affine is singular")
    if scan.header.file_bytes != len(data) or scan.voxels.shape != scan.header.shape:
        wrong.append(f"{scan.header.file_bytes} bytes are said and {len(data)} there")
    try:
        oracle = nib.load(path)
        voxels = np.asarray(oracle.dataobj, np.float64).reshape(scan.voxels.shape)
        if not np.allclose(scan.voxels, voxels, rtol=1e-5, atol=1e-2):
            wrong.append("nibabel reads other voxels")
        if not np.allclose(scan.affine, oracle.affine, atol=1e-4):
            wrong.append("nibabel reads another affine")
    except Exception as error:
        if not _known_to_refuse(error):
            wrong.append(f"nibabel says {type(error).__name__}: {error}")
    return wrong


def _known_to_refuse(error: Exception) -> bool:
    """What nibabel refuses and the standard allows: it reads extensions, quaternions and units more strictly."""
    return isinstance(error, (nib.spatialimages.HeaderDataError, nib.filebasedimages.ImageFileError))


def gzip_mutants(count: int, folder: Path, seed: int = 0) -> Figure:
    """Packed scans of which a bit was flipped, which were cut, or to which bytes were added."""
    figure = Figure("gzip_mutants", "every change of the payload refused, or the payload is as it was")
    rng = np.random.default_rng(seed)
    original, _ = base_scans()[0]
    whole = read_scan(_written(folder / "whole.nii.gz", gzip.compress(original, 6, mtime=0)))
    packed = (folder / "whole.nii.gz").read_bytes()
    accepted = 0
    for number in range(count):
        how = ("flip", "cut", "append")[number % 3]
        data = bytearray(packed)
        if how == "flip":
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        elif how == "cut":
            del data[int(rng.integers(len(data))) :]
        else:
            data += rng.bytes(int(rng.integers(1, 200))) if number % 2 else gzip.compress(rng.bytes(50))
        path = _written(folder / "mutant.nii.gz", bytes(data))
        figure.tried += 1
        try:
            scan = read_scan(path)
        except DataError:
            continue
        except Exception as error:
            figure.check(False, f"{how} {number}: {type(error).__name__}: {error}")
            continue
        accepted += 1
        same = np.array_equal(scan.voxels, whole.voxels) and np.array_equal(scan.affine, whole.affine)
        figure.check(same and _payload(bytes(data)) == original, f"{how} {number}: another payload was accepted")
    figure.facts = {"accepted_with_the_same_payload": accepted}
    return figure


def _payload(data: bytes) -> bytes:
    """What another reader of gzip makes of it."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return b""


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
