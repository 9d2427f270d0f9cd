"""From a patient's coarse fields to Hounsfield units at any resolution, and the noise of the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .sample_anatomy import Anatomy, Build
from .sample_shapes import Field, Grid, ramp, smooth_noise

Plane = NDArray[np.floating]
AIR_HU, FAT_HU, MUSCLE_HU = -1000.0, -102.0, 56.0  # usual values of CT at 120 kV


_SPREAD_MM = 5.0  # a structure is looked for this far outside of its coarse voxels: over one and a half of them


@dataclass(frozen=True)
class Layer:
    """One coat of paint: where ``field`` is under ``level_mm``, the tissue is ``hu``.

    Args:
        field: name of the field.
        level_mm: 0 is the surface, negative is inside.
        hu: mean HU.
        soft: how much of the soft tissue's texture is added.
    """

    field: str
    level_mm: float
    hu: float
    soft: float = 1.0


def layers(build: Build, rng: np.random.Generator) -> list[Layer]:
    """The coats from the skin inwards, without the lungs; later ones cover earlier ones."""
    contrast = build.contrast_hu
    phase = rng.uniform(0.2, 1.5)  # blood of the right heart against the aorta: early or late after the injection
    vein = 42 + contrast * phase * 0.7
    marrow = rng.uniform(90, 210)  # of spongy bone: high in the young
    coats = [
        Layer("body", 0, 20, 0),
        Layer("body", -1.8, FAT_HU),
        Layer("gland", 0, 5, 3),
        Layer("muscle", 0, MUSCLE_HU),
        Layer("cartilage", 0, 105),
        Layer("cavity", 0, FAT_HU + 8, 1.5),
        Layer("belly", 0, FAT_HU, 1.5),
        Layer("diaphragm", 0, 50),
        Layer("liver", 0, 58 + 0.22 * contrast),
        Layer("spleen", 0, 50 + 0.3 * contrast),
        Layer("kidney", 0, 35 + 0.5 * contrast),
        Layer("gut", 0, 38),
        Layer("gut_gas", 0, -920, 0),
        Layer("stomach", 0, 50),
        Layer("stomach", -3.5, rng.uniform(5, 60), 2),
        Layer("gas", 0, -970, 0),
        Layer("heart", 0, 40),
        Layer("heart", -2.0, FAT_HU, 1.5),
        Layer("myocardium", 0, 46 + 0.25 * contrast),
        Layer("gullet", 0, 40),
        Layer("blood_left", -0.4, 42 + contrast),
        Layer("blood_right", -0.4, 42 + contrast * phase),
        Layer("veins", -0.4, vein),
        Layer("disc", 0, 85),
        Layer("bone", 0.2, 520, 12),
        Layer("bone", -1.5, marrow, 6),
        Layer("canal", 0, 5),
        Layer("canal", -3, 34),
        Layer("airway", 1.6, 40),
    ]
    if rng.random() < 0.3:
        # Contrast medium that still runs in from the arm.
        coats.insert(-6, Layer("veins", -3, vein + 180, 3))
    return [coat for coat in coats if coat.field != "gland" or build.breast_mm]


def render(rng: np.random.Generator, anatomy: Anatomy, grid: Grid) -> tuple[Field, NDArray[np.uint8]]:
    """The patient on a table, without vessels in the lungs, lesions and noise.

    Returns:
        HU, ``float32 [z, y, x]`` on ``grid``; the lungs, ``uint8 [z, y, x]``: 1 right, 2 left, 0 elsewhere.
    """
    coarse = anatomy.grid
    fields = dict(anatomy.fields)
    fields["soft"] = 5 * smooth_noise(rng, coarse, 9) + 4 * smooth_noise(rng, coarse, 25)
    fields["tone"] = _lung_tone(rng, anatomy)
    coats = layers(anatomy.build, rng)
    table = _table(rng, anatomy, grid)
    grain = [_grain(rng, grid, 2.4) for _ in range(12)]
    volume = np.empty(grid.shape, np.float32)
    lungs = np.zeros(grid.shape, np.uint8)
    for index in range(grid.shape[0]):
        cut = _Cut(fields, grid, index)
        hu, texture = volume[index], grain[index % len(grain)]
        np.copyto(hu, table)
        soft = cut.plane("soft") + 4 * texture
        for coat in coats:
            box = cut.box(coat.field, coat.level_mm)
            if box:
                paint = coat.hu + coat.soft * soft[box]
                np.copyto(hu[box], paint, where=cut.plane(coat.field)[box] < coat.level_mm)
        for side, name in enumerate(("lung_right", "lung_left"), 1):
            box = cut.box(name, 0)
            if box:
                inside = cut.plane(name)[box] < 0
                crease = 130 * np.clip(1.1 - cut.plane("fissure")[box], 0, 1)
                np.copyto(hu[box], cut.plane("tone")[box] + 22 * texture[box] + crease, where=inside)
                np.copyto(lungs[index][box], side, where=inside)
        box = cut.box("airway", 0)
        if box:
            np.copyto(hu[box], -985.0, where=cut.plane("airway")[box] < 0)
    return volume, lungs


class _Cut:
    """All coarse fields in one slice of a finer grid, enlarged when they are asked for."""

    def __init__(self, fields: dict[str, Field], grid: Grid, index: int) -> None:
        self.fields = fields
        self.rows, self.columns = grid.shape[1:]
        count = len(fields["body"])
        depth = np.clip((index + 0.5) / grid.shape[0] * count - 0.5, 0, count - 1)
        self.lower = min(int(depth), count - 2)
        self.share = np.float32(depth - self.lower)
        self.small: dict[str, Plane] = {}
        self.large: dict[str, Plane] = {}

    def _coarse(self, name: str) -> Plane:
        if name not in self.small:
            below, above = self.fields[name][self.lower : self.lower + 2]
            self.small[name] = below + self.share * (above - below)
        return self.small[name]

    def plane(self, name: str) -> Plane:
        """The field, ``float32 [y, x]`` of the fine grid."""
        if name not in self.large:
            size = (self.columns, self.rows)
            self.large[name] = np.asarray(
                cv2.resize(self._coarse(name), size, interpolation=cv2.INTER_LINEAR), np.float32
            )
        return self.large[name]

    def box(self, name: str, level_mm: float) -> tuple[slice, slice] | None:
        """Where on the fine grid the field may be under ``level_mm``; None where it is nowhere."""
        coarse = self._coarse(name)
        near = coarse < level_mm + _SPREAD_MM
        parts = []
        for axis, count in enumerate((self.rows, self.columns)):
            hits = np.flatnonzero(near.any(axis=1 - axis))
            if not hits.size:
                return None
            ratio = count / coarse.shape[axis]
            parts.append(slice(max(0, int(hits[0] * ratio) - 1), min(count, int((hits[-1] + 1) * ratio) + 2)))
        return parts[0], parts[1]


def _lung_tone(rng: np.random.Generator, anatomy: Anatomy) -> Field:
    """HU of the lung's tissue: denser at the back, patchy, with the holes of emphysema in the upper lobes."""
    coarse = anatomy.grid
    z, y, _ = coarse.axes_mm()
    base = rng.uniform(-885, -825)
    dependent = rng.uniform(20, 75) * (-y / 80)
    lung = np.minimum(anatomy.fields["lung_right"], anatomy.fields["lung_left"])
    edge = 60 * np.exp(np.minimum(lung, 0) / 2.5) * ramp(-y, 10, 70)
    tone = base + dependent + edge + 12 * smooth_noise(rng, coarse, 40) + 9 * smooth_noise(rng, coarse, 11)
    if anatomy.build.emphysema:
        holes = smooth_noise(rng, coarse, 11) + 0.5 * smooth_noise(rng, coarse, 30) + 0.5 * ramp(z, -60, 90)
        depth = ramp(holes, 1.9 - 1.3 * anatomy.build.emphysema, 2.6 - 1.0 * anatomy.build.emphysema)
        tone = tone + depth * (-975 - tone) * 0.85
    return np.maximum(tone, -985).astype(np.float32)


