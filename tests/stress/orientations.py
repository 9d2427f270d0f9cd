"""Every orientation, with voxels of any size: there and back (row 44)."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lungseg.geometry import from_las, to_las
from lungseg.nifti import read_scan, write_mask
from tests.volumes import ALL_ORIENTATIONS, affine_of, write_volume

from . import Figure

SPACINGS = st.tuples(*[st.floats(0.125, 10.0, width=32)] * 3)
SHAPES = st.tuples(*[st.integers(1, 9)] * 3)
ORIGINS = st.tuples(*[st.floats(-900, 900, width=32)] * 3)


def orientation_round_trips(each: int, folder: Path, start: int = 0) -> Figure:
    """``each`` grids in every one of the 48 orientations: to L-A-S and back, and through the file of a mask."""
    figure = Figure("orientation_round_trips", "0 voxels wrong in 48 orientations x anisotropic spacings")
    wrong = 0
    for codes in ALL_ORIENTATIONS:

        @seed(start)
        @settings(
            max_examples=each,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(codes=st.just(codes), shape=SHAPES, spacing_mm=SPACINGS, origin_mm=ORIGINS, noise=st.integers(0, 2**32))
        def one(codes: str, shape: tuple, spacing_mm: tuple, origin_mm: tuple, noise: int) -> None:
            nonlocal wrong
            figure.tried += 1
            wrong += _one(figure, folder, codes, shape, spacing_mm, origin_mm, noise)

        one()
    figure.facts = {"voxels_wrong": wrong}
    return figure


def _one(
    figure: Figure, folder: Path, codes: str, shape: tuple, spacing_mm: tuple, origin_mm: tuple, noise: int
) -> int:
    rng = np.random.default_rng(noise)
    array = rng.integers(-1000, 2000, shape).astype(np.int16)
    affine = affine_of(codes, spacing_mm, origin_mm)
    case = f"{codes} {shape} {spacing_mm} {origin_mm} {noise}"
    scan = read_scan(write_volume(folder / "scan.nii", array, affine))
    las, las_affine, orientation = to_las(scan.voxels, scan.affine)
    figure.check(orientation.codes == codes, f"{case}: taken as {orientation.codes}")
    figure.check(nib.aff2axcodes(las_affine) == ("L", "A", "S"), f"{case}: {nib.aff2axcodes(las_affine)}")
    # A voxel keeps its place in the patient: the oracle is the affine of the file, and nibabel's own reordering.
    at = np.array([int(rng.integers(size)) for size in las.shape])
    place = las_affine[:3, :3] @ at + las_affine[:3, 3]
    there = np.rint(np.linalg.inv(affine[:3, :3]) @ (place - affine[:3, 3])).astype(int)
    wrong = int(array[tuple(there)] != las[tuple(at)])
    canonical = np.asarray(nib.as_closest_canonical(nib.load(folder / "scan.nii")).dataobj)[::-1]  # R-A-S to L-A-S
    wrong += int(np.count_nonzero(canonical != las))
    wrong += int(np.count_nonzero(from_las(las, orientation) != array))
    mask = (las > 0).astype(np.uint8)
    write_mask(folder / "mask.nii.gz", from_las(mask, orientation), scan)
    written = nib.load(folder / "mask.nii.gz")
    wrong += int(np.count_nonzero(np.asarray(written.dataobj) != (array > 0)))
    figure.check(np.array_equal(written.affine, nib.load(folder / "scan.nii").affine), f"{case}: another affine")
    figure.check(wrong == 0, f"{case}: {wrong} voxels wrong")
    return wrong
