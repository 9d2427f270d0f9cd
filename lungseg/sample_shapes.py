"""Geometry that the phantom is made of: a grid in millimetres, smooth noise, distances, and how fields are combined.

A *field* is a ``float32 [z, y, x]`` array of signed distances in millimetres, negative inside of the structure.  Fields
are computed on a coarse grid and read at any resolution, because a distance varies smoothly where a mask does not.
Millimetres count from the centre of the field of view: x to the patient's left, y to the front, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.floating]
Points = tuple[Field, Field, Field]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centres of an array ``[z, y, x]``.

    Args:
        shape: voxels along z, y, x.
        extent_mm: length of the field of view along z, y, x, the same for all grids of one patient.
    """

    shape: tuple[int, int, int]
    extent_mm: tuple[float, float, float]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        z, y, x = (length / count for length, count in zip(self.extent_mm, self.shape, strict=True))
        return z, y, x

    def axis_mm(self, axis: int, part: slice = slice(None)) -> NDArray[np.floating]:
        """Centres along ``axis`` in millimetres, ``float32``; ``part`` takes some of them."""
        count, spacing = self.shape[axis], self.spacing_mm[axis]
        start, stop, _ = part.indices(count)
        return ((np.arange(start, stop) + 0.5) * spacing - self.extent_mm[axis] / 2).astype(np.float32)

    def axes_mm(self, box: Box = (slice(None),) * 3) -> Points:
        """Open mesh (Z, Y, X) of the centres in ``box``."""
        z, y, x = (self.axis_mm(axis, part) for axis, part in enumerate(box))
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def box_around(self, low_mm: NDArray[np.floating], high_mm: NDArray[np.floating]) -> Box | None:
        """The voxels whose centres lie between two corners (z, y, x); None where there are none."""
        parts = []
        for axis in range(3):
            spacing, half = self.spacing_mm[axis], self.extent_mm[axis] / 2
            start = max(0, int(np.ceil((low_mm[axis] + half) / spacing - 0.5)))
            stop = min(self.shape[axis], int(np.floor((high_mm[axis] + half) / spacing - 0.5)) + 1)
            if start >= stop:
                return None
            parts.append(slice(start, stop))
        return parts[0], parts[1], parts[2]

    def window(self, shape: tuple[int, ...]) -> Grid:
        """A grid of ``shape`` with this one's voxel size."""
        z, y, x = (count * spacing for count, spacing in zip(shape, self.spacing_mm, strict=True))
        return Grid((shape[0], shape[1], shape[2]), (z, y, x))

    def read(self, field: Field, points_mm: Points, order: int = 1) -> Field:
        """``field``, which lies on this grid, at the points of an open mesh (Z, Y, X) in millimetres."""
        where = [
            (points + half / 2) / spacing - 0.5
            for points, half, spacing in zip(points_mm, self.extent_mm, self.spacing_mm, strict=True)
        ]
        return ndimage.map_coordinates(field, np.broadcast_arrays(*where), order=order, mode="nearest")


def smooth_noise(rng: np.random.Generator, grid: Grid, length_mm: float) -> Field:
    """Noise of mean 0 and standard deviation about 1 that varies over ``length_mm``, ``float32 [z, y, x]``."""
    knots = [max(4, int(extent / length_mm) + 3) for extent in grid.extent_mm]
    values = rng.standard_normal(knots).astype(np.float32)
    _, rows, columns = grid.shape
    planes = np.stack([cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_CUBIC) for plane in values])
    smooth = np.empty(grid.shape, np.float32)
    for row in range(rows):
        smooth[:, row] = cv2.resize(planes[:, row], (columns, grid.shape[0]), interpolation=cv2.INTER_CUBIC)
    # Interpolation between knots lowers the spread.
    return smooth / max(float(smooth.std()), 1e-6)


def union(*fields: Field, round_mm: float = 0.0) -> Field:
    """Where any field is inside; corners rounded over ``round_mm`` (polynomial smooth minimum of Inigo Quilez)."""
    result = fields[0].copy()
    for field in fields[1:]:
        if round_mm:
            blend = np.subtract(result, field)
            np.abs(blend, out=blend)
            np.subtract(round_mm, blend, out=blend)
            np.maximum(blend, 0, out=blend)
            np.multiply(blend, blend, out=blend)
            blend *= 0.25 / round_mm
        np.minimum(result, field, out=result)
        if round_mm:
            result -= blend
    return result


def overlap(*fields: Field, round_mm: float = 0.0) -> Field:
    """Where all fields are inside; corners rounded over ``round_mm``."""
    return -union(*(-field for field in fields), round_mm=round_mm)


