"""The slices of one patient, pre-rendered for a page: small pictures in two windows, outlines beside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lungseg.geometry import SliceGrid, slice_of
from lungseg.visualize.selection import choose_slices, evenly
from lungseg.visualize.windows import to_grey, to_hu

from .contour import outline_path

WINDOWS = ("lung", "mediastinum")
# WebP's quality (0 to 100) and effort (0 to 6).  On a 1 mm CT a slice takes about 5 kB in the lung window and 7 kB in
# the mediastinum's, where noise is all there is to spend bytes on.
_QUALITY = {"lung": 55, "mediastinum": 40}
_KEY_QUALITY = 65
_EFFORT = 2
BUDGET_BYTES = 1_500_000  # of a patient's slices as they stand in the page: 15 patients stay under 25 MB
_LEAST_SLICES = 12
_PROBES = 4
_KEY_LEAST, _KEY_MARGIN = 0.25, 2.0  # a key image shows this share of the slice's side, or so many times the tumour


@dataclass(frozen=True)
class ViewSlice:
    """One slice to scroll to.

    Args:
        z: index in the L-A-S scan, counted from the feet.
        grey: WebP in base64 of each of ``WINDOWS``; empty where the network skipped the slice.
        truth: outline (``contour.outline_path``) on the scan's own padded picture; empty without tumour.
        found: of the prediction, likewise.
    """

    z: int
    grey: tuple[str, str]
    truth: str
    found: str


@dataclass(frozen=True)
class KeyImage:
    """A part of one slice that shows what matters, in the lung window.

    Args:
        label: what it shows, such as ``largest false positive``.
        z: index in the L-A-S scan.
        box: left, top, width and height in pixels of the padded picture.
        grey: WebP in base64; empty where the network skipped the slice.
        truth: outline on the padded picture.
        found: of the prediction, likewise.
    """

    label: str
    z: int
    box: tuple[float, float, float, float]
    grey: str
    truth: str
    found: str


@dataclass(frozen=True)
class Look:
    """What a key image is to show.

    Args:
        label: in words.
        z: the slice.
        box: ``[start, stop]`` along L and A to centre on, voxels of the scan; None for the middle.
    """

    label: str
    z: int
    box: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Pictures:
    """What a page shows of one patient.

    Args:
        side: (width, height) of the scan's own padded axial picture, pixels; what outlines count in.
        depth: axial slices of the scan.
        slices: to scroll through, rising.
        keys: key images, in the order in which they were asked for.
        labelled: whether there is a truth.
    """

    side: tuple[int, int]
    depth: int
    slices: tuple[ViewSlice, ...]
    keys: tuple[KeyImage, ...]
    labelled: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values, named shortly: this stands in the page."""
        return {
            "side": self.side,
            "depth": self.depth,
            "labelled": self.labelled,
            "slices": [[part.z, *part.grey, part.truth, part.found] for part in self.slices],
            "keys": [[key.label, key.z, key.box, key.grey, key.truth, key.found] for key in self.keys],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Pictures:
        slices = tuple(
            ViewSlice(z, (lung, mediastinum), truth, found) for z, lung, mediastinum, truth, found in values["slices"]
        )
        keys = tuple(
            KeyImage(label, z, (*box,), grey, truth, found) for label, z, box, grey, truth, found in values["keys"]
        )
        side = values["side"]
        return cls((side[0], side[1]), values["depth"], slices, keys, values["labelled"])


def render(
    image: Callable[[int], np.ndarray],
    shown: Sequence[int],
    truth: np.ndarray | None,
    found: np.ndarray,
    grid: SliceGrid,
    looks: Sequence[Look],
    *,
    budget: int = BUDGET_BYTES,
) -> Pictures:
    """Render a patient's slices: all that fit the budget, those with tumour before the others, one at a time.

    Args:
        image: the slice of an index as the network saw it, ``float16 [size, size]``, HU / 3071.
        shown: indices of the slices that the network saw, rising.
        truth: the label ``[L, A, S]``, tumour where it is not 0; None where there is none.
        found: the prediction, the same shape.
        grid: the step from the scan's own pictures to slices.
        looks: the key images to make.
        budget: bytes that the slices may take in the page; a dozen are kept whatever they take.
    """
    used = [_planes_with_tumour(mask) for mask in (truth, found) if mask is not None]
    tumour = np.logical_or.reduce(used)
    rest = set(shown)
    # Slices that the network never saw have no picture, but a tumour in them must not be hidden.
    unseen = [int(z) for z in np.flatnonzero(tumour) if int(z) not in rest]

    def slice_at(z: int) -> ViewSlice:
        picture = to_hu(image(z)) if z in rest else None
        grey = tuple("" if picture is None else _webp(to_grey(picture, name), _QUALITY[name]) for name in WINDOWS)
        return ViewSlice(z, (grey[0], grey[1]), _outline(truth, z, grid), _outline(found, z, grid))

    done = {z: slice_at(z) for z in [shown[i] for i in evenly(len(shown), _PROBES)]}
    mean = max(1.0, sum(map(_bytes, done.values())) / max(1, len(done)))
    count = max(_LEAST_SLICES, int(budget / mean))
    chosen = [shown[i] for i in choose_slices(len(shown), max_frames=count, tumour=tumour[list(shown)])]
    made = [done.get(z) or slice_at(z) for z in (*unseen[:_LEAST_SLICES], *chosen)]
    while sum(map(_bytes, made)) > budget and len(made) > _LEAST_SLICES:
        # The estimate was too low: thin out what shows no tumour, then everything.
        plain = [part for part in made if not tumour[part.z]] or made
        gone = {part.z for part in plain[:: max(2, len(plain) // 4)]}
        made = [part for part in made if part.z not in gone]
    parts = tuple(_key(image if look.z in rest else None, look, truth, found, grid) for look in looks)
    rows, columns = grid.padded
    return Pictures((columns, rows), int(found.shape[2]), tuple(sorted(made, key=lambda part: part.z)), parts,
                    labelled=truth is not None)  # fmt: skip


def _key(
    image: Callable[[int], np.ndarray] | None, look: Look, truth: np.ndarray | None, found: np.ndarray, grid: SliceGrid
) -> KeyImage:
    (rows, columns), size = grid.padded, grid.size
    left, top, side = _frame(look, grid)
    grey = ""
    if image is not None:
        part = image(look.z)[top : top + side, left : left + side]
        grey = _webp(to_grey(to_hu(part), "lung"), _KEY_QUALITY)
    x, y = columns / size, rows / size
    box = (round(left * x, 2), round(top * y, 2), round(side * x, 2), round(side * y, 2))
    return KeyImage(look.label, look.z, box, grey, _outline(truth, look.z, grid), _outline(found, look.z, grid))


def _frame(look: Look, grid: SliceGrid) -> tuple[int, int, int]:
    """Left, top and side of the square that is shown, pixels of the slice."""
    if look.box is None:
        return 0, 0, grid.size
    (left, right), (back, front) = look.box
    (above, _), (before, _) = grid.pad
    # Rows count from the patient's front, L-A-S from the back.
    low = np.array([above + grid.rows - front, before + left]) / grid.padded
    high = np.array([above + grid.rows - back, before + right]) / grid.padded
    share = max(_KEY_MARGIN * float((high - low).max()), _KEY_LEAST)
    side = min(grid.size, max(1, round(share * grid.size)))
    start = np.clip(np.rint((low + high) / 2 * grid.size - side / 2), 0, grid.size - side).astype(int)
    return int(start[1]), int(start[0]), side


def _outline(mask: np.ndarray | None, z: int, grid: SliceGrid) -> str:
    if mask is None or not mask[:, :, z].any():
        return ""
    return outline_path(slice_of(mask, z), (grid.pad[1][0], grid.pad[0][0]))


def _planes_with_tumour(mask: np.ndarray) -> np.ndarray:
    return np.array([plane.any() for plane in np.moveaxis(mask, 2, 0)], bool)


def _webp(grey: np.ndarray, quality: int) -> str:
    data = io.BytesIO()
    Image.fromarray(grey).save(data, "WEBP", quality=quality, method=_EFFORT)
    return base64.b64encode(data.getvalue()).decode("ascii")


def _bytes(part: ViewSlice) -> int:
    return sum(map(len, part.grey)) + len(part.truth) + len(part.found) + 20
