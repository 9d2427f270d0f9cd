"""The patient behind a phantom: body, bones, lungs, mediastinum and upper abdomen as coarse signed distance fields.

Sizes are those of an adult in millimetres, rounded from anatomy textbooks; nothing here is taken from a patient's scan.
The x axis grows to the patient's left, so the heart lies at x > 0 and the liver at x < 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sample_shapes import Field, Grid, Points, curve, ellipsoid, overlap, ramp, smooth_noise, tube, union

COARSE = (90, 112, 112)  # about 3.2 mm: finer than half of the thinnest field, a scapula


@dataclass(frozen=True)
class Build:
    """What differs from patient to patient.

    Args:
        scale: size of the whole body against the standard one.
        fat_mm: thickness of the fat under the skin.
        depth: front to back against the standard body.
        breast_mm: how far breasts stand out; 0 for none.
        dome_mm: how far the diaphragm stands above its usual height (shallow breath).
        contrast_hu: what contrast medium adds in the aorta; 0 without.
        emphysema: share of emphysema, 0 to 1.
        spine_mm: sideways bend of the spine at its apex.
    """

    scale: float
    fat_mm: float
    depth: float
    breast_mm: float
    dome_mm: float
    contrast_hu: float
    emphysema: float
    spine_mm: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Build:
        """A patient of the kind that lung cancer series hold."""
        return cls(
            scale=rng.uniform(0.92, 1.04),
            fat_mm=rng.gamma(4.0, 2.6) + 4,
            depth=rng.uniform(0.92, 1.1),
            breast_mm=rng.uniform(4, 20) if rng.random() < 0.4 else 0.0,
            dome_mm=rng.uniform(-8, 16),
            contrast_hu=rng.uniform(60, 240) if rng.random() < 0.6 else 0.0,
            emphysema=rng.uniform(0.2, 1.0) if rng.random() < 0.35 else 0.0,
            spine_mm=rng.uniform(-5, 5),
        )


@dataclass(frozen=True)
class Anatomy:
    """The fields of one patient on the coarse grid.

    Args:
        grid: the coarse grid.
        build: the patient.
        fields: signed distances by name, mm.
        to_patient: added to a grid position, then scaled, it gives the standard position; (z, y, x) mm.
    """

    grid: Grid
    build: Build
    fields: dict[str, Field]
    to_patient: tuple[float, float, float]

    def place(self, position_mm: tuple[float, float, float]) -> np.ndarray:
        """Where a standard position (x, y, z) lies in this patient: (z, y, x) mm of the grid."""
        standard = np.array(position_mm[::-1], np.float32)
        return standard * self.build.scale - np.array(self.to_patient, np.float32)


def make_anatomy(rng: np.random.Generator, extent_mm: tuple[float, float, float]) -> Anatomy:
    """Draw a patient.

    Args:
        rng: decides everything.
        extent_mm: field of view along z, y, x.
    """
    grid = Grid(COARSE, extent_mm)
    build = Build.draw(rng)
    shift = (rng.uniform(-4, 4), rng.uniform(2, 12), rng.uniform(-4, 4))
    z, y, x = grid.axes_mm()
    # One bend of space makes every structure irregular at once, and keeps neighbours together.
    points = tuple(
        ((axis + move) / build.scale + 2.6 * smooth_noise(rng, grid, 70) + 0.9 * smooth_noise(rng, grid, 25)).astype(
            np.float32
        )
        for axis, move in zip((z, y, x), shift, strict=True)
    )
    fields: dict[str, Field] = {}
    space: Points = (points[0], points[1], points[2])
    chest, angle = _cavity(space)
    fields["cavity"] = chest
    _bones(fields, space, chest, angle, build)
    _middle(fields, space, rng, grid)
    _lungs(fields, space, build, rng)
    _belly(fields, space, build, rng, grid)
    _shell(fields, space, angle, build, rng, grid)
    return Anatomy(
        grid, build, {name: np.ascontiguousarray(f * build.scale, np.float32) for name, f in fields.items()}, shift
    )


def _cavity(points: Points) -> tuple[Field, Field]:
    """Inside of the rib cage, and the angle around it: 0 at the back, pi at the front."""
    z, y, x = points
    up = np.clip((z + 20) / 144, 0, 1)
    width = 126 * np.maximum(1 - up**2.6, 0.02) ** 0.6 - 8 * ramp(-z, 90, 150)
    depth = 86 * np.maximum(1 - 0.58 * up**2.2, 0.05)
    back = y - 2 + 22 * up * up
    # The back of the chest is flatter than an ellipse, and reaches behind the vertebrae on both sides of the spine.
    back = back + 12 * np.exp(-(((np.abs(x) - 52) / 30) ** 2)) * ramp(-y, 10, 60) * (1 - 0.5 * up)
    power = 2.35
    radius = ((np.abs(x) / width) ** power + (np.abs(back) / depth) ** power) ** (1 / power)
    centre = np.sqrt(x * x + back * back)
    field = (radius - 1) * np.clip(centre / np.maximum(radius, 1e-3), 20, 130)
    return np.maximum(field, (z - 122) * 0.8), np.arctan2(np.abs(x) / width, -back / depth)


def _spine_y(z: Field) -> Field:
    return -52 + 11 * ramp(z, 30, 150) - 2 * ramp(-z, 40, 140)


def _bones(fields: dict[str, Field], points: Points, chest: Field, angle: Field, build: Build) -> None:
    z, y, x = points
    bend = x - build.spine_mm * np.sin(z / 60)
    behind = y - _spine_y(z)
    level = np.mod(z + 0.06 * y, 23.0) - 11.5  # 0 in the middle of a vertebra
    body = np.sqrt((bend / 19) ** 2 + (behind / 15) ** 2) * 16 - 16
    column = overlap(body, -12 - behind, round_mm=4)
    disc = np.abs(level) - 9.3
    canal = np.sqrt(bend**2 + (behind + 20) ** 2) - 8.5
    arch = overlap(np.abs(canal - 3) - 3, np.abs(level + 2) - 7.5)
    spinous = overlap(np.abs(bend) - 3.2, np.abs(behind + 42) - 13, np.abs(level + 5) - 6, round_mm=3)
    wing = np.abs(bend)
    transverse = overlap(
        np.abs(behind + 18 + 0.35 * (wing - 12)) - 4.5, np.abs(wing - 22) - 12, np.abs(level) - 6, round_mm=4
    )
    fields["disc"] = np.maximum(column, -disc)
    fields["canal"] = canal
    # Ribs fall from back to front; the cartilage climbs again to the sternum.
    fall = 112 * (1 - np.cos(np.clip(angle, 0, 2.45))) / 1.77 - 90 * np.clip(angle - 2.45, 0, 1)
    beat = np.mod(z + fall + 3, 24.5) - 12.25
    slender = 4.0 + 0.7 * np.cos(angle)
    ring = (np.sqrt(((chest - 5.2) / slender) ** 2 + (beat / 6.0) ** 2) - 1) * slender
    ring = np.maximum(ring, z + fall - 150)
    ribs = overlap(ring, (angle - 2.4) * 60, (0.22 - angle) * 60)
    fields["cartilage"] = overlap(ring - 0.8, (2.38 - angle) * 60, np.abs(z - 15) - 75)
    front = y - (88 - 34 * ramp(z, 0, 130))
    sternum = overlap(np.abs(front) - 5.0, np.abs(x) - 15 - 9 * ramp(z, 60, 85), np.abs(z - 38) - 55, round_mm=5)
    side = np.abs(x)
    blade = _plate(side, y, z, points)
    clavicle = tube((z, y, side), curve([(16, 52, 92, 8), (60, 44, 104, 6), (105, 22, 118, 6), (140, 2, 126, 7)], 3))
    shoulder = ellipsoid((z, y, side), (146, -14, 128), (23, 23, 24))
    fields["bone"] = union(
        np.maximum(column, disc), arch, spinous, transverse, ribs, sternum, blade, clavicle, shoulder
    )
    fields["spine_wrap"] = np.sqrt(bend**2 + (behind * 1.05) ** 2) - 25


def _plate(side: Field, y: Field, z: Field, points: Points) -> Field:
    """Shoulder blade: a thin plate with its ridge and the socket."""
    inner, outer = 74 + 0.02 * z, 122 + 0.08 * z
    low, high = -92 + 0.12 * z, -52 + 0.2 * z
    along = np.clip(((side - inner) * (outer - inner) + (y - low) * (high - low)) / ((outer - inner) ** 2 + 1600), 0, 1)
    gap = np.hypot(side - inner - along * (outer - inner), y - low - along * (high - low))
    plate = np.maximum(gap - 2.6 - 4.5 * along**6, np.abs(z - 58) - 55 + 30 * (1 - along))
    ridge = tube((points[0], y, side), curve([(84, -98, 70, 4), (112, -86, 88, 5), (146, -52, 112, 6)], 2))
    socket = ellipsoid((points[0], y, side), (130, -34, 104), (11, 13, 18))
    return union(plate, ridge, socket, round_mm=3)


def _middle(fields: dict[str, Field], points: Points, rng: np.random.Generator, grid: Grid) -> None:
    """Heart, great vessels, airways and gullet."""
    heart = ellipsoid(points, (20, 20, -44), (60, 44, 49), -32)
    atria = ellipsoid(points, (-18, 14, -24), (32, 34, 40))
    fields["heart"] = union(heart, atria, round_mm=14)
    # Fat between the heart muscle and its sac, thicker in the grooves.
    fat = 3.0 + 2.2 * smooth_noise(rng, grid, 22)
    fields["myocardium"] = fields["heart"] + np.maximum(fat, 1.0)
    left = union(
        ellipsoid(points, (40, 16, -50), (34, 20, 28), -32),
        ellipsoid(points, (6, -12, -20), (30, 19, 22)),
        tube(points, curve([(-34, -10, -8, 5), (-14, -12, -12, 7), (24, -14, -10, 7), (40, -14, -4, 5)], 2)),
        round_mm=4,
    )
    right = union(
        ellipsoid(points, (10, 40, -46), (38, 16, 30), -24),
        ellipsoid(points, (-30, 20, -34), (19, 24, 28)),
        round_mm=4,
    )
    main = tube(points, curve([(14, 36, -12, 14), (18, 24, 14, 14), (28, 4, 30, 12), (46, -10, 26, 8)]))
    branch = tube(points, curve([(17, 20, 18, 12), (-8, 4, 16, 11), (-32, -2, 10, 9), (-48, -6, 2, 7)]))
    fields["blood_right"] = union(right, main, branch)
    aorta = curve(
        [
            *((6, 18, -16, 15), (-10, 28, 12, 16), (-12, 24, 42, 15), (2, 8, 63, 14), (19, -14, 62, 13)),
            *((27, -34, 40, 12.5), (26, -38, 0, 12), (22, -36, -60, 11.5), (10, -31, -105, 10.5), (5, -28, -150, 10)),
        ]
    )
    necks = [
        curve([(-6, 14, 66, 6.5), (-16, 12, 86, 6), (-24, 4, 125, 5)], 2),
        curve([(5, 4, 68, 4.5), (16, 2, 95, 4), (24, 2, 150, 4)], 2),
        curve([(15, -8, 68, 5.5), (28, -8, 96, 5), (60, 12, 122, 5)], 2),
    ]
    fields["blood_left"] = union(left, tube(points, aorta), *(tube(points, neck) for neck in necks))
    cava = curve([(-24, 12, 98, 8), (-25, 16, 60, 9.5), (-26, 16, 10, 10), (-26, 14, -20, 11)])
    lower = curve([(-22, 6, -50, 11), (-21, -4, -85, 12), (-20, -14, -150, 12)])
    crossing = curve([(-24, 18, 82, 7), (4, 32, 84, 6), (30, 20, 98, 6), (62, 24, 116, 6)], 2)
    arm = curve([(-24, 12, 98, 7), (-62, 26, 114, 6), (-110, 16, 122, 6)], 2)
    fields["veins"] = union(*(tube(points, path) for path in (cava, lower, crossing, arm)))
    windpipe = curve([(0, 6, 150, 8.5), (0, -2, 95, 8.5), (3, -12, 46, 9)])
    bronchi = [
        curve([(3, -12, 46, 7.5), (-20, -14, 26, 6.5), (-33, -12, 12, 5), (-40, -14, -8, 4)]),
        curve([(3, -12, 46, 7.5), (24, -16, 28, 6), (42, -16, 18, 5), (48, -20, 0, 4)]),
    ]
    fields["airway"] = union(*(tube(points, path) for path in (windpipe, *bronchi)), round_mm=2)
    z, y, x = points
    gullet = curve([(5, -16, 150, 6), (7, -28, 40, 6), (8, -30, -30, 6.5), (18, -16, -85, 8)])
    fields["gullet"] = tube((z, y * 1.25 + 7, x), gullet)


def _lungs(fields: dict[str, Field], points: Points, build: Build, rng: np.random.Generator) -> None:
    z, y, x = points
    top = -40 + build.dome_mm
    domes = []
    for side, lift in ((-1, 4.0), (1, -6.0)):
        front = np.where(y > 4, np.float32(96), np.float32(70))
        rho = ((side * x - 60) / 74) ** 2 + ((y - 4) / front) ** 2
        domes.append(top + lift - 78 * rho / (1 + 0.28 * rho))
    fields["floor"] = (np.maximum(np.where(x < 0, domes[0], domes[1]), -122) - z) * 0.62  # negative above the dome
    waist = 13 + 12 * np.exp(-(((y - 2) / 22) ** 2)) * ramp(z, -90, -20) * ramp(40 - z, 0, 30)
    waist = waist + 9 * ramp(z, 92, 112) - 9 * ramp(y, 34, 62) * ramp(85 - z, 0, 40)
    root = union(
        ellipsoid(points, (-34, -6, 10), (17, 16, 24)), ellipsoid(points, (37, -8, 14), (16, 16, 24)), round_mm=8
    )
    organs = union(
        fields["heart"] - 3,
        fields["spine_wrap"],
        fields["blood_left"] - 2.0,
        fields["blood_right"] - 1.0,
        fields["veins"] - 1.5,
        fields["airway"] - 3,
        fields["gullet"] - 2,
        root,
        round_mm=6,
    )
    for name, side in (("lung_right", -1), ("lung_left", 1)):
        medial = waist - side * x
        lung = overlap(fields["cavity"] + 1.0, medial.astype(np.float32), fields["floor"], round_mm=9)
        fields[name] = overlap(lung, -organs, round_mm=5)
    # The oblique fissures, and the horizontal one on the right in front of it.
    wave = 4 * np.sin(x / 31 + rng.uniform(0, 6)) + 3 * np.sin(y / 26 + rng.uniform(0, 6))
    oblique = (0.55 * z + 0.83 * (y + 8) + wave - np.where(x < 0, 0, 4)) * 0.9
    flat = np.where((x < 0) & (oblique > 0), z - 12 - wave - 0.08 * y, 99.0)
    fields["fissure"] = np.minimum(np.abs(oblique), np.abs(flat)).astype(np.float32)


def _belly(fields: dict[str, Field], points: Points, build: Build, rng: np.random.Generator, grid: Grid) -> None:
    """What lies under the diaphragm."""
    z, y, x = points
    below = -fields["floor"]  # negative under the dome
    fields["diaphragm"] = overlap(np.abs(fields["floor"]) - 2.2, fields["cavity"], -fields["heart"])
    inner = overlap(fields["cavity"] + 5, below + 3, 3.5 - fields["heart"], 6 - fields["spine_wrap"])
    fields["belly"] = overlap(fields["cavity"] + 1, below, -fields["heart"] + 1)
    lump = 5 * smooth_noise(rng, grid, 35)
    left_edge = (x - 22 - 0.8 * y - 0.004 * y * np.abs(y) - 0.35 * (z + 90)) * 0.75
    under = -(z + 150 - 0.5 * (x + 60))
    liver = overlap(inner, left_edge + lump, under, -(y + 72 - 0.3 * np.abs(x)), round_mm=8)
    fields["liver"] = np.maximum(liver, -(fields["veins"] - 0.5))
    stomach = union(
        ellipsoid(points, (64, -8, -84), (36, 40, 36), 30), ellipsoid(points, (44, 34, -106), (44, 26, 30)), round_mm=12
    )
    fields["stomach"] = overlap(inner, stomach + 0.8 * lump, -(fields["liver"] - 4), round_mm=4)
    fields["gas"] = overlap(fields["stomach"] + 5, 34 + rng.uniform(-12, 16) - y, round_mm=2)
    spleen = ellipsoid(points, (94, -46, -98), (26, 48, 46), -38) + 0.5 * lump
    fields["spleen"] = overlap(inner, spleen, -(fields["stomach"] - 3), round_mm=4)
    # Gut, pancreas and adrenals: folded soft tissue in the fat, some of it with gas.
    loops = 2.6 * np.abs(smooth_noise(rng, grid, 26)) - 1.7 + 0.4 * smooth_noise(rng, grid, 9)
    rest = overlap(inner + 4, -(fields["liver"] - 3), -(fields["stomach"] - 3), -(fields["spleen"] - 3))
    fields["gut"] = np.maximum(rest, 4 * loops)
    fields["gut_gas"] = np.maximum(fields["gut"] + 3, 10 * (0.9 - smooth_noise(rng, grid, 40)) + 0.3 * (10 - y))
    fields["kidney"] = ellipsoid((z, y, np.abs(x)), (58, -56, -158), (27, 24, 38), 30)


def _shell(
    fields: dict[str, Field], points: Points, angle: Field, build: Build, rng: np.random.Generator, grid: Grid
) -> None:
    """Muscle, the fat over it and the skin."""
    z, y, x = points
    side, chest = np.abs(x), fields["cavity"]
    high = ramp(z, -60, 60)
    chest_muscle = 15 * np.exp(-(((angle - 2.2) / 0.38) ** 2)) * ramp(z, -5, 45)
    flank = 13 * np.exp(-(((angle - 1.35) / 0.4) ** 2)) * (0.35 + 0.65 * high)
    back = 30 * np.exp(-(((angle - 0.8) / 0.45) ** 2)) * high
    wall = chest - (9.5 + (chest_muscle + flank + back) * (1 + 0.12 * smooth_noise(rng, grid, 45)))
    erector = (np.hypot((side - 27) / 25, (y - _spine_y(z) + 36) / 15) - 1) * 18
    cuff = ellipsoid((z, y, side), (128, -26, 112), (52, 40, 62))
    neck = np.hypot(x / 1.05, y + 8) - 58 + 24 * ramp(130 - z, 0, 30)
    muscle = union(wall, erector, cuff, np.maximum(neck, 100 - z), round_mm=10)
    width = 146 + 6 * ramp(z, 40, 120)
    rear, front = 102 + 5 * ramp(z, -40, 60), 104 - 36 * ramp(z, 40, 140)
    half = np.where(y < 0, rear, front) * build.depth
    trunk: Field = ((np.abs(x / width) ** 2.3 + np.abs(y / half) ** 2.3) ** (1 / 2.3) - 1) * 115
    trunk = union(trunk, muscle - 2, round_mm=24)
    muscle = union(muscle, trunk + 10 + 90 * (1 - ramp(z, 60, 125)), round_mm=8)
    fat = build.fat_mm * (1 + 0.15 * smooth_noise(rng, grid, 90)) * (1 + 0.5 * ramp(-z, 30, 140))
    body: Field = trunk - 0.75 * fat
    if build.breast_mm:
        # Lying on the back, breasts spread to the sides.
        breast = ellipsoid((z, y, side), (84, 84, -6), (60, 22 + build.breast_mm, 58), -22)
        body = union(body, breast, round_mm=22)
        # Strands of gland in fat, fewer towards the middle of the chest.
        strands = 9 * np.abs(smooth_noise(rng, grid, 13)) - 4.5 + 5 * smooth_noise(rng, grid, 30)
        fields["gland"] = np.maximum(breast + 11, strands + 0.2 * (82 - side)).astype(np.float32)
    fields["body"] = body.astype(np.float32)
    # Thin sheets of fat part one muscle from the next.
    sheets = 1.3 - 6 * np.abs(smooth_noise(rng, grid, 28))
    fields["muscle"] = overlap(muscle, body + 5, np.minimum(sheets, chest - 9))
