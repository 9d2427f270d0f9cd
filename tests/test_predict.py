"""Masks on the scan's own grid, and the record beside them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.cli import main
from lungseg.errors import NOTICE, DataError, UsageError
from lungseg.manifest import Manifest
from lungseg.predict import predict
from lungseg.preprocess import preprocess

from .known_network import write_run
from .slices import turned
from .volumes import ALL_ORIENTATIONS, chest_like, tree_bytes, write_tree, write_volume

SHAPE, LAS_MM = (40, 32, 9), (0.75, 0.9, 2.5)
BLOCKS = {"large": (slice(8, 18), slice(10, 20), slice(3, 7)), "small": (slice(26, 31), slice(6, 11), slice(5, 7))}


def scan_with_blocks() -> tuple[np.ndarray, np.ndarray]:
    """int16 HU [left, front, head] with two bright blocks, and where they are."""
    las, truth = chest_like(SHAPE), np.zeros(SHAPE, bool)
    for block in BLOCKS.values():
        las[block], truth[block] = 2000, True
    return las, truth


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    root = write_tree(folder / "root", cases=4, test_cases=0)
    preprocess(root, folder / "slices", size=80, skip_slices=2, workers=1)
    return write_run(folder / "run", Manifest.read(folder / "slices"), hu=1000.0)


def inner_and_outer(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A truth of which one voxel is taken off, and one added, in its slices: what resizing may change."""
    from scipy import ndimage

    cross = np.zeros((3, 3, 3), bool)
    cross[:, :, 1] = True
    return ndimage.binary_erosion(truth, cross), ndimage.binary_dilation(truth, cross)


@pytest.mark.parametrize("codes", ALL_ORIENTATIONS)
def test_row_44_masks_lie_on_the_grid_of_the_scan_in_every_orientation(run: Path, tmp_path: Path, codes: str) -> None:
    las, truth = scan_with_blocks()
    array, affine = turned(las, codes, LAS_MM)
    source = write_volume(tmp_path / "scan.nii.gz", array, affine)
    predict(run, source, tmp_path / "mask.nii.gz", device="cpu")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert mask.shape == array.shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, nib.load(source).affine)
    assert nib.aff2axcodes(mask.affine) == tuple(codes)
    expected = turned(truth.astype(np.uint8), codes, LAS_MM)[0] > 0
    found = np.asarray(mask.dataobj) > 0
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(codes), nib.orientations.axcodes2ornt("LAS"))
    inner, outer = inner_and_outer(nib.orientations.apply_orientation(expected, back))
    found = nib.orientations.apply_orientation(found, back)
    assert (found >= inner).all() and (found <= outer).all()


def test_the_record_names_each_tumour(run: Path, tmp_path: Path) -> None:
    las, _ = scan_with_blocks()
    source = write_volume(tmp_path / "case one.nii.gz", *turned(las, "RPI", LAS_MM))
    done = predict(run, source, tmp_path / "out" / "mask.nii.gz", device="cpu")
    (prediction,) = done.predictions
    record = json.loads((tmp_path / "out" / "mask.json").read_text())
    assert done.exit_code == 0 and prediction.record == tmp_path / "out" / "mask.json"
    assert record["case"] == "case one" and record["notice"] == NOTICE and record["settings"]["threshold"] == 0.5
    first, second = record["tumours"]
    voxel_ml = float(np.prod(LAS_MM)) / 1000
    for tumour, (name, block) in zip((first, second), BLOCKS.items(), strict=True):
        volume = np.prod([part.stop - part.start for part in block]) * voxel_ml
        # Counted from the feet, whichever way the file goes.
        assert tumour["slices"] == [block[2].start, block[2].stop - 1], name
        assert tumour["volume_ml"] == pytest.approx(volume, rel=0.5)
        assert tumour["mean_probability"] > 0.9
        sides = [(part.stop - part.start) * size for part, size in zip(block[:2], LAS_MM[:2], strict=True)]
        assert tumour["diameter_mm"] == pytest.approx(np.hypot(*sides), abs=3.0)
    assert record["volume_ml"] == pytest.approx(first["volume_ml"] + second["volume_ml"], abs=1e-5)
    voxels = int(np.asarray(nib.load(prediction.mask).dataobj).sum())
    assert record["volume_ml"] == pytest.approx(voxels * voxel_ml, abs=1e-4)
    assert "2 tumours" in str(done) and NOTICE in str(done)


@pytest.mark.parametrize("text", ['{"numTraining": 63}', "[]", '{"notice": "", "weights": {}, "case": "a"}'])
def test_row_45_json_of_something_else_is_never_written_over(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    # As a data set has a dataset.json, and a converter writes scan.json beside scan.nii.gz.
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "RPI", LAS_MM))
    (tmp_path / "scan.json").write_text(text)
    before = tree_bytes(tmp_path)
    assert main(["predict", str(run), str(source), str(tmp_path / "scan.nii"), "--device", "cpu"]) == 2
    assert "scan.json: is JSON of something else" in capsys.readouterr().err
    assert tree_bytes(tmp_path) == before
    (tmp_path / "mask.json").write_text('{"half')  # a damaged record is made again
    for _ in range(2):
        assert predict(run, source, tmp_path / "mask.nii.gz", device="cpu").exit_code == 0


