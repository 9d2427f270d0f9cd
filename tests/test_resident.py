"""Batches gathered where the slices lie are the very ones that a loader gives, in training as in validation."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lungseg.augment import augment_named
from lungseg.dataset import LungDataset
from lungseg.loaders import SliceLoaders, fits_on_device
from lungseg.randomness import SampleRandom
from lungseg.train import train

from .training import TINY, same_weights, write_slices

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "processed").root


def loaders(folder: Path, resident: torch.device | None) -> SliceLoaders:
    options: dict[str, Any] = {"with_index": True, "in_memory": True}
    training = LungDataset(folder, ["lung_001", "lung_002", "lung_003"], **options)
    validation = LungDataset(folder, ["lung_004", "lung_005"], **options)
    data = SliceLoaders(training, validation, batch_size=5, seed=3, resident=resident)
    data.trainer = SimpleNamespace(global_step=6)  # type: ignore[assignment]
    return data


@pytest.mark.parametrize("which", ["train_dataloader", "val_dataloader"])
def test_batches_are_those_of_a_loader(folder: Path, which: str) -> None:
    usual, gathered = (getattr(loaders(folder, resident), which)() for resident in (None, CPU))
    assert len(usual) == len(gathered) and len(list(gathered)) == len(gathered)
    for expected, found in zip(usual, gathered, strict=True):
        for one, other in zip(expected, found, strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)


def test_a_run_ends_in_the_same_weights(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = train(folder, tmp_path / "usual", recipe=TINY, device="cpu", in_memory=True, workers=0)
    made: list[torch.device | None] = []
    plain = SliceLoaders.__init__

    def noted(self: SliceLoaders, *args: Any, **options: Any) -> None:
        made.append(options["resident"])
        plain(self, *args, **options)

    monkeypatch.setattr(SliceLoaders, "__init__", noted)
    monkeypatch.setattr(sys.modules["lungseg.training_data"], "fits_on_device", lambda *_: True)
    gathered = train(folder, tmp_path / "gathered", recipe=TINY, device="cpu", in_memory=True, workers=0)
    assert made == [CPU]
    assert same_weights(usual.last, gathered.last) and usual.val_dice == gathered.val_dice


def test_a_cpu_is_no_device_to_keep_slices_on() -> None:
    assert not fits_on_device(1, 8, CPU)


def test_only_whole_training_batches_are_compiled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[int] = []

    def compiled(net: torch.nn.Module, **_: Any) -> Any:
        return lambda image: shapes.append(len(image)) or net(image)

    usual = train(folder, tmp_path / "usual", recipe=TINY, device="cpu", epochs=1, batch_size=5)
    monkeypatch.setattr(torch, "compile", compiled)
    quick = train(folder, tmp_path / "quick", recipe=TINY, device="cpu", epochs=1, batch_size=5, compile=True)
    assert shapes and set(shapes) == {5}
    assert same_weights(usual.last, quick.last)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gathers_and_augments_the_same_samples(folder: Path) -> None:
    augment = augment_named("torch")
    assert augment is not None
    for (image, mask, index), found in zip(
        loaders(folder, None).train_dataloader(),
        loaders(folder, torch.device("cuda")).train_dataloader(),
        strict=True,
    ):
        assert torch.equal(index, found[2].cpu())
        on_cpu, on_gpu = (augment(*pair, SampleRandom(0, 1, pair_index)) for pair, pair_index in
                          (((image, mask), index), (found[:2], found[2])))  # fmt: skip
        torch.testing.assert_close(on_gpu[0].cpu(), on_cpu[0], rtol=0, atol=1e-3)
        assert (on_gpu[1].cpu() != on_cpu[1]).float().mean() < 1e-3
