"""Batches: what is drawn when, that validation is left as it is, and when slices are kept in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import SequentialSampler

import lungseg.loaders
from lungseg.dataset import LungDataset, make_sampler
from lungseg.errors import IntegrityError
from lungseg.loaders import SliceLoaders, fits_in_memory
from lungseg.ranks import Share

from .training import write_slices


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "processed").root


def loaders(folder: Path, *, step: int = 0, **options: Any) -> SliceLoaders:
    """The loaders of a run after so many steps."""
    in_memory = options.pop("in_memory", False)
    training = LungDataset(folder, ["lung_001", "lung_002", "lung_003"], with_index=True, in_memory=in_memory)
    validation = LungDataset(folder, ["lung_004", "lung_005"], with_index=True, in_memory=in_memory)
    data = SliceLoaders(training, validation, **{"batch_size": 5, "seed": 3} | options)
    data.trainer = SimpleNamespace(global_step=step)  # type: ignore[assignment]
    return data


def indices(loader: Any) -> Iterator[int]:
    return (int(index) for batch in loader for index in batch[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_draws_by_weight_and_epoch(folder: Path, workers: int) -> None:
    first = list(indices(loaders(folder, workers=workers).train_dataloader()))
    again, second = (list(indices(loaders(folder, step=step).train_dataloader())) for step in (2, 3))
    data = loaders(folder).training
    assert first == again == list(make_sampler(data, seed=3, epoch=0))
    assert second == list(make_sampler(data, seed=3, epoch=1)) != first
    assert len(first) == len(data) == 12


def test_a_resumed_run_draws_what_the_uninterrupted_one_would(folder: Path) -> None:
    data = loaders(folder, step=3 * 7)
    data.train_dataloader()
    assert data.training.epoch == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_shows_each_slice_once_in_order_without_sampler(folder: Path, workers: int) -> None:
    loader = loaders(folder, workers=workers).val_dataloader()
    assert type(loader.sampler) is SequentialSampler
    batches = list(loader)
    assert [len(batch[0]) for batch in batches] == [5, 3]
    assert torch.cat([batch[2] for batch in batches]).tolist() == [0] * 4 + [1] * 4  # which patient
    data = LungDataset(folder, ["lung_004", "lung_005"])
    assert torch.equal(torch.cat([batch[0] for batch in batches]), torch.stack([image for image, _ in data]))
    assert torch.equal(torch.cat([batch[1] for batch in batches]), torch.stack([mask for _, mask in data]))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("resident", [None, torch.device("cpu")])
def test_ranks_share_every_batch_that_one_process_draws(
    folder: Path, ranks: int, resident: torch.device | None
) -> None:
    def drawn(share: Share, step: int, stage: str) -> list[list[int]]:
        data = loaders(folder, own=share, step=step, resident=resident, in_memory=resident is not None)
        return [batch[2].tolist() for batch in getattr(data, f"{stage}_dataloader")()]

    for step, stage in ((0, "train"), (3, "train"), (0, "val")):
        whole = drawn(Share(), step, stage)
        parts = [drawn(Share(rank, ranks), step, stage) for rank in range(ranks)]
        for number, batch in enumerate(whole):
            taken = [part[number] for part in parts]
            assert Counter(batch) == Counter(index for one in taken for index in one)  # the same draws, each once
            assert max(map(len, taken)) - min(map(len, taken)) <= 1
        assert [len(part) for part in parts] == [len(whole)] * ranks
        if stage == "train":
            everything = [index for part in parts for batch in part for index in batch]
            assert len(set(everything)) == len(everything) == 12  # no rank sees another's draws


def test_no_validation_patients_are_no_loader(folder: Path) -> None:
    data = SliceLoaders(LungDataset(folder, ["lung_001"], with_index=True), None, batch_size=2, seed=0)
    assert data.val_dataloader() == []


@pytest.mark.parametrize(("limit", "steps"), [(0, 3), (2, 2), (9, 3)])
def test_steps_of_an_epoch(folder: Path, limit: int, steps: int) -> None:
    assert loaders(folder, limit=limit).steps_per_epoch == steps


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_worker_comes_whole(folder: Path, workers: int) -> None:
    path = folder / "lung_005" / "images" / "002.npy"
    path.write_bytes(b"")
    data = loaders(folder, workers=workers)
    with pytest.raises(IntegrityError) as caught:
        for batch in data.val_dataloader():
            data.on_before_batch_transfer(batch, 0)
    assert (caught.value.problem.file, caught.value.problem.case) == (str(path), "lung_005")


def test_slices_are_kept_where_they_take_under_two_fifths_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # Task06_Lung: 15,767 slices of 256 x 256 at 3 bytes are 3.1 GB.
    monkeypatch.setattr(lungseg.loaders, "available_memory", lambda: 8_000_000_000)
    assert fits_in_memory(15_767, 256) and not fits_in_memory(15_767, 512)
    monkeypatch.setattr(lungseg.loaders, "available_memory", lambda: 7_000_000_000)
    assert not fits_in_memory(15_767, 256)
