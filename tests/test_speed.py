"""A guard against getting slower unnoticed: by CPU time against a plain reference beside it, and by counts; no seconds.

Each ratio is the best of several rounds in turns, on a scan of CI's size, and its limit leaves about a factor of two to
what was measured when it was set: a machine under load passes, a lost optimisation does not.  `make bench` measures the
real thing.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import nibabel as nib
import numpy as np
import pytest
import torch

from lungseg import slice_file
from lungseg.augment_torch import TorchAugment
from lungseg.case_folder import slice_case
from lungseg.config import PreprocessConfig
from lungseg.dataset import LungDataset
from lungseg.nifti import read_scan
from lungseg.randomness import SampleRandom

from .processed import write_processed
from .volumes import chest_like, write_volume

SHAPE = (256, 256, 48)


def cheapest(ours: Callable[[], Any], reference: Callable[[], Any], rounds: int = 5) -> float:
    """CPU time of ours over that of the reference, each the least of ``rounds`` in turns."""
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for which, function in enumerate((ours, reference)):
            started = time.process_time()
            function()
            least[which] = min(least[which], time.process_time() - started)
    return least[0] / least[1]


@pytest.fixture
def one_thread() -> Any:
    threads, opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(opencv)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    write_volume(path, chest_like(SHAPE))
    return path


def plain_preprocessing(scan: Path, out: Path) -> None:
    """What a first version would do: read by nibabel, a slice at a time in float64, saved by numpy."""
    out.mkdir(exist_ok=True)
    voxels = np.asarray(nib.load(scan).get_fdata())
    for z in range(30, voxels.shape[2]):
        picture = np.clip(voxels[:, :, z], -1000, 3071) / 3071
        np.save(out / f"{z}.npy", cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA).astype(np.float16))


def test_preprocessing_a_scan(scan: Path, tmp_path: Path, one_thread: None) -> None:
    config = PreprocessConfig(size=128)
    ratio = cheapest(
        lambda: slice_case(tmp_path / "ours", read_scan(scan), None, {}, config, ()),
        lambda: plain_preprocessing(scan, tmp_path / "plain"),
    )
    assert ratio < 0.85


def test_a_slice_folder_costs_one_file_operation_each(scan: Path, tmp_path: Path, monkeypatch) -> None:
    """Opening and writing is one each a slice; moving is one a folder, whatever the number of slices."""
    counts: dict[str, int] = {}

    def counted(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            counts[name] = counts.get(name, 0) + 1
            return function(*args, **options)

        return call

    image = read_scan(scan)
    for name in ("open", "write", "replace", "unlink"):
        monkeypatch.setattr(os, name, counted(name))
    slice_case(tmp_path / "case", image, None, {}, PreprocessConfig(size=64), ())
    slices = SHAPE[2] - 30
    assert counts["open"] <= slices + 4 and counts["write"] == slices and counts["replace"] == 1
    assert counts.get("unlink", 0) <= 2


def plain_augmentation(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> None:
    """The same transform with OpenCV: a whole noise field smoothed, and both remapped."""
    size = len(image)
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), 30, 1.1)
    axis = np.arange(size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    moved = [turn[i, 0] * x + turn[i, 1] * y + turn[i, 2] for i in range(2)]
    for i in range(2):
        noise = generator.uniform(-1, 1, (size, size)).astype(np.float32)
        moved[i] = (moved[i] + 20 * cv2.GaussianBlur(noise, (0, 0), 6.0)).astype(np.float32)
    cv2.remap(image, moved[0], moved[1], cv2.INTER_LINEAR, borderValue=-0.3256)
    cv2.remap(mask, moved[0], moved[1], cv2.INTER_NEAREST)


def test_augmenting_a_batch(one_thread: None) -> None:
    image, mask = torch.rand(8, 1, 256, 256), (torch.rand(8, 1, 256, 256) > 0.9).float()
    augment, generator = TorchAugment(), np.random.default_rng(0)
    pixels, labels = image.numpy()[:, 0], mask.numpy()[:, 0]
    augment(image, mask, SampleRandom(0, 0, range(8)))
    ratio = cheapest(
        lambda: augment(image, mask, SampleRandom(0, 0, range(8))),
        lambda: [plain_augmentation(*pair, generator) for pair in zip(pixels, labels, strict=True)],
    )
    assert ratio < 1.0


def test_loading_opens_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = LungDataset(write_processed(tmp_path, {"lung_001": [9] * 16}), ["lung_001"])
    opened: list[str] = []

    def noted(path: str, *args: Any, **options: Any) -> Any:
        opened.append(path)
        return open(path, *args, **options)

    monkeypatch.setattr(slice_file, "open", noted, raising=False)
    dataset.batch(range(16))
    assert len(opened) == len(set(opened)) == 2 * 16


def test_loading_a_batch(tmp_path: Path, one_thread: None) -> None:
    manifest = write_processed(tmp_path, {"lung_001": [9] * 16})
    dataset = LungDataset(manifest, ["lung_001"])
    files = [(tmp_path / "lung_001" / kind / dataset.image_path(i).name).read_bytes()
             for i in range(16) for kind in ("images", "masks")]  # fmt: skip

    def plain() -> None:
        torch.stack([torch.from_numpy(np.load(io.BytesIO(data)).astype(np.float32)) for data in files])

    indices = list(range(16)) * 4
    held = LungDataset(manifest, ["lung_001"], in_memory=True)
    assert cheapest(lambda: dataset.batch(indices), lambda: [plain() for _ in range(4)]) < 0.8
    # From memory there is one gather a batch, which no file can be as quick as.
    assert cheapest(lambda: held.batch(indices), lambda: dataset.batch(indices)) < 0.5
