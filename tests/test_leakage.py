"""A patient under another name is found; different patients never are."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from lungseg.case_record import CaseRecord, image_name
from lungseg.config import HU_MAX
from lungseg.digests import digest
from lungseg.errors import DataError, IntegrityError
from lungseg.leakage import (
    MOST_SLICES,
    NEAR_HU,
    SIDE,
    case_fingerprint,
    check_scan_unseen,
    check_unseen,
    evenly,
    fingerprint,
    look_alike,
)
from lungseg.manifest import Manifest
from lungseg.preprocess import preprocess
from lungseg.sample import write_sample
from lungseg.splits import Fold, Split

CASES = 4


def split_of(train: list[str], held_out: list[str], inner: tuple[str, ...] = ()) -> Split:
    return Split(0, tuple(train), inner, tuple(held_out), (Fold(tuple(train), tuple(held_out)),), "for the test")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Phantoms: chests that are as alike as those of one kind of patient can be."""
    folder = tmp_path_factory.mktemp("leakage")
    write_sample(folder / "root", cases=CASES, test_cases=0, shape=(96, 96, 24), workers=1)
    return preprocess(folder / "root", folder / "out", size=96, skip_slices=2, workers=1).manifest


def images_of(manifest: Manifest, case: str) -> np.ndarray:
    """HU, float32 [n, size, size]."""
    record, folder = manifest.record(case), manifest.root / case
    return np.stack([np.load(folder / image_name(z)) for z in record.slices]).astype(np.float32) * HU_MAX


def planted(manifest: Manifest, name: str, images: np.ndarray) -> Manifest:
    """The same folder with one more patient, of these pictures (HU)."""
    hashes, first = {}, next(iter(manifest.cases.values()))
    for z, image in enumerate(images):
        buffer = io.BytesIO()
        np.save(buffer, (np.clip(image, -1000, HU_MAX) / HU_MAX).astype(np.float16))
        path = manifest.root / name / image_name(z)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        hashes[image_name(z)] = digest(buffer.getvalue())
    values = {**first.as_dict(), "labelled": False, "slices": list(range(len(images))), "tumour_pixels": [],
              "tumour_voxels": 0, "tumour_voxels_skipped": 0, "tumour_box": None,
              "las_shape": [*first.las_shape[:2], len(images)], "shape": [*first.las_shape[:2], len(images)],
              "hashes": hashes, "source": {"image_hash": f"of {name}"}}  # fmt: skip
    record = CaseRecord.from_dict(values, file="test")
    return Manifest(manifest.root, manifest.config, {**manifest.cases, name: record})


def noisy(images: np.ndarray) -> np.ndarray:
    return images + np.random.default_rng(0).normal(0, 30, images.shape)


def as_jpeg(images: np.ndarray) -> np.ndarray:
    grey = ((np.clip(images, -1000, 400) + 1000) / 1400 * 255).astype(np.uint8)
    back = [cv2.imdecode(cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 0) for one in grey]
    return np.stack(back).astype(np.float32) / 255 * 1400 - 1000


def thicker(images: np.ndarray) -> np.ndarray:
    return (images[:-1:2] + images[1::2]) / 2


def rescaled(images: np.ndarray) -> np.ndarray:
    return images * 1.02 + 20


def smaller(images: np.ndarray) -> np.ndarray:
    """Saved with half as many pixels."""
    return np.stack([cv2.resize(cv2.resize(one, (48, 48), interpolation=cv2.INTER_AREA), (96, 96)) for one in images])


