"""One scan to its folder: its slices, its tumour at native resolution, and its record."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .case_files import remove_stale
from .case_record import TUMOUR, CaseRecord, image_name, mask_name
from .config import PreprocessConfig
from .digests import digest
from .files import atomic_write, clear_temporary, make_folder
from .geometry import SliceGrid, to_las
from .nifti import Scan
from .slice_folder import NpyFile, new_folder
from .slicing import skipped_slices, slice_image, slice_mask, slice_room


def slice_case(
    folder: Path,
    image: Scan,
    label: Scan | None,
    source: dict[str, object],
    config: PreprocessConfig,
    warned: tuple[str, ...],
) -> CaseRecord:
    """Write the slices of one scan, and its tumour at native resolution.

    Args:
        folder: the case's own folder; what another run left in it is removed.
        image: the scan.
        label: its label on the same grid, or None.
        source: what the record says of the files it was made from.
        config: the settings.
        warned: codes of what is odd about the scan.

    Returns:
        The case's record, with the hash of every file; the caller writes it, last.
    """
    las, las_affine, orientation = to_las(image.voxels, image.affine)
    x, y, z = (float(size) for size in np.linalg.norm(las_affine[:3, :3], axis=0))
    skipped = skipped_slices(las, (x, y, z), config)
    grid = SliceGrid.of(las.shape, (x, y, z), config.size)
    truth = None if label is None else to_las(label.voxels, image.affine)[0]
    clear_temporary(make_folder(folder))
    remove_stale(folder, set())
    slices = range(skipped, las.shape[2])
    hashes = _write_images(folder, las, slices, grid, config)
    pixels: list[int] = []
    box = None
    voxels = below = 0
    if truth is not None:
        marked = truth.view(bool)  # whose bytes are 0 and 1 as well; of uint8, `any` would make a copy first
        shown = np.array([marked[:, :, z].any() for z in range(truth.shape[2])])
        pixels = _write_masks(folder, truth, slices, grid, shown, hashes)
        box = bounding_box(truth, shown)
    if truth is not None and box is not None:
        inside = truth[tuple(slice(*ends) for ends in box)]
        voxels = int(np.count_nonzero(inside))
        below = int(np.count_nonzero(inside[..., : max(0, skipped - box[2][0])]))
        file = NpyFile(inside.shape, np.uint8)
        file.array[...] = inside
        atomic_write(folder / TUMOUR, memoryview(file.data))
        hashes[TUMOUR] = digest(memoryview(file.data))
    return CaseRecord(
        labelled=label is not None,
        shape=image.header.shape,
        affine=tuple(tuple(float(value) for value in row) for row in image.affine),
        orientation=orientation.codes,
        spacing_mm=image.spacing_mm,
        las_shape=(int(las.shape[0]), int(las.shape[1]), int(las.shape[2])),
        las_spacing_mm=(x, y, z),
        pad=grid.pad,
        skipped=skipped,
        slices=tuple(slices),
        tumour_pixels=tuple(pixels),
        tumour_voxels=voxels,
        tumour_voxels_skipped=below,
        tumour_box=box,
        source=source,
        hashes=hashes,
        warnings=warned,
    )


def _write_images(
    folder: Path, las: np.ndarray, slices: range, grid: SliceGrid, config: PreprocessConfig
) -> dict[str, str]:
    """Write all images of a case; returns their hashes."""
    room, file, hashes = slice_room(las), NpyFile((grid.size, grid.size), np.float16), {}
    with new_folder(folder / "images") as images:
        for z in slices:
            file.array[...] = slice_image(las, z, grid, config, room)
            hashes[image_name(z)] = images.write(Path(image_name(z)).name, file)
    return hashes


def _write_masks(
    folder: Path, truth: np.ndarray, slices: range, grid: SliceGrid, shown: np.ndarray, hashes: dict[str, str]
) -> list[int]:
    """Write all masks of a case and add their hashes; returns how many tumour pixels each has.

    Args:
        shown: which axial slices of ``truth`` are not empty, ``bool [z]``.
    """
    file, pixels = NpyFile((grid.size, grid.size), np.uint8), []
    with new_folder(folder / "masks") as masks:
        for z in slices:
            name = Path(mask_name(z)).name
            if shown[z]:
                file.array[...] = slice_mask(truth, z, grid)
                hashes[mask_name(z)] = masks.write(name, file)
                pixels.append(int(np.count_nonzero(file.array)))
            else:
                hashes[mask_name(z)] = masks.write_zeros(name, file)
                pixels.append(0)
    return pixels


def bounding_box(mask: np.ndarray, shown: np.ndarray | None = None) -> tuple[tuple[int, int], ...] | None:
    """``(start, stop)`` of what is not 0 along each axis of a 3-D mask; None where it is empty.

    Args:
        mask: [x, y, z].
        shown: which planes along z are not empty, where that is known; the others are not looked at.
    """
    planes = np.flatnonzero(mask.any(axis=(0, 1)) if shown is None else shown)
    if not planes.size:
        return None
    z = (int(planes[0]), int(planes[-1]) + 1)
    flat = np.asarray(mask[:, :, z[0] : z[1]].any(axis=2))
    x, y = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return (int(x[0]), int(x[-1]) + 1), (int(y[0]), int(y[-1]) + 1), z
