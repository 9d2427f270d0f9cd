"""A network on slices and the way back to the scan's grid."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungseg.checkpoint import load_checkpoint, save_checkpoint
from lungseg.config import AIR, HU_MAX
from lungseg.errors import IntegrityError, UsageError
from lungseg.geometry import SliceGrid, slice_to_las
from lungseg.inference import MaskVolume, Segmenter, check_threshold
from lungseg.views import mean_probability

from .known_network import write_run
from .processed import write_processed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inference")
    manifest = write_processed(folder / "slices", {f"lung_{n:03d}": [0, 3] for n in range(4)})
    return write_run(folder / "run", manifest)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_probabilities_come_slice_by_slice_in_order_whatever_the_batch(run: Path, batch_size: int) -> None:
    segmenter = Segmenter.load(run, device="cpu", batch_size=batch_size)
    slices = [np.full((8, 8), hu / HU_MAX, np.float16) for hu in (0, 1000, 200, 2000, 700)]
    found = list(segmenter.probabilities(iter(slices)))
    assert [float(p.mean().round(3)) for p in found] == [0.0, 1.0, 0.0, 1.0, 1.0]
    assert all(p.dtype == np.float32 and p.shape == (8, 8) for p in found)


def test_no_more_slices_are_taken_than_a_batch_holds(run: Path) -> None:
    segmenter, taken = Segmenter.load(run, device="cpu", batch_size=2), []
    slices = (taken.append(n) or np.full((8, 8), AIR, np.float16) for n in range(100))
    found = segmenter.probabilities(slices)
    next(found)
    assert taken == [0, 1]


def test_the_model_is_described_by_plain_values(run: Path) -> None:
    description = Segmenter.load(run, device="cpu").description
    assert description["recipe"] == "known" and description["checkpoint"] == "best.ckpt" and description["fold"] == 0
    assert len(description["sha256"]) == 64 and str(run) not in str(description)
    assert Segmenter.load(run, device="cpu", checkpoint="last").description["checkpoint"] == "last.ckpt"


def test_unknown_runs_and_checkpoints_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lungseg train"):
        Segmenter.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="best or last"):
        Segmenter.load(run, checkpoint="middle")


def test_a_changed_checkpoint_is_refused(run: Path, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in ("best.ckpt", "best.ckpt.sha256"):
        data = bytearray((run / "checkpoints" / name).read_bytes())
        data[len(data) // 2] ^= name == "best.ckpt"
        (checkpoints / name).write_bytes(data)
    with pytest.raises(IntegrityError, match="SHA-256"):
        Segmenter.load(tmp_path / "run")


def test_a_mask_volume_thresholds_on_the_scans_own_grid() -> None:
    grid = SliceGrid.of((30, 20, 4), (1.0, 1.0, 3.0), 15)  # 30 wide, 20 high: 5 rows of padding above and below
    volume = MaskVolume((30, 20, 4), grid, 0.5)
    probability = np.zeros((15, 15), np.float32)
    probability[:, :7] = 0.8  # the patient's right: low indices along L
    volume.put(2, probability)
    assert volume.mask[:, :, [0, 1, 3]].sum() == 0
    assert volume.mask[:13, :, 2].all() and not volume.mask[16:, :, 2].any()
    assert set(np.unique(volume.probability[:, :, 2])) <= set(range(205)) and volume.probability[0, 0, 2] == 204


def test_front_stays_front() -> None:
    grid = SliceGrid.of((16, 16, 1), (1.0, 1.0, 1.0), 16)
    volume = MaskVolume((16, 16, 1), grid, 0.5)
    probability = np.zeros((16, 16), np.float32)
    probability[:4] = 1.0  # the picture's top is the patient's front: high indices along A
    volume.put(0, probability)
    assert volume.mask[:, 13:, 0].all() and not volume.mask[:, :11, 0].any()


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_thresholds_that_are_no_probability_are_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold"):
        check_threshold(threshold)


@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.002, 0.5])
@pytest.mark.parametrize("highest", [0.0, 1e-5, 5e-4, 0.0019, 0.00195, 0.0021, 0.7])
def test_what_is_left_out_would_have_been_written_as_nothing(threshold: float, highest: float) -> None:
    slice_ = np.random.default_rng(0).random((16, 16), np.float32) * np.float32(highest)
    grid = SliceGrid.of((40, 32, 1), (1, 1, 1), 16)
    volume = MaskVolume((40, 32, 1), grid, threshold)
    volume.put(0, slice_)
    plane = slice_to_las(grid.grow(slice_))
    np.testing.assert_array_equal(volume.mask[:, :, 0], plane > threshold)
    np.testing.assert_array_equal(volume.probability[:, :, 0], np.rint(plane * 255.0))


def test_the_mirror_image_is_predicted_too_and_turned_back(run: Path) -> None:
    plain = Segmenter.load(run, device="cpu")
    image = np.random.default_rng(0).normal(0.1, 0.1, (8, 8)).astype(np.float16)
    both = next(replace(plain, mirror=True).probabilities([image]))
    one, other = plain.probabilities([image, image[:, ::-1].copy()])
    np.testing.assert_allclose(both, (one + other[:, ::-1]) / 2, atol=1e-6)


def test_other_zooms_are_predicted_too(run: Path) -> None:
    plain = Segmenter.load(run, device="cpu")
    image = np.random.default_rng(0).normal(0.1, 0.1, (40, 40)).astype(np.float16)
    found = next(replace(plain, zooms=(1.5,)).probabilities([image]))
    with torch.inference_mode():
        expected = mean_probability(plain.net, torch.from_numpy(image).float()[None, None], zooms=(1.5,))[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - next(plain.probabilities([image]))).max() > 1e-4


@pytest.mark.parametrize("zooms", [[9.0], "1.25", [None]])
def test_zooms_that_can_not_be_meant_are_refused(run: Path, tmp_path: Path, zooms: Any) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    content = load_checkpoint(own / "checkpoints/best.ckpt")
    content["hyper_parameters"]["config"]["recipe"]["test_zooms"] = zooms
    save_checkpoint(content, own / "checkpoints/best.ckpt")
    with pytest.raises(IntegrityError, match="at which zooms"):
        Segmenter.load(own, device="cpu")
