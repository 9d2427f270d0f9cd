"""Branching vessels and airways of the phantom's lungs, and how thin tubes are drawn.

The trees fill the lung as real ones do: the points to be served are split in two by the plane across their longest
direction, and a branch runs a part of the way to the middle of each half, again and again (after Tawhai et al., J Appl
Physiol 97, 2004).  A parent's radius follows from its children's by Murray's law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sample_shapes import Field, Grid

MURRAY = 2.9  # exponent between parent and children; 3 for laminar flow, less in measured lungs
_STEP_MM = 7.0  # branches are drawn in pieces of this length, so that they can bend


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of tubes.

    Args:
        start, stop: ``float32 [n, 3]``, (z, y, x) mm.
        radius: ``float32 [n]``, mm.
    """

    start: NDArray[np.floating]
    stop: NDArray[np.floating]
    radius: NDArray[np.floating]


def grow(
    rng: np.random.Generator, root_mm: NDArray[np.floating], ends_mm: NDArray[np.floating], tip_mm: float
) -> Tubes:
    """A tree from ``root_mm`` to each of ``ends_mm``.

    Args:
        rng: for the lengths of branches and their bends.
        root_mm: ``[3]``, (z, y, x).
        ends_mm: ``[n, 3]``.
        tip_mm: radius of the last branches.
    """
    pieces: list[tuple[NDArray[np.floating], NDArray[np.floating], float]] = []

    def branch(start: NDArray[np.floating], ends: NDArray[np.floating]) -> float:
        middle = ends.mean(axis=0)
        if len(ends) == 1:
            pieces.append((start, middle, tip_mm))
            return tip_mm**MURRAY
        stop = start + rng.uniform(0.3, 0.5) * (middle - start)
        away = ends - middle
        # Of two points the longest direction is the line through them; half of all branches are such, so it pays.
        across = away[1] if len(ends) == 2 else np.linalg.eigh(away.T @ away)[1][:, -1]
        order = np.argsort(away @ across)
        cut = min(len(ends) - 1, max(1, round(len(ends) * rng.uniform(0.3, 0.7))))
        flow = branch(stop, ends[order[:cut]]) + branch(stop, ends[order[cut:]])
        pieces.append((start, stop, flow ** (1 / MURRAY)))
        return flow

    branch(np.asarray(root_mm, float), np.asarray(ends_mm, float))
    return _bend(rng, pieces)


def _bend(rng: np.random.Generator, pieces: list[tuple[NDArray[np.floating], NDArray[np.floating], float]]) -> Tubes:
    """Cut each piece into short ones along a slight arc."""
    starts, stops = (np.array([piece[end] for piece in pieces]) for end in (0, 1))
    lengths = np.linalg.norm(stops - starts, axis=1)
    counts = np.maximum(1, np.rint(lengths / _STEP_MM)).astype(int)
    arcs = rng.normal(0, 0.05, starts.shape) * lengths[:, None]
    which = np.repeat(np.arange(len(pieces)), counts)
    step = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)

    def at(number: NDArray[np.integer]) -> NDArray[np.floating]:
        share = (number / counts[which])[:, None]
        points = starts[which] + share * (stops - starts)[which] + np.sin(np.pi * share) * arcs[which]
        return points.astype(np.float32)

    radii = np.array([piece[2] for piece in pieces], np.float32)
    return Tubes(at(step), at(step + 1), radii[which])


def draw_tubes(
    volume_hu: Field, grid: Grid, tubes: Tubes, value_hu: float, *, darker: bool = False, wall_mm: float = 0.0
) -> None:
    """Draw tubes into ``volume_hu`` in place, brighter than what is there (or darker).

    A tube thinner than a voxel is drawn fainter, as the partial volume effect does.

    Args:
        volume_hu: ``float32 [z, y, x]`` on ``grid``, HU.
        grid: of the volume.
        tubes: what to draw.
        value_hu: HU inside of the tubes.
        darker: take the minimum with what is there: air in an airway.
        wall_mm: added to each radius.
    """
    pixel = max(grid.spacing_mm[1:])
    axes = [grid.axis_mm(axis) for axis in range(3)]
    radii = (tubes.radius + np.float32(wall_mm)).tolist()
    faint = np.minimum(1.0, 2.2 * np.array(radii) / pixel).tolist()
    ways = tubes.stop - tubes.start
    # 1 / length^2, so that the share along the piece is one product.
    shares = ways / np.maximum((ways**2).sum(axis=1, keepdims=True), 1e-6)
    reach = (tubes.radius + wall_mm + 0.75 * pixel)[:, None]
    size, half = np.array(grid.spacing_mm), np.array(grid.extent_mm) / 2
    low = np.ceil((np.minimum(tubes.start, tubes.stop) - reach + half) / size - 0.5).astype(int)
    high = np.floor((np.maximum(tubes.start, tubes.stop) + reach + half) / size - 0.5).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, grid.shape)
    for piece in np.flatnonzero((low < high).all(axis=1)):
        (z0, y0, x0), (z1, y1, x1) = low[piece].tolist(), high[piece].tolist()
        start, way, share_of = tubes.start[piece], ways[piece], shares[piece]
        dz = (axes[0][z0:z1] - start[0])[:, None, None]
        dy = (axes[1][y0:y1] - start[1])[:, None]
        dx = axes[2][x0:x1] - start[2]
        share = dz * share_of[0] + dy * share_of[1] + dx * share_of[2]
        np.maximum(share, 0, out=share)
        np.minimum(share, 1, out=share)
        square = (dz - share * way[0]) ** 2
        square += (dy - share * way[1]) ** 2
        square += (dx - share * way[2]) ** 2
        cover = (0.5 + radii[piece] / pixel) - np.sqrt(square) / pixel
        np.maximum(cover, 0, out=cover)
        np.minimum(cover, 1, out=cover)
        here = volume_hu[z0:z1, y0:y1, x0:x1]
        mixed = here + cover * faint[piece] * (value_hu - here)
        (np.minimum if darker else np.maximum)(here, mixed, out=here)
