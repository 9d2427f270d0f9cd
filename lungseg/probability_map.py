"""A patient's probabilities on the scan's own grid, small enough to keep: what thresholds are chosen on.

A probability is kept as one of 256 levels, ``ceil(256 p) - 1``, so that ``p > j / 256`` is the same as ``level >= j``:
at every threshold that is a multiple of 1/256 the kept map gives the very mask that the network gave.  Probabilities
under 1/64 are kept as 0.  Only the box that holds something is written, deflated; a scan of 512 x 512 x 300 takes some
hundred kilobytes where the network finds a few spots, and 78 MB in memory.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .components import bounding_box
from .digests import seal
from .errors import DataError, LungsegError
from .files import atomic_write
from .geometry import SliceGrid, slice_to_las
from .records import read_json, write_json

LEVELS = 256
LEAST = 4  # levels below are kept as 0


def levels_of(probability: np.ndarray) -> np.ndarray:
    """Levels of probabilities: ``uint8`` of the same shape from floats of 0 to 1."""
    levels = np.clip(np.ceil(probability * LEVELS) - 1, 0, LEVELS - 1).astype(np.uint8)
    levels[levels < LEAST] = 0
    return levels


def level_above(threshold: float) -> int:
    """The lowest level that is above a threshold.

    Args:
        threshold: a multiple of 1/256 from 1/64 to below 1.

    Raises:
        ValueError: the threshold is none of those that a map answers exactly.
    """
    level = threshold * LEVELS
    if level != int(level) or not LEAST <= level < LEVELS:
        raise ValueError(f"{threshold} is no multiple of 1/256 from 1/64 to below 1")
    return int(level)


class MapVolume:
    """The map of one scan, filled slice by slice; what is never filled is no tumour.

    Args:
        las_shape: voxels along left, front, head.
        grid: the step between the scan's own pictures and slices.

    Attributes:
        levels: ``uint8 [L, A, S]``.
    """

    def __init__(self, las_shape: tuple[int, ...], grid: SliceGrid) -> None:
        self.levels = np.zeros(las_shape, np.uint8, order="F")
        self._grid = grid

    def put(self, z: int, probability: np.ndarray) -> None:
        """Take the network's answer for slice ``z``: ``float32 [size, size]``, 0 to 1."""
        self.levels[:, :, z] = levels_of(slice_to_las(self._grid.grow(probability)))


def write_map(folder: Path, case: str, levels: np.ndarray, facts: dict[str, Any], sums: dict[str, Any]) -> None:
    """Write ``<case>.npz``, and last ``<case>.json``.

    Args:
        folder: where; it is there.
        case: name of the patient.
        levels: the map, ``uint8 [L, A, S]``.
        facts: what it was made from; plain values.
        sums: what else was counted on the way; plain values.
    """
    box = bounding_box(levels)
    inside = np.zeros((0, 0, 0), np.uint8) if box is None else levels[box]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, levels=np.asfortranarray(inside))
    data = buffer.getbuffer()
    atomic_write(folder / f"{case}.npz", data)
    ends = None if box is None else [[part.start, part.stop] for part in box]
    record = {"facts": facts, "shape": list(levels.shape), "box": ends, "sums": sums}
    write_json(folder / f"{case}.json", {**record, "seal": seal(record, data)}, durable=False)


def read_map(folder: Path, case: str, facts: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The map that stands there whole and was made from the same, and its sums; None where there is none such."""
    try:
        record = read_json(folder / f"{case}.json", error=DataError)
        data = (folder / f"{case}.npz").read_bytes()
        if record.pop("seal") != seal(record, data) or record["facts"] != facts:
            return None
        levels = np.zeros(tuple(record["shape"]), np.uint8, order="F")
        if record["box"] is not None:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                levels[tuple(slice(*ends) for ends in record["box"])] = stored["levels"]
        return levels, dict(record["sums"])
    except (LungsegError, OSError, AttributeError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        return None
