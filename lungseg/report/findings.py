"""What the masks of one patient show, as far as words need it: each tumour and each find, with its size and place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import cc3d
import numpy as np

from lungseg.components import bounding_box, label_components
from lungseg.geometry import SliceGrid, slice_to_las
from lungseg.lungs import lung_mask
from lungseg.visualize.windows import to_hu

MOST_SPOTS = 20  # of each mask; the largest ones
_COARSE = 64  # rows, columns and slices, or up to twice as many, in which the lungs are looked for


@dataclass(frozen=True)
class Spot:
    """One connected tumour of a mask.

    Args:
        voxels: how many.
        slice: the axial slice that shows most of it, an index into the L-A-S scan.
        slices: first and last axial slice that it touches.
        box: ``[start, stop]`` along L and A of all of it, voxels.
        overlap: share of its voxels that the other mask has too, 0 to 1.
        place: where it lies, in words such as ``right lung, lower third``; empty where that is not known.
    """

    voxels: int
    slice: int
    slices: tuple[int, int]
    box: tuple[tuple[int, int], tuple[int, int]]
    overlap: float
    place: str = ""


@dataclass(frozen=True)
class Findings:
    """The tumours of truth and prediction, largest first, at most ``MOST_SPOTS`` of each.

    Args:
        truth: the true tumours.
        found: the predicted ones.
        true_voxels: voxels of the truth.
        found_voxels: voxels of the prediction.
        n_truth: how many true ones there are in all.
        n_found: how many predicted ones there are in all.
        n_false: how many of the predicted ones touch no true tumour.
        false_voxels: voxels of these.
        overlap_voxels: voxels that both masks have.
        voxel_ml: volume of a voxel, millilitres.
    """

    truth: tuple[Spot, ...]
    found: tuple[Spot, ...]
    true_voxels: int
    found_voxels: int
    n_truth: int
    n_found: int
    n_false: int
    false_voxels: int
    overlap_voxels: int
    voxel_ml: float

    @property
    def largest_false(self) -> Spot | None:
        """The largest find that touches no true tumour."""
        return next((spot for spot in self.found if spot.overlap == 0.0), None)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Findings:
        """What :meth:`as_dict` gave, after a journey through JSON."""

        def spots(name: str) -> tuple[Spot, ...]:
            return tuple(
                Spot(**{**spot, "slices": tuple(spot["slices"]), "box": tuple(map(tuple, spot["box"]))})
                for spot in values[name]
            )

        return cls(**{**values, "truth": spots("truth"), "found": spots("found")})


class Places:
    """Where in the chest a voxel lies, by the lungs of the scan, which are looked for when they are first needed.

    Args:
        image: the slice of an index as the network saw it, ``float16 [size, size]``, HU / 3071.
        shown: indices of the slices that the network saw, rising.
        grid: the step from the scan's own pictures to slices.
        spacing_mm: voxel size along L, A, S.
        whole: whether the slices are neighbours; of a stack with gaps only the side of the chest is told.
    """

    def __init__(
        self,
        image: Callable[[int], np.ndarray],
        shown: Sequence[int],
        grid: SliceGrid,
        spacing_mm: tuple[float, float, float],
        *,
        whole: bool = True,
    ) -> None:
        self._image, self._shown, self._grid = image, shown, grid
        self._spacing_mm, self._whole = spacing_mm, whole

    def of(self, centre: tuple[float, float, float]) -> str:
        """The place of a position along L, A, S, in voxels, as words; empty where no lungs were found."""
        if self._ends is None:
            return ""
        middle, bottom, top = self._ends
        # L-A-S counts towards the patient's left.
        side = "left side" if centre[0] > middle else "right side"
        if not self._whole:
            return side
        if not bottom <= centre[2] <= top:
            return f"{side}, {'below' if centre[2] < bottom else 'above'} the lungs"
        third = min(2, int(3 * (centre[2] - bottom) / max(top - bottom, 1.0)))
        return f"{side}, {('lower', 'middle', 'upper')[third]} third of the lungs"

    @cached_property
    def _ends(self) -> tuple[float, float, float] | None:
        """Middle of the lungs along L, and their first and last slice; voxels.  None without lungs."""
        stride = max(1, len(self._shown) // _COARSE)
        indices = list(self._shown)[::stride]
        step = max(1, self._grid.size // _COARSE)
        stack = np.stack([slice_to_las(to_hu(self._image(z)[::step, ::step])) for z in indices], axis=2)
        padded = self._grid.padded[1]  # columns, which are L
        pixel_mm = padded * self._spacing_mm[0] / stack.shape[0]
        # A stack with gaps has no height of its own: with 5 mm, lungs are tall enough to be taken for lungs.
        depth_mm = self._spacing_mm[2] * stride if self._whole else 5.0
        mask, steps = lung_mask(stack, (pixel_mm, pixel_mm, depth_mm))
        box = bounding_box(mask)
        if box is None:
            return None
        middle = (box[0].start + box[0].stop) / 2 * steps[0] * padded / stack.shape[0] - self._grid.pad[1][0]
        low, high = (indices[min(at * steps[2], len(indices) - 1)] for at in (box[2].start, box[2].stop - 1))
        return middle, float(low), float(high)


def find(truth: np.ndarray | None, found: np.ndarray, voxel_ml: float, places: Places | None = None) -> Findings:
    """Compare two masks component by component.

    Args:
        truth: ``[L, A, S]``, tumour where it is not 0; None where nobody has outlined any.
        found: the prediction, the same shape.
        voxel_ml: volume of a voxel, millilitres.
        places: tells where a tumour lies.

    Raises:
        ValueError: the shapes differ.
    """
    if truth is None:
        truth = np.broadcast_to(np.zeros((), np.uint8), found.shape)
    if truth.shape != found.shape:
        raise ValueError(f"truth has shape {truth.shape}, the prediction {found.shape}")
    true_spots, n_truth, _, _ = _spots(truth, found, places)
    found_spots, n_found, n_false, false_voxels = _spots(found, truth, places)
    box = bounding_box(truth)
    overlap = 0 if box is None else int(np.count_nonzero(np.logical_and(truth[box], found[box])))
    return Findings(
        truth=true_spots,
        found=found_spots,
        true_voxels=int(np.count_nonzero(truth)),
        found_voxels=int(np.count_nonzero(found)),
        n_truth=n_truth,
        n_found=n_found,
        n_false=n_false,
        false_voxels=false_voxels,
        overlap_voxels=overlap,
        voxel_ml=voxel_ml,
    )


def _spots(mask: np.ndarray, other: np.ndarray, places: Places | None) -> tuple[tuple[Spot, ...], int, int, int]:
    """The largest components, how many there are, how many touch nothing of ``other``, and the voxels of those."""
    box = bounding_box(mask)
    if box is None:
        return (), 0, 0, 0
    labels, count = label_components(mask[box] != 0)
    statistics = cc3d.statistics(labels)
    sizes = np.asarray(statistics["voxel_counts"], np.int64)
    shared = np.bincount(labels[other[box] != 0], minlength=count + 1)
    alone = np.flatnonzero(shared[1:] == 0) + 1
    start = np.array([part.start for part in box])
    # The order of components.tumours: the largest first, then by slices and centre.
    boxes, centres = statistics["bounding_boxes"], statistics["centroids"]
    ends = {label: (int(boxes[label][2].start), int(boxes[label][2].stop)) for label in range(1, count + 1)}
    largest = sorted(ends, key=lambda label: (-int(sizes[label]), ends[label], tuple(centres[label])))
    kept = largest[:MOST_SPOTS]
    if alone.size and not set(kept) & set(alone.tolist()):
        kept[-1] = next(label for label in largest if shared[label] == 0)
    spots = []
    for label in kept:
        inner = boxes[label]
        areas = np.count_nonzero(labels[inner] == label, axis=(0, 1))
        (left, right), (back, front), (first, last) = (
            (int(offset + part.start), int(offset + part.stop)) for offset, part in zip(start, inner, strict=True)
        )
        centre = start + centres[label]
        spots.append(
            Spot(
                voxels=int(sizes[label]),
                slice=first + int(areas.argmax()),
                slices=(first, last - 1),
                box=((left, right), (back, front)),
                overlap=int(shared[label]) / int(sizes[label]),
                place="" if places is None else places.of((float(centre[0]), float(centre[1]), float(centre[2]))),
            )
        )
    return tuple(spots), int(count), int(alone.size), int(sizes[alone].sum())
