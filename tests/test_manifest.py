"""The record of a preprocessed folder: written and read back the same, and everything that is wrong with it is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lungseg.case_record import CaseRecord, image_name, mask_name
from lungseg.config import PreprocessConfig
from lungseg.errors import DataError
from lungseg.manifest import MANIFEST, Manifest

from .processed import write_processed
from .volumes import affine_of

RECORD = CaseRecord(
    labelled=True,
    shape=(20, 24, 6),
    affine=tuple(tuple(float(value) for value in row) for row in affine_of("LPS")),
    orientation="LPS",
    spacing_mm=(0.7, 0.8, 2.5),
    las_shape=(20, 24, 6),
    las_spacing_mm=(0.7, 0.8, 2.5),
    pad=((0, 0), (3, 4)),
    skipped=4,
    slices=(4, 5),
    tumour_pixels=(0, 17),
    tumour_voxels=40,
    tumour_voxels_skipped=12,
    tumour_box=((1, 4), (2, 7), (3, 6)),
    source={"image": "imagesTr/lung_001.nii.gz", "image_bytes": 123, "image_hash": "ab"},
    hashes={
        "images/004.npy": "0",
        "masks/004.npy": "1",
        "images/005.npy": "2",
        "masks/005.npy": "3",
        "tumour.npy": "4",
    },
    warnings=("oblique",),
)
UNLABELLED = replace(
    RECORD,
    labelled=False,
    tumour_pixels=(),
    tumour_voxels=0,
    tumour_voxels_skipped=0,
    tumour_box=None,
    hashes={"images/004.npy": "0", "images/005.npy": "2"},
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    config = PreprocessConfig(size=64, skip_slices="12.5mm")
    cases = {"ü 2": UNLABELLED, "lung_001": RECORD}
    Manifest(tmp_path, config, cases, {"lung_009": "the gzip stream is cut off"}).write()
    return Manifest.read(tmp_path)


def changed(manifest: Manifest, **values: object) -> Manifest:
    """Read the manifest again with some values of the first case's record changed."""
    path = manifest.root / MANIFEST
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cases"]["lung_001"] |= values
    path.write_text(json.dumps(content), encoding="utf-8")
    return Manifest.read(manifest.root)


def refused(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        Manifest.read(root)
    assert caught.value.problem.file == str(root / MANIFEST)
    assert "lungseg preprocess" in caught.value.problem.mend and "\n" not in str(caught.value)
    return caught.value


def test_a_manifest_of_a_later_version_is_no_damaged_one(manifest: Manifest) -> None:
    path = manifest.root / MANIFEST
    path.write_text(json.dumps({"format": 2, "lungseg": "3.1"}))
    with pytest.raises(DataError, match=r"later version of lungseg .*found format 2, version 3\.1.*Update lungseg"):
        Manifest.read(manifest.root)


def test_round_trip(manifest: Manifest) -> None:
    assert manifest.cases == {"lung_001": RECORD, "ü 2": UNLABELLED}
    assert list(manifest.cases) == ["lung_001", "ü 2"]
    assert manifest.config == PreprocessConfig(size=64, skip_slices="12.5mm")
    assert manifest.failed == {"lung_009": "the gzip stream is cut off"}
    assert manifest.labelled == ["lung_001"]
    before = (manifest.root / MANIFEST).read_bytes()
    manifest.write()
    assert (manifest.root / MANIFEST).read_bytes() == before


def test_it_is_json_that_others_can_read(manifest: Manifest) -> None:
    content = json.loads((manifest.root / MANIFEST).read_text(encoding="utf-8"))
    assert content["format"] == 1
    assert content["settings"] == {"size": 64, "skip_slices": "12.5mm", "hu_min": -1000.0, "hu_max": 3071.0}
    record = content["cases"]["lung_001"]
    assert record["affine"] == affine_of("LPS").tolist() and record["tumour_box"] == [[1, 4], [2, 7], [3, 6]]
    assert content["cases"]["ü 2"]["tumour_box"] is None


def test_names_of_slices() -> None:
    assert (image_name(0), mask_name(30)) == ("images/000.npy", "masks/030.npy")
    assert image_name(1000) == "images/1000.npy"


def test_volume_of_a_voxel() -> None:
    assert RECORD.voxel_ml == pytest.approx(0.0014)  # 0.7 x 0.8 x 2.5 mm


def test_an_unknown_case_is_named(manifest: Manifest) -> None:
    assert manifest.record("lung_001") == RECORD
    with pytest.raises(DataError, match=r"has no such case.*lung_002"):
        manifest.record("lung_002")


def test_no_manifest_says_what_the_folder_is_not(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError) as caught:
            Manifest.read(root)
        assert caught.value.problem.code == "no-manifest" and caught.value.problem.file == str(root)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format": 0, "cases": {}}', '{"format": 1}', '{"format": 1, "cases": []}',
     '{"format": 1, "cases": {}, "failed": []}', '{"format": 1, "cases": {"a": 3}}',
     '{"format": 1, "cases": {"a": {}}}',
     '{"format": 1, "cases": {}, "settings": {"size": 64, "colour": 3}}', '{"format": 1, "cases": {}, "settings": []}',
     '{"format": 1, "cases": {}, "settings": {"size": "64"}}', '{"format": 1, "cases": {}, "settings": {"size": 4}}',
     '{"format": 1, "cases": {}, "settings": {"hu_max": "x"}}',
     '{"format": 1, "cases": {}, "settings": {"hu_max": NaN}}',
     '{"format": 1, "cases": {}, "settings": {"skip_slices": 30}}'],
)  # fmt: skip
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    assert refused(tmp_path).problem.code in ("bad-json", "bad-manifest")


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc", "a/b", "a\\b", "a\0b"])
def test_case_names_that_would_lead_elsewhere_are_refused(manifest: Manifest, name: str) -> None:
    path = manifest.root / MANIFEST
    content = json.loads(path.read_text(encoding="utf-8"))
    content["cases"] = {name: content["cases"]["lung_001"]}
    path.write_text(json.dumps(content))
    assert "plain file names" in str(refused(manifest.root))