def ramp(values: NDArray[np.floating], start: float, stop: float) -> NDArray[np.floating]:
    """0 before ``start``, 1 after ``stop`` and a smooth step between (3 t^2 - 2 t^3)."""
    t = np.clip((values - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


FAR_MM = 99.0  # what a field holds where a structure is too far to matter


def near(points_mm: Points, low_mm: NDArray[np.floating], high_mm: NDArray[np.floating], margin_mm: float) -> Box:
    """The part of a field that a structure between two corners (x, y, z) can matter in.

    ``points_mm`` may be bent by some millimetres, so the corners are looked up on its middle lines and the margin must
    be wider than the bend.
    """
    parts = []
    for axis, points in enumerate(points_mm):
        line = points[tuple(slice(None) if i == axis else count // 2 for i, count in enumerate(points.shape))]
        inside = np.flatnonzero((line > low_mm[2 - axis] - margin_mm) & (line < high_mm[2 - axis] + margin_mm))
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
    return parts[0], parts[1], parts[2]


def ellipsoid(
    points_mm: Points,
    centre_mm: tuple[float, float, float],
    axes_mm: tuple[float, float, float],
    turn_deg: float = 0.0,
) -> Field:
    """Distance to an ellipsoid, about right near its surface.

    Args:
        points_mm: Z, Y, X.
        centre_mm: (x, y, z).
        axes_mm: half axes (x, y, z) before turning.
        turn_deg: turn about z, from the patient's left to the front.
    """
    cosine, sine = np.float32(np.cos(np.radians(turn_deg))), np.float32(np.sin(np.radians(turn_deg)))
    (z, y, x), (ax, ay, az) = points_mm, (np.float32(axis) for axis in axes_mm)
    dx, dy, dz = (axis - np.float32(middle) for axis, middle in zip((x, y, z), centre_mm, strict=True))
    u, v = (cosine * dx + sine * dy) / ax, (cosine * dy - sine * dx) / ay
    dz /= az
    return (np.sqrt(u * u + v * v + dz * dz) - 1) * np.cbrt(ax * ay * az)


def tube(points_mm: Points, path: NDArray[np.floating], margin_mm: float = 24.0) -> Field:
    """Distance to a tube along a polyline whose radius changes from knot to knot; ``FAR_MM`` beyond ``margin_mm``.

    Args:
        points_mm: Z, Y, X.
        path: ``[knots, 4]``: x, y, z, radius, all mm.
        margin_mm: how far from a piece it is computed.
    """
    result = np.full(points_mm[0].shape, FAR_MM, np.float32)
    for start, stop in zip(path[:-1].astype(np.float32), path[1:].astype(np.float32), strict=True):
        reach = margin_mm + max(start[3], stop[3])
        box = near(points_mm, np.minimum(start, stop), np.maximum(start, stop), reach)
        z, y, x = (points[box] for points in points_mm)
        way = stop[:3] - start[:3]
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        share = dx * way[0] + dy * way[1] + dz * way[2]
        share = np.clip(share / max(float(way @ way), 1e-6), 0, 1)
        dx -= share * way[0]
        dy -= share * way[1]
        dz -= share * way[2]
        gap = np.sqrt(dx * dx + dy * dy + dz * dz) - (start[3] + share * (stop[3] - start[3]))
        np.minimum(result[box], gap, out=result[box])
    return result


def curve(knots: list[tuple[float, float, float, float]], pieces: int = 4) -> NDArray[np.floating]:
    """Knots (x, y, z, radius) joined by a Catmull-Rom spline, ``float32 [knots, 4]``."""
    given = np.array([knots[0], *knots, knots[-1]], np.float32)
    t = np.linspace(0, 1, pieces, endpoint=False, dtype=np.float32)[:, None]
    parts = []
    for p0, p1, p2, p3 in zip(given[:-3], given[1:-2], given[2:-1], given[3:], strict=True):
        bend = (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
        parts.append(0.5 * (2 * p1 + (p2 - p0) * t + bend))
    return np.concatenate([*parts, given[-1:]])


def lobulated(
    rng: np.random.Generator, grid: Grid, box: Box, centre: NDArray[np.floating], radius_mm: float, lobes: float
) -> tuple[Field, tuple[Field, Field, Field]]:
    """Distance from a centre, bent so that its level sets are lobulated ellipsoids.

    Args:
        rng: for the shape.
        grid: of the volume.
        box: the voxels wanted.
        centre: (z, y, x) mm.
        radius_mm: of the level set that matters; bumps are sized after it.
        lobes: how far the surface goes in and out, as a share of the radius.

    Returns:
        The distance, ``float32 [z, y, x]``, and the plain offsets (Z, Y, X) from the centre, mm.
    """
    z, y, x = grid.axes_mm(box)
    offsets = (z - centre[0], y - centre[1], x - centre[2])
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    stretch = rng.uniform(0.8, 1.25, 3).astype(np.float32)
    stretch /= np.cbrt(np.prod(stretch))
    square = sum(
        ((row[0] * offsets[0] + row[1] * offsets[1] + row[2] * offsets[2]) / size) ** 2
        for row, size in zip(turn, stretch, strict=True)
    )
    window = grid.window((box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start))
    bumps = smooth_noise(rng, window, max(3.0, 0.75 * radius_mm)) + 0.35 * smooth_noise(
        rng, window, max(2.0, 0.3 * radius_mm)
    )
    return (np.sqrt(square) * (1 - lobes * np.clip(bumps, -2.5, 2.5))).astype(np.float32), offsets
