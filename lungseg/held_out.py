"""A held-out patient as it is scored: read from the preprocessed slices, or from scan and label anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .case_record import TUMOUR, CaseRecord, image_name, mask_name
from .config import PreprocessConfig
from .errors import DataError, Problem
from .files import make_folder
from .geometry import SliceGrid, to_las
from .leakage import check_scan_unseen, evenly
from .manifest import Manifest
from .nifti import read_label, read_scan
from .pairs import check_pair, hu_warnings
from .report.case_file import CaseView, write_case
from .report.from_evaluation import case_path
from .slice_file import read_array, read_slice
from .slicing import skipped_slices, slice_image, slice_mask
from .splits import Split
from .tree import Tree, find_case


@dataclass(frozen=True)
class HeldOut:
    """A held-out patient, wherever it was read from.

    Args:
        indices: of the slices in the L-A-S scan, rising.
        skipped: axial slices dropped at the feet end.
        spacing_mm: voxel size along left, front, head.
        grid: the step to square slices.
        image: the slice of an index, ``float16 [size, size]``.
        masks: likewise, ``uint8 [size, size]``.
        truth: the label, ``uint8 [L, A, S]``.
        warned: what is odd about the scan, where that was read anew.
    """

    indices: tuple[int, ...]
    skipped: int
    spacing_mm: tuple[float, float, float]
    grid: SliceGrid
    image: Callable[[int], np.ndarray]
    masks: Iterator[np.ndarray]
    truth: np.ndarray = field(repr=False)
    warned: tuple[Problem, ...] = ()

    @property
    def images(self) -> Iterator[np.ndarray]:
        """Of the slices, in order."""
        return map(self.image, self.indices)

    def write_pictures(self, folder: Path, case: str, found: np.ndarray, *, whole: bool) -> None:
        """Keep in an evaluation's folder what its report shows of the patient, with the prediction ``[L, A, S]``."""
        path = case_path(folder, case)
        make_folder(path.parent)
        view = CaseView(
            self.image, self.indices, self.grid, self.spacing_mm, found=found, truth=self.truth, whole=whole
        )
        write_case(path, view)


def from_slices(manifest: Manifest, case: str) -> HeldOut:
    """A labelled case of a preprocessed folder.

    Raises:
        DataError, IntegrityError: it is unknown, has no label, or is damaged (of a slice, when that is read).
    """
    record, folder = manifest.record(case), manifest.root / case
    size = manifest.config.size

    def read(name: str, dtype: type[np.generic]) -> np.ndarray:
        return read_slice(folder / name, dtype, size, record.hashes[name])

    return HeldOut(
        indices=record.slices,
        skipped=record.skipped,
        spacing_mm=record.las_spacing_mm,
        grid=SliceGrid.of(record.las_shape, record.las_spacing_mm, size),
        image=lambda z: read(image_name(z), np.float16),
        masks=(read(mask_name(z), np.uint8) for z in record.slices),
        truth=native_truth(manifest, case),
    )


def from_scans(tree: Tree, config: PreprocessConfig, manifest: Manifest, split: Split, name: str) -> HeldOut:
    """A patient of a folder of scans, once it is seen to be none of those that the network was trained on.

    Args:
        tree: the folder.
        config: how slices are made for the network.
        manifest: the preprocessed folder of its run.
        split: of the run.
        name: of the case.

    Raises:
        UsageError: the folder has no such case.
        DataError: scan or label is bad, or they do not lie on one grid; the scan is one that was trained on.
    """
    case = find_case(tree, name)
    if case.label is None:
        raise DataError.of("no-label", "has no label to be scored against", file=case.image, case=name)
    scan, label = read_scan(case.image), read_label(case.label)
    check_pair(scan, label)
    las, affine, _ = to_las(scan.voxels, scan.affine)
    truth = to_las(label.voxels, scan.affine)[0]
    x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    skipped = skipped_slices(las, (x, y, z), config)
    grid = SliceGrid.of(las.shape, (x, y, z), config.size)
    indices = tuple(range(skipped, las.shape[2]))
    some = (slice_image(las, index, grid, config) for index in evenly(indices))
    check_scan_unseen(name, scan.hash, some, manifest, split)
    return HeldOut(
        indices=indices,
        skipped=skipped,
        spacing_mm=(x, y, z),
        grid=grid,
        image=lambda index: slice_image(las, index, grid, config),
        masks=(slice_mask(truth, index, grid) for index in indices),
        truth=truth,
        warned=tuple(problem.at(case=name) for problem in (*scan.warnings, *hu_warnings(scan))),
    )


def native_truth(manifest: Manifest, case: str) -> np.ndarray:
    """The label of a preprocessed case on the scan's own grid.

    Returns:
        ``uint8 [L, A, S]``, 0 or 1.

    Raises:
        DataError: the case is unknown or has no label, or the file is damaged.
        IntegrityError: the file is not the one that was written.
    """
    record: CaseRecord = manifest.record(case)
    if not record.labelled:
        raise DataError.of("no-label", "has no label to be scored against", file=manifest.root / case, case=case)
    truth = np.zeros(record.las_shape, np.uint8, order="F")
    if record.tumour_box is not None:
        box = tuple(slice(*ends) for ends in record.tumour_box)
        shape = tuple(stop - start for start, stop in record.tumour_box)
        truth[box] = read_array(manifest.root / case / TUMOUR, np.uint8, shape, record.hashes[TUMOUR])
    return truth