@pytest.mark.parametrize(
    "values",
    [
        {"shape": [20, 24]},
        {"shape": [20, 24, 7]},
        {"shape": [20, 24.0, 6]},
        {"shape": 3},
        {"las_shape": [20, 24, -6]},
        {"spacing_mm": [0.7, 0.8, 0]},
        {"las_spacing_mm": [0.7, 0.8, "2.5"]},
        {"affine": [[1, 0, 0, 0]] * 3},
        {"affine": [[1, 0, 0, "0"]] * 4},
        {"affine": None},
        {"pad": [[0, 0]]},
        {"pad": [[0], [0]]},
        {"pad": [[0, 0], [-3, 4]]},
        {"tumour_box": [[1, 4], [2, 7]]},
        {"tumour_box": [[1, 4], [2, 7], [3, 6.5]]},
        {"tumour_box": [[1, 4], [2, 7], [3, 7]]},
        {"tumour_box": [[4, 1], [2, 7], [3, 6]]},
        {"tumour_box": None},
        {"tumour_voxels": 0, "tumour_voxels_skipped": 0},
        {"tumour_voxels": 46},
        {"tumour_voxels_skipped": 41},
        {"slices": [], "tumour_pixels": []},
        {"spacing_mm": [0.7, 0.8, 10**400]},
        {"affine": [[1e9, 0, 0, 0]] * 4},
        {"skipped": True},
        {"slices": [5, 4]},
        {"slices": [4, 4]},
        {"slices": [4, 6]},
        {"slices": [3, 4, 5], "tumour_pixels": [0, 0, 17]},
        {"tumour_pixels": [17]},
        {"tumour_pixels": [0, None]},
        {"labelled": False},
        {"labelled": 1},
        {"hashes": {"images/004.npy": "0"}},
        {"hashes": []},
        {"source": None},
        {"colour": "blue"},
    ],
    ids=str,
)
def test_records_that_do_not_fit_together_are_refused(manifest: Manifest, values: dict) -> None:
    with pytest.raises(DataError) as caught:
        changed(manifest, **values)
    assert caught.value.problem.code == "bad-manifest" and caught.value.problem.file == str(manifest.root / MANIFEST)


def test_what_was_changed_above_is_what_was_refused(manifest: Manifest) -> None:
    assert changed(manifest, tumour_pixels=[3, 17]).cases["lung_001"] == replace(RECORD, tumour_pixels=(3, 17))


def test_a_record_that_lacks_something_is_refused(manifest: Manifest) -> None:
    path = manifest.root / MANIFEST
    for key in ("labelled", "affine", "slices", "pad", "hashes"):
        content = json.loads(path.read_text(encoding="utf-8"))
        del content["cases"]["lung_001"][key]
        path.write_text(json.dumps(content))
        refused(manifest.root)
        manifest.write()
    assert Manifest.read(manifest.root).cases == manifest.cases


def test_a_folder_can_be_moved(tmp_path: Path) -> None:
    before = write_processed(tmp_path / "here", {"a": [0, 3]})
    (tmp_path / "here").rename(tmp_path / "there")
    after = Manifest.read(tmp_path / "there")
    assert after.cases == before.cases and after.root == tmp_path / "there"
    assert str(tmp_path) not in (tmp_path / "there" / MANIFEST).read_text(encoding="utf-8")


def test_whether_the_stacks_have_gaps_is_kept(tmp_path: Path) -> None:
    manifest = write_processed(tmp_path, {"a": [0, 3]})
    assert manifest.slice_sets is False
    replace(manifest, slice_sets=True).write()
    assert Manifest.read(tmp_path).slice_sets is True
    content = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "slice_sets": "no"}))
    with pytest.raises(DataError, match="slice_sets true or false"):
        Manifest.read(tmp_path)
    del content["slice_sets"]  # as version 0.1 wrote it
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert Manifest.read(tmp_path).slice_sets is False