@pytest.mark.parametrize(
    "change", [{"volume_ml": 5.0}, {"volume_ml": "x"}, {"slices": 5}, {"mean_probability": None}, {"diameter_mm": {}}]
)
def test_beyond_the_list_a_record_with_another_value_is_made_again(run: Path, tmp_path: Path, change: dict) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "RPI", LAS_MM))
    predict(run, source, tmp_path / "mask.nii.gz", device="cpu")
    whole, path = tree_bytes(tmp_path), tmp_path / "mask.json"
    record = json.loads(path.read_text())
    record["tumours"][0] |= change
    path.write_text(json.dumps(record))
    predict(run, source, tmp_path / "mask.nii.gz", device="cpu", report=True)
    (tmp_path / "mask.html").unlink()
    assert tree_bytes(tmp_path) == whole


def test_a_page_shows_each_tumour_and_is_made_of_a_mask_that_is_there_too(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "<b>case.nii.gz", *turned(scan_with_blocks()[0], "RPI", LAS_MM))
    out, page = tmp_path / "mask.nii.gz", tmp_path / "mask.html"
    first = predict(run, source, out, device="cpu")
    assert first.predictions[0].page is None and not page.exists()
    before = out.read_bytes()
    done = predict(run, source, out, device="cpu", report=True)
    text = page.read_text("utf-8")
    assert done.predictions[0].page == page and out.read_bytes() == before
    record = json.loads((tmp_path / "mask.json").read_text())
    assert NOTICE in text and "2 regions in &lt;b&gt;case" in text and "<b>case" not in text
    for tumour in record["tumours"]:
        assert f"{tumour['diameter_mm']:.0f} mm across, slices {tumour['slices'][0]} to {tumour['slices'][1]}" in text
    assert text.count("<article") == 2 and str(tmp_path) not in text
    predict(run, source, tmp_path / "other.nii.gz", device="cpu", report=True)
    assert (tmp_path / "other.html").read_text("utf-8").replace("other.nii.gz", "mask.nii.gz") == text
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz"] * 3 + [".html"] * 2 + [".json"] * 2


def test_the_page_of_an_older_mask_goes_and_what_is_no_page_stays(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "LAS", LAS_MM))
    for name in ("a", "b"):
        predict(run, source, tmp_path / f"{name}.nii.gz", device="cpu", report=name == "a")
    (tmp_path / "b.html").write_text("<!DOCTYPE html>mine")
    for name in ("a", "b"):
        predict(run, source, tmp_path / f"{name}.nii.gz", device="cpu", threshold=0.9)
    assert not (tmp_path / "a.html").exists() and (tmp_path / "b.html").read_text() == "<!DOCTYPE html>mine"


def test_the_threshold_is_on_the_probability(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "LAS", LAS_MM))
    counts = []
    for threshold in (0.0, 0.3, 0.5, 0.9, 0.999):
        predict(run, source, tmp_path / "mask.nii", threshold=threshold, device="cpu")
        counts.append(int(np.asarray(nib.load(tmp_path / "mask.nii").dataobj).sum()))
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[2] > counts[-1] > 0


def test_skipped_slices_hold_no_tumour_and_can_be_changed(run: Path, tmp_path: Path) -> None:
    las = chest_like(SHAPE)
    las[8:18, 10:20] = 2000
    source = write_volume(tmp_path / "scan.nii.gz", *turned(las, "LAS", LAS_MM))
    for skip, first in ((None, 2), (5, 5), ("0", 0), ("6mm", 3)):
        predict(run, source, tmp_path / "mask.nii.gz", skip_slices=skip, device="cpu")
        shown = np.flatnonzero(np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj).any((0, 1)))
        assert shown.tolist() == list(range(first, SHAPE[2]))


def test_row_46_nothing_of_the_header_but_its_grid_is_copied(run: Path, tmp_path: Path) -> None:
    array, affine = turned(scan_with_blocks()[0], "LPS", LAS_MM)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"], image.header["db_name"] = b"DOE^JANE 1950-01-01", b"DOE JANE"
    image.header["intent_name"], image.header["aux_file"] = b"DOE JANE", b"DOE_JANE.dcm"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"PatientName=DOE^JANE"))
    folder = tmp_path / "DOE_JANE"
    folder.mkdir()
    nib.save(image, folder / "case7.nii.gz")
    predict(run, folder / "case7.nii.gz", tmp_path / "out" / "mask.nii", device="cpu")
    for path in (tmp_path / "out").iterdir():
        data = path.read_bytes()
        assert b"DOE" not in data and b"JANE" not in data and str(tmp_path).encode() not in data


