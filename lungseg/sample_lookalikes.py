"""Harmless things in the phantom's lungs that look like tumours, so that a threshold does not find the tumours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .sample_anatomy import Anatomy
from .sample_shapes import Field, Grid


def draw_distractors(
    rng: np.random.Generator,
    volume_hu: Field,
    lungs: NDArray[np.uint8],
    anatomy: Anatomy,
    grid: Grid,
    flesh_hu: float,
) -> None:
    """Draw what a threshold takes for a tumour, in place: calcified granulomas, nodes, scars, plaques."""
    f, coarse = anatomy.fields, anatomy.grid
    depth = -np.minimum(f["lung_right"], f["lung_left"])
    z, y, x = coarse.axes_mm()

    def spot(fits: NDArray[np.bool_]) -> NDArray[np.floating]:
        inside = np.argwhere(np.broadcast_to(fits, depth.shape))
        index = inside[rng.integers(len(inside))]
        return np.array([coarse.axis_mm(axis)[i] for axis, i in enumerate(index)], np.float32)

    for _ in range(int(rng.integers(0, 4))):
        _blob(rng, volume_hu, lungs, grid, spot(depth > 4), rng.uniform(1.2, 3.2), rng.uniform(250, 900))
    central = (np.abs(x) < 50) & (np.abs(y + 4) < 34) & (np.abs(z - 14) < 40)
    for _ in range(int(rng.integers(4, 9))):
        size = rng.uniform(4, 9)
        _blob(rng, volume_hu, lungs, grid, spot(central & (np.abs(depth) < 5)), size, flesh_hu, flat=0.6, anywhere=True)
    for _ in range(int(rng.integers(1, 4))):
        low = (depth > 2) & (z < 10) & (depth < 25)
        _sheet(rng, volume_hu, lungs, grid, spot(low), rng.uniform(1.2, 2.6), rng.uniform(16, 38))
    for _ in range(int(rng.integers(1, 5))):
        at_wall = (depth > 0) & (depth < 3) & (f["cavity"] > -5)
        _plaque(volume_hu, lungs, anatomy, grid, spot(at_wall), rng.uniform(3, 6.5), rng.uniform(14, 34), flesh_hu)


def _blob(
    rng: np.random.Generator,
    volume_hu: Field,
    lungs: NDArray[np.uint8],
    grid: Grid,
    centre: NDArray[np.floating],
    radius: float,
    hu: float,
    flat: float = 1.0,
    anywhere: bool = False,
) -> None:
    box = grid.box_around(centre - 2 * radius, centre + 2 * radius)
    if box is None:
        return
    z, y, x = (axis - middle for axis, middle in zip(grid.axes_mm(box), centre, strict=True))
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    mask = u * u + (v / flat) ** 2 + (z / 1.2) ** 2 < radius * radius
    part = volume_hu[box]
    # A node lies in fat or lung and must not dim bone, contrast or a bronchus.
    mask &= (part < 0) & (part > -970) if anywhere else lungs[box] > 0
    np.copyto(part, np.float32(hu), where=mask)


def _sheet(
    rng: np.random.Generator,
    volume_hu: Field,
    lungs: NDArray[np.uint8],
    grid: Grid,
    centre: NDArray[np.floating],
    thick: float,
    wide: float,
) -> None:
    """A band of collapsed lung: a thin, bent plate."""
    box = grid.box_around(centre - wide, centre + wide)
    if box is None:
        return
    z, y, x = (axis - middle for axis, middle in zip(grid.axes_mm(box), centre, strict=True))
    normal = rng.normal(0, 1, 3) * (1.6, 0.7, 0.5)
    normal /= np.linalg.norm(normal)
    across = z * normal[0] + y * normal[1] + x * normal[2] + 2.5 * np.sin((x + y) / 17)
    away = np.sqrt(z * z + y * y + x * x)
    cover = np.clip(thick * (1 - (away / wide) ** 2) - np.abs(across) + 0.5, 0, 1)
    part = volume_hu[box]
    np.copyto(part, part + cover.astype(np.float32) * (-20 - part), where=(lungs[box] > 0) & (cover > 0) & (part < -20))


def _plaque(
    volume_hu: Field,
    lungs: NDArray[np.uint8],
    anatomy: Anatomy,
    grid: Grid,
    centre: NDArray[np.floating],
    thick: float,
    wide: float,
    hu: float,
) -> None:
    """Thickened pleura: a lens on the inside of the chest wall."""
    box = grid.box_around(centre - wide, centre + wide)
    if box is None:
        return
    points = grid.axes_mm(box)
    z, y, x = (axis - middle for axis, middle in zip(points, centre, strict=True))
    inward = -anatomy.grid.read(anatomy.fields["cavity"], points)
    reach = 1.0 + thick * (1 - (z * z + y * y + x * x) / (wide * wide))
    np.copyto(volume_hu[box], np.float32(hu), where=(lungs[box] > 0) & (inward < reach) & (reach > 1.0))