def _table(rng: np.random.Generator, anatomy: Anatomy, grid: Grid) -> Plane:
    """Air and the table under the patient's back, the same in every slice, ``float32 [y, x]``."""
    body = (anatomy.fields["body"] < 0).any(axis=(0, 2))
    back = float(anatomy.grid.axis_mm(1)[np.argmax(body)])
    _, y, x = (axis[0] for axis in grid.axes_mm((slice(0, 1), slice(None), slice(None))))
    curved = rng.random() < 0.6
    top = back - 3 + (((x / rng.uniform(24, 36)) ** 2) if curved else 0 * x)
    plane = np.full(grid.shape[1:], AIR_HU, np.float32)
    depth = top - 8 - y
    inside = (np.abs(x) < 0.49 * grid.extent_mm[2]) & (depth > 0)
    np.copyto(plane, -930.0, where=inside & (depth < 26))
    np.copyto(plane, rng.uniform(-400, 150), where=inside & ((depth < 1.8) | (np.abs(depth - 25) < 1.2)))
    np.copyto(plane, -860.0, where=(y < top) & (depth < 0) & (np.abs(x) < 150))  # the mattress
    return plane


def _grain(rng: np.random.Generator, grid: Grid, length_mm: float) -> Plane:
    """A plane of fine texture of standard deviation 1 with grains ``length_mm`` wide, ``float32 [y, x]``."""
    plane = rng.standard_normal(grid.shape[1:], dtype=np.float32)
    plane[:] = cv2.GaussianBlur(plane, (0, 0), max(0.4, length_mm / 2.4 / grid.spacing_mm[2]))
    return plane / max(float(plane.std()), 1e-6)