def test_row_30_a_folder_is_segmented_case_by_case_and_a_bad_scan_fails_alone(run: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", cases=2, test_cases=2, shape=SHAPE)
    damaged = root / "imagesTs" / "lung_003.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    before = tree_bytes(root)
    done = predict(run, root, tmp_path / "out", device="cpu")
    assert [prediction.case for prediction in done.predictions] == ["lung_001", "lung_002", "lung_004"]
    assert [(problem.case, problem.severity) for problem in done.problems] == [("lung_003", "error")]
    assert done.exit_code == 3 and tree_bytes(root) == before
    names = {f"lung_{number:03d}{suffix}" for number in (1, 2, 4) for suffix in (".nii.gz", ".json")}
    assert set(tree_bytes(tmp_path / "out")) == names


def test_a_folder_of_scans_needs_a_folder_for_its_masks(run: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root")
    with pytest.raises(UsageError, match=r"out\.nii\.gz: is the name of one mask.*Name a folder"):
        predict(run, root, tmp_path / "out.nii.gz", device="cpu")
    assert not (tmp_path / "out.nii.gz").exists()


def test_row_45_a_rerun_leaves_whole_predictions_and_mends_damaged_ones(run: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", cases=2, test_cases=0, shape=SHAPE)
    predict(run, root, tmp_path / "out", device="cpu")
    first = tree_bytes(tmp_path / "out")
    (tmp_path / "out" / "lung_001.nii.gz").write_bytes(b"damaged")
    stamp = (tmp_path / "out" / "lung_002.nii.gz").stat().st_mtime_ns
    again = predict(run, root, tmp_path / "out", device="cpu")
    assert tree_bytes(tmp_path / "out") == first and len(again.predictions) == 2
    assert (tmp_path / "out" / "lung_002.nii.gz").stat().st_mtime_ns == stamp
    predict(run, root, tmp_path / "out", threshold=0.9, device="cpu")
    assert (tmp_path / "out" / "lung_002.nii.gz").stat().st_mtime_ns != stamp


def test_row_45_scans_are_never_overwritten(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "LAS", LAS_MM))
    before = source.read_bytes()
    link = tmp_path / "link.nii.gz"
    link.symlink_to(source)
    for out in (source, link, tmp_path / ".." / tmp_path.name / "scan.nii.gz"):
        with pytest.raises(UsageError, match="overwrite"):
            predict(run, source, out, device="cpu")
    with pytest.raises(UsageError, match="never changed"):
        predict(run, tmp_path, tmp_path / "inside", device="cpu")
    assert source.read_bytes() == before


def test_row_45_no_other_scan_or_label_of_a_data_set_is_overwritten(run: Path, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", cases=2, test_cases=0)
    before = tree_bytes(root)
    scan = root / "imagesTr" / "lung_001.nii.gz"
    for target in (root / "labelsTr" / "lung_001.nii.gz", root / "imagesTr" / "lung_002.nii.gz"):
        with pytest.raises(UsageError, match="would overwrite a scan or label"):
            predict(run, scan, target)
    assert tree_bytes(root) == before


def test_arguments_that_can_not_be_meant_are_refused_before_the_scan_is_read(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "LAS", LAS_MM))
    with pytest.raises(UsageError, match=r"\.nii\.gz or \.nii"):
        predict(run, source, tmp_path / "mask.png", device="cpu")
    with pytest.raises(UsageError, match="no such scan"):
        predict(run, tmp_path / "other.nii.gz", tmp_path / "mask.nii.gz", device="cpu")
    with pytest.raises(UsageError, match="threshold"):
        predict(run, source, tmp_path / "mask.nii.gz", threshold=1.5, device="cpu")
    with pytest.raises(UsageError, match="skip"):
        predict(run, source, tmp_path / "mask.nii.gz", skip_slices="many", device="cpu")


def test_row_45_a_bad_scan_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", *turned(scan_with_blocks()[0], "LAS", LAS_MM))
    source.write_bytes(source.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"predict: .*scan\.nii\.gz"):
        predict(run, source, tmp_path / "out" / "mask.nii.gz", device="cpu")
    with pytest.raises(DataError, match="all slices"):
        short = write_volume(tmp_path / "short.nii.gz", chest_like((40, 32, 2)))
        predict(run, short, tmp_path / "out" / "mask.nii.gz", device="cpu")
    assert not list((tmp_path / "out").iterdir())


def test_a_scan_that_is_no_hu_is_segmented_with_a_warning(run: Path, tmp_path: Path) -> None:
    source = write_volume(tmp_path / "scan.nii.gz", np.full(SHAPE, 7, np.int16))
    done = predict(run, source, tmp_path / "mask.nii.gz", device="cpu")
    assert [problem.code for problem in done.problems] == ["hu-constant"] and done.exit_code == 0
    assert json.loads((tmp_path / "mask.json").read_text())["warnings"] == ["hu-constant"]
