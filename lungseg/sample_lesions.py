"""Tumours of the phantom; what only looks like one is in :mod:`lungseg.sample_lookalikes`.

Sizes and places follow what is published of Task06_Lung: 0.3 to 60 ml, many at the wall, a vessel or the mediastinum;
some spiculated, some only part solid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .sample_anatomy import Anatomy
from .sample_shapes import Box, Field, Grid, lobulated, smooth_noise
from .sample_trees import Tubes, draw_tubes

SMALLEST_ML, LARGEST_ML = 0.3, 60.0
Where = Literal["wall", "mediastinum", "vessel", "free"]


@dataclass(frozen=True)
class Lesion:
    """A tumour to be drawn.

    Args:
        volume_ml: its volume.
        where: what it touches.
        solid: share of its radius that is solid; under 1 the rest is ground glass.
        spikes: number of spicules.
        lobes: how far its surface goes in and out, as a share of the radius.
        hu: of the solid part.
        hollow: whether it has an air-filled cavity.
    """

    volume_ml: float
    where: Where
    solid: float
    spikes: int
    lobes: float
    hu: float
    hollow: bool

    @property
    def radius_mm(self) -> float:
        return float(np.cbrt(self.volume_ml * 1000 * 3 / (4 * np.pi)))

    @classmethod
    def draw(cls, rng: np.random.Generator, rank: float, kind: float, contrast_hu: float) -> Lesion:
        """A tumour.

        Args:
            rng: for everything else.
            rank: its place among all tumours by size, in [0, 1).
            kind: its place among them by make-up, in [0, 1): under 0.09 part solid, from 0.05 to 0.45 spiculated.
            contrast_hu: what contrast medium adds in the aorta.
        """
        # Log-uniform but for the exponent, which lifts the median from 4 to 9 ml.
        volume = SMALLEST_ML * (LARGEST_ML / SMALLEST_ML) ** (rank**0.65)
        where: Where = rng.choice(["wall", "mediastinum", "vessel", "free"], p=[0.36, 0.24, 0.2, 0.2])
        solid = rng.uniform(0.6, 0.85) if kind < 0.09 else 1.0
        return cls(
            volume_ml=volume,
            where=where,
            solid=solid,
            spikes=int(rng.integers(9, 22)) if 0.05 <= kind < 0.45 else 0,
            lobes=rng.uniform(0.06, 0.2),
            hu=rng.uniform(22, 46) + 0.12 * contrast_hu,
            hollow=bool(solid == 1.0 and volume > 5 and rng.random() < 0.04),
        )


def draw_tumour(
    rng: np.random.Generator,
    volume_hu: Field,
    tumour: NDArray[np.uint8],
    lungs: NDArray[np.uint8],
    anatomy: Anatomy,
    grid: Grid,
    lesion: Lesion,
    branches: Tubes,
) -> None:
    """Draw one tumour into ``volume_hu`` and mark it in ``tumour``, both in place.

    Args:
        rng: for its place and shape.
        volume_hu: ``float32 [z, y, x]``, HU.
        tumour: ``uint8 [z, y, x]``, set to 1 where the tumour is.
        lungs: ``uint8 [z, y, x]``, 0 outside of the lungs; the tumour stays inside of one lung.
        anatomy: the patient.
        grid: of the three arrays.
        lesion: what to draw.
        branches: vessels that it may sit on.
    """
    radius = lesion.radius_mm
    centre = _centre(rng, anatomy, lesion, branches)
    reach = 2.2 * radius + 4
    box = grid.box_around(centre - reach, centre + reach)
    assert box is not None, "the centre lies in a lung"
    level, offsets = lobulated(rng, grid, box, centre, radius, lesion.lobes)
    here = lungs[box]
    side = int(lungs[tuple(min(int(part), n - 1) for part, n in zip(_index(grid, centre), grid.shape, strict=True))])
    inside = here == side if side else here > 0
    wanted = max(12, int(lesion.volume_ml * 1000 / np.prod(grid.spacing_mm)))
    reached = np.partition(level[inside], min(wanted, int(inside.sum()) - 1))[min(wanted, int(inside.sum()) - 1)]
    mask = inside & (level < reached)
    parts, count = ndimage.label(mask)
    if count > 1:  # a bump that the bending cut off
        mask = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    depth = reached - level  # mm under the surface, about
    texture = smooth_noise(rng, grid.window(level.shape), 5.0)
    hu = lesion.hu + 7 * texture
    if radius > 13:
        hu = hu - 16 * np.clip((depth - 0.5 * reached) / reached, 0, 1)  # less blood in the middle
    if lesion.hollow:
        hu = np.where(depth + 2 * texture > 0.55 * reached, -900, hu)
    if lesion.solid < 1:
        glass = depth < (1 - lesion.solid) * reached + 1.2 * texture
        hu = np.where(glass, np.clip(-330 + 90 * texture, -520, -150), hu)
    part = volume_hu[box]
    np.copyto(part, hu, where=mask)
    tumour[box][mask] = 1
    if lesion.spikes:
        _spikes(rng, volume_hu, grid, centre, offsets, mask, box, lesion.spikes, radius)


def _index(grid: Grid, point_mm: NDArray[np.floating]) -> list[float]:
    return [(p + e / 2) / s for p, e, s in zip(point_mm, grid.extent_mm, grid.spacing_mm, strict=True)]


def _centre(rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion, branches: Tubes) -> NDArray[np.floating]:
    """A point (z, y, x) mm of the lung that suits the lesion's place and size."""
    coarse, radius = anatomy.grid, lesion.radius_mm
    f = anatomy.fields
    depth = -np.minimum(f["lung_right"], f["lung_left"])
    wall = -f["cavity"]
    z, y, x = coarse.axes_mm()
    fits = (depth > 0.5) & (np.abs(z) < 0.36 * coarse.extent_mm[0]) & (f["floor"] < -0.5 * radius)
    if lesion.where == "wall":
        wish = np.abs(wall - 0.55 * radius) + np.maximum(wall - depth - 2.5, 0)
    elif lesion.where == "mediastinum":
        middle = np.maximum(np.abs(x) - 62, 0) + np.maximum(np.abs(y) - 45, 0)
        wish = np.abs(depth - 0.5 * radius) + middle + 0.3 * np.maximum(1.6 * radius + 8 - wall, 0)
    elif lesion.where == "vessel":
        thick = np.flatnonzero((branches.radius > 1.4) & (branches.radius < 4))
        spot = branches.start[rng.choice(thick)]
        wish = np.sqrt((z - spot[0]) ** 2 + (y - spot[1]) ** 2 + (x - spot[2]) ** 2) - 0.7 * radius
        wish = np.abs(wish) + np.maximum(0.8 * radius - depth, 0)
    else:
        wish = np.maximum(1.15 * radius + 3 - depth, 0)
    wish = np.where(fits, wish, np.inf).ravel()
    good = np.flatnonzero(wish <= max(float(wish.min()) + 0.5, 1.5))
    found = np.unravel_index(int(rng.choice(good)), depth.shape)
    return np.array([coarse.axis_mm(axis)[index] for axis, index in enumerate(found)], np.float32)


def _spikes(
    rng: np.random.Generator,
    volume_hu: Field,
    grid: Grid,
    centre: NDArray[np.floating],
    offsets: tuple[Field, Field, Field],
    mask: NDArray[np.bool_],
    box: Box,
    count: int,
    radius: float,
) -> None:
    """Thin strands from the surface outwards; they are no part of the label, as annotators leave them out."""
    ways = rng.standard_normal((count, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    long = rng.uniform(0.3, 0.8, count)[:, None] * radius + 4
    near, far = centre + ways * radius * 0.8, centre + ways * (radius + long)
    middle = (near + far) / 2 + rng.normal(0, 0.6, (count, 3))
    tubes = Tubes(
        np.concatenate([near, middle]).astype(np.float32),
        np.concatenate([middle, far]).astype(np.float32),
        np.concatenate([np.full(count, 0.9), np.full(count, 0.45)]).astype(np.float32),
    )
    draw_tubes(volume_hu, grid, tubes, -40.0)