def scan(rng: np.random.Generator, volume_hu: Field, grid: Grid, fold: int) -> NDArray[np.int16]:
    """What the scanner makes of the patient: thick slices, its blur and its noise.

    Args:
        rng: for the noise and the scanner's settings.
        volume_hu: ``float32 [z, y, x]`` on ``grid``; used up.
        grid: of the volume.
        fold: how many of its slices make one slice of the scan.

    Returns:
        ``int16 [z, y, x]``, HU in [-1024, 3071].
    """
    sharp = rng.uniform(0.3, 0.9)  # mm; from a sharp to a soft kernel
    # The volume was painted at the centres of its pixels; half a pixel of blur stands for the mean over each.
    sigma_px = float(np.hypot(0.5, sharp / grid.spacing_mm[2]))
    level = rng.uniform(8, 28)
    length = rng.uniform(1.2, 2.4)
    noise = [_grain(rng, grid, length) for _ in range(16)]
    _, y, x = grid.axes_mm((slice(0, 1), slice(None), slice(None)))
    centre = (0.55 + 0.6 * np.exp(-((x[0] / 110) ** 2 + (y[0] / 80) ** 2))).astype(np.float32)
    outside = x[0] ** 2 + y[0] ** 2 > (0.5 * min(grid.extent_mm[1:])) ** 2
    padding = -1024.0 if rng.random() < 0.4 else None
    out = np.empty((grid.shape[0] // fold, *grid.shape[1:]), np.int16)
    heights = grid.axis_mm(0).reshape(-1, fold).mean(axis=1)
    for index, height in enumerate(heights):
        plane = volume_hu[index * fold] if fold == 1 else volume_hu[index * fold : (index + 1) * fold].mean(axis=0)
        plane = cv2.GaussianBlur(plane, (0, 0), sigma_px)
        grain = noise[int(rng.integers(len(noise)))]
        grain = np.roll(grain, tuple(rng.integers(0, grid.shape[1:])), (0, 1))
        streak = float(ramp(np.array(height, np.float32), 70, 125))
        if streak:
            # Few photons come through both shoulders: noise drawn out from side to side.
            grain = grain + streak * 1.6 * cv2.GaussianBlur(grain, (0, 0), 9 / grid.spacing_mm[2], sigmaY=0.5)
        plane += level * centre * grain
        if padding is not None:
            np.copyto(plane, padding, where=outside)
        np.clip(np.rint(plane), -1024, 3071, out=plane)
        out[index] = plane
    return out
