"""No evaluated patient may be one that was trained on, under whatever name: by the scan's file, and by its pictures.

Pictures: every slice is brought to 32 x 32 means of HU, and two slices count as the same where those differ by less
than 50 HU (root of the mean square).  Measured on 2026-11-21, whole scans against themselves after noise of 30 HU, JPEG
at quality 30, another scale of HU (2 %, 20 HU), or slices of two or three times the thickness: 6 to 31 HU for the
middle slice of the worst patient.  Slices of different patients: 161 HU and more between 46 patients of Task06_Lung, 81
and more between 12 phantoms.  A copy that was moved or stretched by a few pixels (70 HU and more) is not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from .case_record import image_name
from .config import HU_MAX
from .errors import DataError, LungsegError, Problem
from .manifest import Manifest
from .slice_file import read_slice
from .splits import Split

STAGE = "evaluate"
SIDE: Final = 32  # rows and columns of a fingerprint
NEAR_HU: Final = 50.0
LEAST_SHARE: Final = 0.2  # of a patient's slices that have to be near those of one other patient
MOST_SLICES: Final = 128  # of a patient that are looked at, evenly through the scan
_RANGE_HU: Final = (-1000.0, 400.0)  # air to soft tissue: bone and metal would drown the rest
_FLAT_HU: Final = 100.0  # standard deviation below which a slice shows nothing to tell patients apart by
_MEND = "Take one of the two out of the data and train again: a patient seen in training must not be scored."


def check_unseen(manifest: Manifest, split: Split) -> None:
    """Refuse a split in which a held-out patient is one that decides the weights.

    Args:
        manifest: the preprocessed folder.
        split: who was trained on, who chose the checkpoint, who is held out.

    Raises:
        DataError: there are such patients; all are named.
        IntegrityError: a slice of a patient that was trained on is damaged.
    """
    leaks = []
    for case in split.held_out:
        source = str(manifest.record(case).source.get("image_hash"))
        found = _leak(case, source, case_fingerprint(manifest, case, damaged_too=True), manifest, split)
        leaks += [found] if found is not None else []
    if leaks:
        raise DataError(_together(leaks), STAGE)


def check_scan_unseen(
    case: str, image_hash: str, images: Iterable[np.ndarray], manifest: Manifest, split: Split
) -> None:
    """The same for one scan that was read anew.

    Args:
        case: its name.
        image_hash: of its file, as in the manifest.
        images: some of its slices, as :func:`fingerprint` takes them.
        manifest: the preprocessed folder of the run.
        split: of the run.

    Raises:
        DataError: it is a scan that decided the weights.
    """
    found = _leak(case, image_hash, fingerprint(images), manifest, split)
    if found is not None:
        raise DataError(found, STAGE)


def check_other_files(manifest: Manifest, split: Split) -> None:
    """Refuse a split in which a held-out patient has the very file of one that decides the weights; nothing is read.

    Raises:
        DataError: there are such patients; all are named.
    """
    leaks = []
    for case in split.held_out:
        found = _same_file(case, str(manifest.record(case).source.get("image_hash")), manifest, split)
        leaks += [found] if found is not None else []
    if leaks:
        raise DataError(_together(leaks))


def _same_file(case: str, image_hash: str, manifest: Manifest, split: Split) -> Problem | None:
    """Whom of those that decide the weights the patient is by its file; None for nobody."""
    for name in (*split.train, *split.inner_val):
        if image_hash and name in manifest.cases and manifest.cases[name].source.get("image_hash") == image_hash:
            return Problem("leak", f"is the same scan as {name}, which was trained on", mend=_MEND, case=case)
    return None


def _leak(case: str, image_hash: str, prints: np.ndarray, manifest: Manifest, split: Split) -> Problem | None:
    """Whom of those that decided the weights the patient is: by its file, else by its pictures; None for nobody."""
    same = _same_file(case, image_hash, manifest, split)
    if same is not None:
        return same
    trained = [name for name in (*split.train, *split.inner_val) if name in manifest.cases]
    alike = look_alike(prints, {name: case_fingerprint(manifest, name) for name in trained})
    if alike is None:
        return None
    seen, near, count = alike
    what = f"shows the same pictures as {seen}, which was trained on"
    return Problem("leak", what, "another patient", f"{near} of {count} slices nearly identical", _MEND, case=case)


def fingerprint(images: Iterable[np.ndarray]) -> np.ndarray:
    """What is compared of slices.

    Args:
        images: float16 [size, size] each, HU / 3071, as ``slicing.slice_image`` makes them.

    Returns:
        float32 [n, 1024], HU; slices that show nearly nothing are left out.
    """
    prints = [
        cv2.resize(
            np.clip(np.asarray(image, np.float32) * HU_MAX, *_RANGE_HU), (SIDE, SIDE), interpolation=cv2.INTER_AREA
        )
        for image in images
    ]
    shown = [one.ravel() for one in prints if one.std() >= _FLAT_HU]
    return np.stack(shown) if shown else np.zeros((0, SIDE * SIDE), np.float32)


def case_fingerprint(manifest: Manifest, case: str, *, damaged_too: bool = False) -> np.ndarray:
    """:func:`fingerprint` of a preprocessed case; worked out once a process.

    Args:
        manifest: the preprocessed folder.
        case: name of the patient.
        damaged_too: pass over slices that can not be read; scoring the patient will name them.
    """
    record = manifest.record(case)
    files = tuple((image_name(z), record.hashes[image_name(z)]) for z in evenly(record.slices))
    return _read(manifest.root / case, files, manifest.config.size, damaged_too)


def evenly(slices: Sequence[int]) -> list[int]:
    """Of many slices as many as are looked at."""
    count = min(MOST_SLICES, len(slices))
    return [slices[round(i)] for i in np.linspace(0, len(slices) - 1, count)] if count else []


def look_alike(prints: np.ndarray, known: dict[str, np.ndarray]) -> tuple[str, int, int] | None:
    """The patient, if there is one, that shows what these slices show.

    Args:
        prints: fingerprints of the patient in question, [n, 1024].
        known: those of others, by name.

    Returns:
        Its name, how many of the n slices are near one of its own, and n; None where nobody reaches the least share.
    """
    shown = {name: others for name, others in known.items() if len(others)}
    if not len(prints) or not shown:
        return None
    # All of them at once: one large product takes a fraction of the time of many small ones.
    others = np.concatenate(list(shown.values()))
    squares = np.square(prints).sum(1)[:, None] + np.square(others).sum(1)[None] - 2.0 * prints @ others.T
    starts = np.cumsum([0, *map(len, shown.values())])[:-1]
    nearest = np.minimum.reduceat(squares, starts, axis=1)
    near = np.count_nonzero(nearest < NEAR_HU**2 * SIDE * SIDE, axis=0)
    best = int(near.argmax())
    return (list(shown)[best], int(near[best]), len(prints)) if near[best] >= LEAST_SHARE * len(prints) else None


def _together(leaks: list[Problem]) -> Problem:
    """One problem that names them all."""
    first, *others = leaks
    if not others:
        return first
    more = "; ".join(f"{leak.case} {leak.what}" for leak in others)
    return Problem(first.code, f"{first.what}; {more}", first.expected, first.found, _MEND, case=first.case)


@lru_cache(maxsize=1024)
def _read(folder: Path, files: tuple[tuple[str, str], ...], size: int, damaged_too: bool) -> np.ndarray:
    def images() -> Iterable[np.ndarray]:
        for name, hash_ in files:
            try:
                yield read_slice(folder / name, np.float16, size, hash_)
            except LungsegError:
                if not damaged_too:
                    raise

    return fingerprint(images())