@pytest.mark.parametrize("change", [noisy, as_jpeg, thicker, rescaled, smaller])
def test_a_copy_under_another_name_is_refused_by_name(
    sample: Manifest, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    name = f"copy_{change.__name__}"
    manifest = planted(sample, name, change(images_of(sample, "lung_002")))
    others = [f"lung_{n:03d}" for n in range(1, CASES + 1)]
    with pytest.raises(DataError, match=f"{name}: shows the same pictures as lung_002, which was trained on"):
        check_unseen(manifest, split_of(others, [name]))
    with pytest.raises(DataError, match=f"lung_002: shows the same pictures as {name}"):
        check_unseen(manifest, split_of([name], others))
    check_unseen(manifest, split_of([*others[:1], *others[2:]], [name]))


def test_a_copy_that_only_chose_the_checkpoint_is_refused_too(sample: Manifest) -> None:
    manifest = planted(sample, "copy", images_of(sample, "lung_003"))
    with pytest.raises(DataError, match="copy: shows the same pictures as lung_003"):
        check_unseen(manifest, split_of(["lung_001"], ["copy"], inner=("lung_003",)))


def test_a_part_of_a_scan_is_enough(sample: Manifest) -> None:
    mixed = np.concatenate([images_of(sample, "lung_002")[5:11], images_of(sample, "lung_001")[:12]])
    manifest = planted(sample, "mixed", mixed)
    with pytest.raises(DataError, match=r"mixed: shows the same pictures as lung_002.*6 of 18 slices"):
        check_unseen(manifest, split_of(["lung_002", "lung_003"], ["mixed"]))


def test_all_leaks_are_named(sample: Manifest) -> None:
    manifest = planted(sample, "one", noisy(images_of(sample, "lung_001")))
    manifest = planted(manifest, "two", noisy(images_of(sample, "lung_004")))
    with pytest.raises(DataError, match=r"one: .*lung_001.*two shows the same pictures as lung_004"):
        check_unseen(manifest, split_of(["lung_001", "lung_004"], ["one", "two"]))


def test_different_patients_are_far_apart(sample: Manifest) -> None:
    prints = {case: case_fingerprint(sample, case) for case in sample.cases}
    for case, own in prints.items():
        others = np.concatenate([theirs for name, theirs in prints.items() if name != case])
        apart = np.sqrt(np.square(own[:, None] - others[None]).mean(-1))
        assert apart.min() > 1.3 * NEAR_HU
    names = sorted(sample.cases)
    check_unseen(sample, split_of(names[:2], names[2:]))


@pytest.mark.skipif("LUNGSEG_REAL" not in os.environ, reason="LUNGSEG_REAL names no folder of real CT")
def test_different_real_patients_are_far_apart(tmp_path: Path) -> None:
    build = [
        sys.executable,
        str(Path(os.environ["LUNGSEG_REAL"]) / "build_task06.py"),
        "slices",
        str(tmp_path / "tree"),
    ]
    subprocess.run(build, check=True, capture_output=True)
    manifest = preprocess(tmp_path / "tree", tmp_path / "slices", skip_slices=0, workers=2).manifest
    prints = {case: case_fingerprint(manifest, case) for case in manifest.labelled}
    assert len(prints) > 40
    for case, own in prints.items():
        assert look_alike(own, {name: theirs for name, theirs in prints.items() if name != case}) is None


def test_slices_that_show_nothing_are_left_out() -> None:
    air = np.full((3, 40, 40), -1000 / HU_MAX, np.float16)
    assert fingerprint(air).shape == (0, SIDE * SIDE)
    assert look_alike(fingerprint(air), {"a": fingerprint(air)}) is None


def test_of_long_scans_some_slices_are_looked_at() -> None:
    assert evenly(range(5, 10)) == [5, 6, 7, 8, 9] and evenly([]) == [] and evenly([7]) == [7]
    chosen = evenly(range(1000))
    assert len(chosen) == MOST_SLICES == len(set(chosen)) and (chosen[0], chosen[-1]) == (0, 999)


def test_a_scan_that_is_read_anew_is_looked_at_too(sample: Manifest) -> None:
    images = noisy(images_of(sample, "lung_001")) / HU_MAX
    split = split_of(["lung_001", "lung_002"], ["lung_003"])
    with pytest.raises(DataError, match="lung_003: shows the same pictures as lung_001"):
        check_scan_unseen("lung_003", "hash", images.astype(np.float16), sample, split)
    own = images_of(sample, "lung_003") / HU_MAX
    check_scan_unseen("lung_003", "hash", own.astype(np.float16), sample, split)


def test_a_damaged_slice_of_training_is_an_error_and_of_a_held_out_patient_is_left_to_the_scoring(
    sample: Manifest,
) -> None:
    manifest = planted(sample, "damaged", images_of(sample, "lung_004"))
    path = sample.root / "damaged" / image_name(3)
    path.write_bytes(bytes(len(path.read_bytes())))
    check_unseen(manifest, split_of(["lung_001"], ["damaged"]))
    with pytest.raises(IntegrityError, match=r"003\.npy"):
        check_unseen(manifest, split_of(["damaged"], ["lung_001"]))
