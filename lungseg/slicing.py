"""One scan to slices, and the one way in which a slice is made anywhere: training, prediction and evaluation agree."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

import numpy as np

from .config import PreprocessConfig
from .errors import DataError, UsageError
from .files import TEMPORARY_PREFIX, atomic_write, clear_temporary, digest, make_folder
from .geometry import SliceGrid, slice_of, to_las
from .lungs import first_lung_slice
from .manifest import CASE_RECORD, TUMOUR, CaseRecord, image_name, mask_name
from .nifti import Scan


def check_skip(skip: str) -> str:
    """``skip`` as it stands in a config: ``"30"``, ``"12.5mm"`` or ``"auto"``.

    Raises:
        UsageError: it is none of these.
    """
    text = skip.strip().lower().replace(" ", "")
    try:
        if text == "auto":
            return text
        if text.endswith("mm"):
            length = float(text[:-2])
            if math.isfinite(length) and length >= 0:
                return f"{length:g}mm"
        elif int(text) >= 0:
            return str(int(text))
    except ValueError:
        pass
    raise UsageError.of("bad-skip", "the slices to skip can not be read", expected="30, 12.5mm or auto", found=skip)


def skipped_slices(las: np.ndarray, las_spacing_mm: tuple[float, ...], config: PreprocessConfig) -> int:
    """How many axial slices of a scan are dropped at the feet end.

    Args:
        las: HU [left, front, head].
        las_spacing_mm: voxel size along these axes.
        config: the settings.

    Raises:
        DataError: no slice would be left, or no lung is found for ``auto``.
    """
    skip = config.skip_slices
    if skip == "auto":
        found = first_lung_slice(las, las_spacing_mm)
        if found is None:
            raise DataError.of(
                "no-lung",
                "no lung is found in the scan",
                expected="a chest CT in HU",
                mend="Give --skip-slices as a number, or leave this scan out.",
            )
        return found
    # Headers hold float32: 7 mm in slices of 0.7 mm are 10.0000002 slices, and mean 10.
    count = math.ceil(float(skip[:-2]) / las_spacing_mm[2] - 1e-4) if skip.endswith("mm") else int(skip)
    if count >= las.shape[2]:
        raise DataError.of(
            "no-slice-left",
            "all slices of the scan would be skipped",
            expected=f"more than {count} axial slices",
            found=str(las.shape[2]),
            mend="Use a smaller --skip-slices, or `--skip-slices auto`.",
        )
    return count


def slice_image(las: np.ndarray, z: int, grid: SliceGrid, config: PreprocessConfig) -> np.ndarray:
    """Axial slice ``z`` as the network sees it.

    Args:
        las: HU [left, front, head].
        z: index of the slice.
        grid: the step to square slices.
        config: clip and divisor.

    Returns:
        float16 [size, size], HU clipped and divided: air is -0.3256.
    """
    picture = np.clip(slice_of(las, z).astype(np.float32), config.hu_min, config.hu_max)
    return (grid.shrink_image(picture, config.hu_min) / np.float32(config.hu_max)).astype(np.float16)


def slice_mask(las: np.ndarray, z: int, grid: SliceGrid) -> np.ndarray:
    """Axial slice ``z`` of a label ``[left, front, head]`` as a mask, ``uint8 [size, size]``, 0 or 1."""
    return grid.shrink_mask(slice_of(las, z))


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
    for name in ("images", "masks") if truth is not None else ("images",):
        clear_temporary(make_folder(folder / name))
    clear_temporary(folder)
    hashes: dict[str, str] = {}
    pixels: list[int] = []
    slices = range(skipped, las.shape[2])
    for index in slices:
        hashes[image_name(index)] = _write_array(folder / image_name(index), slice_image(las, index, grid, config))
        if truth is not None:
            mask = slice_mask(truth, index, grid)
            pixels.append(int(np.count_nonzero(mask)))
            hashes[mask_name(index)] = _write_array(folder / mask_name(index), mask)
    box = None if truth is None else bounding_box(truth)
    voxels = below = 0
    if truth is not None and box is not None:
        inside = truth[tuple(slice(*ends) for ends in box)]
        voxels = int(np.count_nonzero(inside))
        below = int(np.count_nonzero(inside[..., : max(0, skipped - box[2][0])]))
        hashes[TUMOUR] = _write_array(folder / TUMOUR, np.ascontiguousarray(inside))
    remove_stale(folder, {*hashes, CASE_RECORD})
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


def bounding_box(mask: np.ndarray) -> tuple[tuple[int, int], ...] | None:
    """``(start, stop)`` of what is not 0 along each axis of a 3-D mask; None where it is empty."""
    box = []
    for axis in range(3):
        shown = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not shown.size:
            return None
        box.append((int(shown[0]), int(shown[-1]) + 1))
    return tuple(box)


def remove_stale(folder: Path, wanted: set[str]) -> None:
    """Remove what another run left in a case's folder, so that the tree depends on this run's input alone.

    Files that no run writes stay: the folder may be one that the user keeps something else in.
    """
    for pattern in (CASE_RECORD, TUMOUR, "images/[0-9]*.npy", "masks/[0-9]*.npy", f"**/{TEMPORARY_PREFIX}*"):
        for path in folder.glob(pattern):
            if path.is_file() and path.relative_to(folder).as_posix() not in wanted:
                path.unlink()
    for name in ("images", "masks"):
        with contextlib.suppress(OSError):  # not empty, or not there
            (folder / name).rmdir()


def remove_case(folder: Path) -> None:
    """Remove a case's folder, but for files that no run writes."""
    remove_stale(folder, set())
    with contextlib.suppress(OSError):
        folder.rmdir()


def _write_array(path: Path, array: np.ndarray) -> str:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    data = buffer.getbuffer()
    atomic_write(path, data)
    return digest(data)
