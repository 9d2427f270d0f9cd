"""Scans to slices: values, orientation and record against references, own data, and a real scan."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest

from lungseg import preprocess_case
from lungseg.errors import MachineError
from lungseg.manifest import Manifest
from lungseg.preprocess import preprocess, summary

from .slices import LAS_MM, SHAPE, again, codes_of, label_of, pictures, scan_of, turned, write_pair
from .volumes import ALL_ORIENTATIONS, affine_of, chest_like, tree_bytes, write_tree, write_volume


def reference_mask(label: np.ndarray, z: int, size: int) -> np.ndarray:
    """cv2.INTER_NEAREST by its definition: output pixel i shows input pixel floor(i * scale)."""
    columns, rows = label.shape[:2]
    side_mm = max(columns * LAS_MM[0], rows * LAS_MM[1])
    more = [round(side_mm / LAS_MM[1]) - rows, round(side_mm / LAS_MM[0]) - columns]
    picture = np.pad(label[:, ::-1, z].T, [(extra // 2, (extra + 1) // 2) for extra in more])
    at = [np.arange(size) * length // size for length in picture.shape]
    return picture[np.ix_(*at)]


# What a slice is


def test_images_and_masks_are_those_of_a_plain_reference(tmp_path: Path) -> None:
    las, label = scan_of(), label_of()
    write_pair(tmp_path / "root", "a", las, label, "PSR")
    preprocess(tmp_path / "root", tmp_path / "out", size=32, skip_slices=0, workers=1)
    images, masks = pictures(tmp_path / "out/a/images"), pictures(tmp_path / "out/a/masks")
    assert list(images) == list(masks) == [f"{z:03d}" for z in range(7)]
    # 36 columns of 0.7 mm beside 44 rows of 0.8 mm: 14 columns of air make it a square of 35.2 mm.
    for z in range(7):
        hu = las[:, ::-1, z].T.astype(np.float64).clip(-1000, 3071)
        wanted = cv2.resize(np.pad(hu, [(0, 0), (7, 7)], constant_values=-1000), (32, 32), interpolation=cv2.INTER_AREA)
        image, mask = images[f"{z:03d}"], masks[f"{z:03d}"]
        assert image.dtype == np.float16 and image.shape == (32, 32)
        np.testing.assert_allclose(image, wanted / 3071, rtol=0, atol=2**-12 + 1e-6)
        assert mask.dtype == np.uint8 and mask.shape == (32, 32)
        np.testing.assert_array_equal(mask, reference_mask(label, z, 32))
    assert sum(mask.sum() for mask in masks.values()) > 0
    values = np.stack(list(images.values()))
    assert values.min() == np.float16(-1000 / 3071) and values.max() <= 1


def test_a_scan_that_is_not_square_is_padded_not_squashed(tmp_path: Path) -> None:
    las = np.full((20, 40, 2), 40, np.int16)
    write_pair(tmp_path / "root", "a", las, None)
    record = preprocess(tmp_path / "root", tmp_path / "out", size=32, skip_slices=0).manifest.cases["a"]
    (left, right), (top, bottom) = record.pad[1], record.pad[0]
    assert (top, bottom) == (0, 0) and left + right == round(40 * 0.8 / 0.7) - 20
    tissue = np.load(tmp_path / "out/a/images/000.npy") > 0
    rows, columns = (np.flatnonzero(tissue.any(axis=axis)) for axis in (1, 0))
    assert len(rows) == 32  # 32 mm
    assert len(columns) == pytest.approx(20 * 0.7, abs=2)  # 14 mm: still a pixel a millimetre
    assert columns.mean() == pytest.approx(15.5, abs=1)


def test_all_48_orientations_give_the_same_slices(tmp_path: Path) -> None:
    las, label = scan_of(), label_of()
    for codes in ALL_ORIENTATIONS:
        write_pair(tmp_path / "root", codes, las, label, codes)
    done = preprocess(tmp_path / "root", tmp_path / "out", size=16, skip_slices=1, workers=1)
    assert done.problems == () and len(done.manifest.cases) == 48
    wanted = {name: data for name, data in tree_bytes(tmp_path / "out/LAS").items() if name.endswith(".npy")}
    assert len(wanted) == 6 + 6 + 1
    for codes, record in done.manifest.cases.items():
        assert record.orientation == codes
        found = {name: data for name, data in tree_bytes(tmp_path / "out" / codes).items() if name.endswith(".npy")}
        assert found == wanted, codes


def test_front_is_up_and_the_patients_right_on_the_left(tmp_path: Path) -> None:
    las = np.full((16, 16, 3), -1000, np.int16)
    las[:4, 12:, 1] = 1000  # right, front
    affine = affine_of("LAS", (1, 1, 3))
    write_volume(tmp_path / "root/a.nii", las, affine)
    preprocess(tmp_path / "root", tmp_path / "out", size=16, skip_slices=0, workers=1)
    image = np.load(tmp_path / "out/a/images/001.npy")
    assert (image[:4, :4] > 0.3).all() and (image[4:] < -0.3).all() and (image[:, 4:] < -0.3).all()


def test_oblique_scans_are_not_resampled_and_warned_of_above_10_degrees(tmp_path: Path) -> None:
    las, label = scan_of(), label_of()
    for degrees in (0, 9, 12):
        angle = np.radians(degrees)
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        for suffix, voxels in (("", las), ("_label", label)):
            array, affine = turned(voxels, "LPS")
            write_volume(tmp_path / f"root/{degrees}{suffix}.nii", array, turn @ affine)
    done = preprocess(tmp_path / "root", tmp_path / "out", size=16, skip_slices=0, workers=1)
    assert done.exit_code == 0
    assert {problem.case: problem.severity for problem in done.problems if problem.code == "oblique"} == {
        "12": "warning"
    }
    assert "12 degrees" in summary(done)
    assert done.manifest.cases["12"].warnings == ("oblique",) and done.manifest.cases["9"].warnings == ()
    for degrees in ("9", "12"):
        for name in ("images", "masks"):
            assert tree_bytes(tmp_path / "out" / degrees / name) == tree_bytes(tmp_path / "out/0" / name)


# Which slices there are


@pytest.mark.parametrize(("skip", "first"), [(0, 0), ("3", 3), ("5mm", 2), ("5.1mm", 3)])
def test_slices_keep_their_index_in_the_scan(tmp_path: Path, skip: str | int, first: int) -> None:
    las = scan_of()
    write_pair(tmp_path / "root", "a", las, label_of(), "LPI")  # the file begins at the head
    done = preprocess(tmp_path / "root", tmp_path / "out", size=16, skip_slices=skip, workers=1)
    record = done.manifest.cases["a"]
    assert record.skipped == first and record.slices == tuple(range(first, 7))
    for kind in ("images", "masks"):
        assert list(pictures(tmp_path / "out/a" / kind)) == [f"{z:03d}" for z in range(first, 7)]


def test_thirty_slices_are_skipped_by_default(tmp_path: Path) -> None:
    write_volume(tmp_path / "root/a.nii", chest_like((10, 10, 33)))
    done = preprocess(tmp_path / "root", tmp_path / "out", workers=1)
    assert done.manifest.cases["a"].slices == (30, 31, 32)
    assert np.load(tmp_path / "out/a/images/030.npy").shape == (256, 256)


def test_auto_skips_up_to_the_lung(tmp_path: Path) -> None:
    las = np.full((32, 32, 16), 40, np.int16)
    las[..., 6:] = chest_like((32, 32, 10))
    write_volume(tmp_path / "root/a.nii", las, affine_of("LAS", (10, 10, 8)))
    write_volume(tmp_path / "root/b.nii", np.where(las > 0, las, 40).astype(np.int16), affine_of("LAS", (10, 10, 8)))
    done = preprocess(tmp_path / "root", tmp_path / "out", size=16, skip_slices="auto", workers=1)
    assert done.manifest.cases["a"].slices[0] == done.manifest.cases["a"].skipped == 6
    assert ("b", "no-lung") in codes_of(done.problems) and done.exit_code == 3


@pytest.mark.parametrize(("skip", "lost"), [(2, 0), (3, 20), (4, 40), (5, 59)])
def test_tumour_in_a_skipped_slice_is_reported(tmp_path: Path, skip: int, lost: int) -> None:
    write_pair(tmp_path / "root", "a", scan_of(), label_of(), "LPI")
    done = preprocess(tmp_path / "root", tmp_path / "out", size=50, skip_slices=skip, workers=1)
    record = done.manifest.cases["a"]
    assert (record.tumour_voxels, record.tumour_voxels_skipped) == (59, lost)
    assert done.exit_code == 0
    assert codes_of(done.problems) == ([("a", "tumour-skipped")] if lost else [])
    if lost:
        assert f"{lost} of 59 voxels" in summary(done) and "counts as missed" in summary(done)
    assert (sum(record.tumour_pixels) == 0) == (lost == 59)


def test_a_label_without_tumour_is_warned_of(tmp_path: Path) -> None:
    write_pair(tmp_path / "root", "a", scan_of(), np.zeros(SHAPE, np.uint8))
    done = preprocess(tmp_path / "root", tmp_path / "out", size=16, skip_slices=0, workers=1)
    assert codes_of(done.problems) == [("a", "no-tumour")] and done.exit_code == 0
    record = done.manifest.cases["a"]
    assert record.labelled and record.tumour_box is None and record.tumour_pixels == (0,) * 7
    assert not (tmp_path / "out/a/tumour.npy").exists()


def test_unlabelled_scans_have_no_masks(made: tuple[Path, Path]) -> None:
    out = made[1]
    assert Manifest.read(out).labelled == ["lung_001", "lung_002", "lung_003"]
    assert sorted(path.name for path in (out / "lung_004").iterdir()) == ["case.json", "images"]
    record = Manifest.read(out).cases["lung_004"]
    assert not record.labelled and record.tumour_pixels == () and len(record.slices) == 8


# What the manifest knows


@pytest.mark.parametrize("codes", ["LAS", "RPI", "SRA", "IPL"])
def test_the_manifest_leads_back_to_the_scans_own_grid(tmp_path: Path, codes: str) -> None:
    # Square pixels, and as many in a slice as the padded picture has: undoing needs no interpolation.
    label, las_mm = label_of(), (0.8, 0.8, 2.5)
    for suffix, las in (("", scan_of()), ("_label", label)):
        write_volume(tmp_path / f"root/a{suffix}.nii", *turned(las, codes, las_mm))
    preprocess(tmp_path / "root", tmp_path / "out", size=44, skip_slices=1, workers=1)
    record = Manifest.read(tmp_path / "out").cases["a"]
    image = nib.load(tmp_path / "root" / "a.nii")
    np.testing.assert_array_equal(record.affine, image.affine)
    assert record.shape == image.shape and record.orientation == codes
    assert record.spacing_mm == pytest.approx(image.header.get_zooms(), rel=1e-6)
    assert record.las_shape == SHAPE and record.las_spacing_mm == pytest.approx(las_mm, rel=1e-6)

    las = np.zeros(record.las_shape, np.uint8)
    (top, bottom), (left, right) = record.pad
    columns, rows, _ = record.las_shape
    for z in record.slices:
        mask = np.load(tmp_path / f"out/a/masks/{z:03d}.npy")
        assert mask.shape == (top + rows + bottom, left + columns + right)
        las[:, :, z] = mask[top : top + rows, left : left + columns][::-1].T
    truth = np.asarray(nib.load(tmp_path / "root" / "a_label.nii").dataobj)
    np.testing.assert_array_equal(turned(las, record.orientation)[0], truth)
    assert truth.sum() == 59

    exact = np.zeros(record.las_shape, np.uint8)
    box = tuple(slice(*ends) for ends in record.tumour_box)
    exact[box] = np.load(tmp_path / "out/a/tumour.npy")
    np.testing.assert_array_equal(turned(exact, record.orientation)[0], truth)
    assert np.load(tmp_path / "out/a/tumour.npy").dtype == np.uint8


def test_the_manifest_is_enough_to_train_without_opening_a_mask(made: tuple[Path, Path]) -> None:
    for case, record in Manifest.read(made[1]).cases.items():
        masks = pictures(made[1] / case / "masks")
        assert tuple(int(mask.sum()) for mask in masks.values()) == record.tumour_pixels
        assert record.labelled == bool(masks)
        assert set(record.hashes) == set(tree_bytes(made[1] / case)) - {"case.json"}


def test_results_hold_no_path_of_the_machine(made: tuple[Path, Path]) -> None:
    root, out = made
    for name, data in tree_bytes(out).items():
        if name.endswith(".json"):
            assert str(root.parent).encode() not in data, name
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["cases"]["lung_001"]["source"]["image"] == "imagesTr/lung_001.nii.gz"
    assert manifest["cases"]["lung_001"] == json.loads((out / "lung_001/case.json").read_text())["case"]
    assert manifest["settings"] == {"size": 16, "skip_slices": "2", "hu_min": -1000.0, "hu_max": 3071.0}


# Own data and names


@pytest.mark.parametrize("layout", ["folders", "flat", "imagesTr"])
def test_own_data_without_a_dataset_json(tmp_path: Path, layout: str) -> None:
    names = {
        "folders": ("{}/image.nii.gz", "{}/label.nii.gz"),
        "flat": ("{}.nii.gz", "{}_label.nii.gz"),
        "imagesTr": ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    }[layout]
    root = tmp_path / "root"
    for case in ("P1", "P2"):
        for name, array in zip(names, (scan_of(), label_of()), strict=True):
            write_volume(root / name.format(case), array)
    write_volume(root / {"imagesTr": "imagesTs/{}.nii.gz"}.get(layout, names[0]).format("P3"), scan_of())
    done = again(root, tmp_path / "out")
    assert done.exit_code == 0 and list(done.manifest.cases) == ["P1", "P2", "P3"]
    assert done.manifest.labelled == ["P1", "P2"]


def test_row_49_names_with_spaces_unicode_and_worse(tmp_path: Path) -> None:
    names = ["a b", "Ünïcode 肺", "-dash", "new\nline", "[x]*?", "%s {0}", ".hidden"]
    for name in names:
        write_volume(tmp_path / "root" / f"{name}.nii", scan_of())
    done = again(tmp_path / "root", tmp_path / "out dir ü")
    assert done.exit_code == 0
    assert list(done.manifest.cases) == list(Manifest.read(tmp_path / "out dir ü").cases) == sorted(names)
    assert again(tmp_path / "root", tmp_path / "out dir ü").reused == tuple(sorted(names))


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_scan_whose_name_is_that_of_the_folder_itself_harms_nothing(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / "root/good.nii.gz", scan_of())
    (tmp_path / "root" / f"{name}.nii.gz").write_bytes(b"no scan")
    (tmp_path / "bystander.txt").write_text("x")
    done = again(tmp_path / "root", tmp_path / "out")
    assert list(done.manifest.cases) == ["good"] and done.exit_code == 3
    assert len(pictures(tmp_path / "out/good/images")) == 5 and (tmp_path / "bystander.txt").exists()


# Real CT


@pytest.mark.skipif("LUNGSEG_REAL" not in os.environ, reason="LUNGSEG_REAL names no folder of real CT")
def test_a_real_scan_in_lps_is_front_up_with_the_heart_on_the_pictures_right(tmp_path: Path) -> None:
    volumes = Path(os.environ["LUNGSEG_REAL"]) / "volumes"
    (tmp_path / "root").mkdir()
    for name in ("lung_113.nii.gz", "lung_113_label.nii.gz"):
        (tmp_path / "root" / name).symlink_to(volumes / name)
    started = time.perf_counter()
    done = preprocess(tmp_path / "root", tmp_path / "out", workers=1)
    assert time.perf_counter() - started < 20  # half a second on a quiet core
    record = done.manifest.cases["lung_113"]
    assert record.orientation == "LPS" and record.slices == tuple(range(30, 99)) and done.exit_code == 0

    # nibabel's own way to R-A-S is the oracle for the place of the tumour.
    label = nib.as_closest_canonical(nib.load(volumes / "lung_113_label.nii.gz"))
    truth = np.asarray(label.dataobj)[::-1, ::-1].transpose(1, 0, 2)  # right to left, front to back
    z = int(truth.sum(axis=(0, 1)).argmax())
    mask = np.load(tmp_path / f"out/lung_113/masks/{z:03d}.npy")
    np.testing.assert_array_equal(mask, truth[::2, ::2, z])

    for z in (49, 54, 59):
        hu = np.load(tmp_path / f"out/lung_113/images/{z:03d}.npy").astype(np.float32) * 3071
        assert (hu[:50] < -900).all() and (hu[200:] > -700).any()  # the couch is at the back
        _, parts = cv2.connectedComponents((hu < -400).astype(np.uint8))
        lungs = ~np.isin(parts, [0, *np.unique(parts[[0, -1]])])  # air that does not touch the picture's edge
        columns = np.flatnonzero((hu[:190] > -200).any(axis=0))
        middle = (columns[0] + columns[-1]) // 2
        # The heart takes its place from the left lung, which is on the picture's right.
        assert lungs[:, :middle].sum() > 1.5 * lungs[:, middle:].sum() > 0


def test_a_rerun_does_not_forget_that_stacks_have_gaps(tmp_path: Path) -> None:
    root, out = write_tree(tmp_path / "root"), tmp_path / "out"
    settings = {"size": 16, "skip_slices": 2, "workers": 1}
    assert not preprocess(root, out, **settings).manifest.slice_sets
    told = preprocess(root, out, slice_sets=True, **settings)
    assert told.manifest.slice_sets and len(told.reused) == 4  # no slice is made again for it
    assert Manifest.read(preprocess(root, out, **settings).manifest.root).slice_sets
    assert not preprocess(root, out, slice_sets=False, **settings).manifest.slice_sets


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("full", [False, True])
def test_memory_is_given_back(workers: int, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One case, which this process does whatever the number of workers."""
    root = tmp_path / "root"
    write_pair(root, "only", scan_of(), label_of())
    rooms = (preprocess_case._ROOMS.image, preprocess_case._ROOMS.label)
    held = []

    def watched(*words: object) -> object:
        held.append([room._bytes.size for room in rooms])
        if full:
            raise MachineError.of("disk-full", "the disk is full")
        return slice_case(*words)

    slice_case = preprocess_case.slice_case
    monkeypatch.setattr(preprocess_case, "slice_case", watched)
    with pytest.raises(MachineError) if full else contextlib.nullcontext():
        preprocess(root, tmp_path / "out", size=16, skip_slices=2, workers=workers)
    assert min(held[0]) > 0
    assert [room._bytes.size for room in rooms] == [0, 0]


def test_a_process_that_leaves_the_cases_to_workers_imports_nothing_for_them(tmp_path: Path) -> None:
    write_tree(tmp_path / "root")
    script = tmp_path / "script.py"  # a file, because workers are spawned
    script.write_text(
        "import sys\nfrom lungseg import preprocess\n\nif __name__ == '__main__':\n"
        "    done = preprocess('root', 'out', size=16, skip_slices=2, workers=2)\n"
        "    print(len(done.manifest.cases), [name for name in ('numpy', 'cv2', 'isal') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "4 []\n", done.stderr
