"""Shards, and training on them: every slice whole, the sampler's share of tumour, resumed to the same bits.

In an environment of its own (``make test-stream``): LitData asks for torchvision and an older dateutil.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lungseg.errors import DataError, IntegrityError, LungsegError, UsageError
from lungseg.ranks import Share
from lungseg.shards import Shards, check_index, holds_shards

pytest.importorskip("litdata", reason="needs the extra lungseg[stream]")

from lungseg.dataset import LungDataset, make_sampler
from lungseg.shard import shard
from lungseg.shard_stream import Streamed, open_shards
from lungseg.streaming import InOrder, StreamLoaders, TumourStream
from lungseg.train import train
from tests.processed import write_processed
from tests.training import TINY, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")
TRAINING = ("lung_001", "lung_002", "lung_003", "lung_004")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A preprocessed folder of six patients, a tenth of whose slices shows tumour, and its shards."""
    folder = tmp_path_factory.mktemp("shards")
    cases = {f"lung_{number:03d}": [0] * 18 + [60 + number, 90] for number in range(1, 7)}
    write_processed(folder / "processed", {**cases, "unlabelled": [0, 0]}, unlabelled=("unlabelled",))
    done = shard(folder / "processed", folder / "shards")
    assert done.slices == {"tumour": 12, "clear": 108} and done.cases == 6
    assert "12 slices in 6 files with tumour, 108 slices in 6 files without" in str(done)
    return folder / "processed", folder / "shards"


def batches(slices: Streamed, count: int, *, epoch: int = 0, own: Share = Share(), by: str = "slice") -> list[int]:  # noqa: B008
    stream = iter(TumourStream(slices, share=0.5, by=by, seed=3, epoch=epoch, own=own))
    return [next(stream)[2] for _ in range(count)]


def test_every_slice_comes_out_as_it_went_in(folders: tuple[Path, Path], tmp_path: Path) -> None:
    processed, out = folders
    assert holds_shards(out) and not holds_shards(processed)
    shards = open_shards(out)
    cases = ("lung_002", "lung_005")
    data = LungDataset(processed, cases, with_index=True)
    slices = Streamed(shards, cases, tmp_path)
    assert len(slices) == len(data) == 40
    found = list(InOrder(slices, 7, Share()))
    assert [len(batch[0]) for batch in found] == [7] * 5 + [5]
    image, mask, case = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = np.argsort(data.tumour_pixels == 0, kind="stable")  # the stream with tumour first
    expected_image, expected_mask, _ = data.batch(order.tolist())
    assert torch.equal(image, expected_image) and torch.equal(mask, expected_mask)
    assert case.tolist() == data.case_index[order].tolist()


@pytest.mark.parametrize("by", ["slice", "patient"])
def test_the_share_of_tumour_is_that_of_the_sampler(folders: tuple[Path, Path], tmp_path: Path, by: str) -> None:
    slices = Streamed(open_shards(folders[1]), TRAINING, tmp_path)
    data = LungDataset(folders[0], TRAINING)
    count = 2000
    drawn = np.array(batches(slices, count, by=by))
    assert len(set(drawn.tolist())) == count  # each draw brings another augmentation
    shows = data.tumour_pixels[drawn % len(data)] > 0
    sampled = [make_sampler(data, seed=3, epoch=epoch, by=by).draws().numpy() % len(data) for epoch in range(25)]
    sampled_shows = data.tumour_pixels[np.concatenate(sampled)] > 0
    assert abs(shows.mean() - 0.5) < 0.045 and abs(sampled_shows.mean() - 0.5) < 0.045  # four standard errors
    patients = np.bincount(data.case_index[drawn[shows] % len(data)])
    assert abs(patients / shows.sum() - 0.25).max() < 0.06
    seen = np.bincount(drawn[shows] % len(data), minlength=len(data))[data.tumour_pixels > 0]
    assert seen.max() - seen.min() <= (1 if by == "slice" else 40)  # a round shows each once


def test_no_held_out_patient_is_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shards, copy = folders[1], tmp_path / "copy"
    shutil.copytree(shards, copy)
    for files in json.loads((copy / "shards.json").read_text())["streams"].items():
        stream, cases = files
        for name, _ in [one for case in ("lung_005", "lung_006") for one in cases[case]]:
            (copy / stream / name).unlink()
    drawn = batches(Streamed(open_shards(copy), TRAINING, tmp_path), 200)
    assert {index % 80 // 20 for index in drawn} == {0, 1, 2, 3}


def test_seed_and_epoch_decide_an_epoch(folders: tuple[Path, Path], tmp_path: Path) -> None:
    slices = Streamed(open_shards(folders[1]), TRAINING, tmp_path)
    first = batches(slices, 60)
    assert batches(slices, 60) == first != batches(slices, 60, epoch=1)


def test_ranks_see_other_slices(folders: tuple[Path, Path], tmp_path: Path) -> None:
    slices = Streamed(open_shards(folders[1]), TRAINING, tmp_path)
    # 80 slices, 8 with tumour: in its first round, none of a rank's is one of the other's.
    one, two = ({index for index in batches(slices, 60, own=Share(rank, 2)) if index < 80} for rank in (0, 1))
    assert one and two and not one & two
    whole = [case.tolist() for *_, case in InOrder(slices, 7, Share())]
    parts = [[case.tolist() for *_, case in InOrder(slices, 7, Share(rank, 3))] for rank in range(3)]
    assert [sorted(index for part in taken for index in part) for taken in zip(*parts, strict=True)] == [
        sorted(batch) for batch in whole
    ]


def test_two_loading_processes_divide_the_slices(folders: tuple[Path, Path]) -> None:
    options = {"batch_size": 5, "seed": 3, "limit": 8}
    data = StreamLoaders(open_shards(folders[1]), TRAINING, (), workers=2, **options)
    data.trainer = type("Trainer", (), {"global_step": 0})()  # type: ignore[assignment]
    loader = iter(data.train_dataloader())
    drawn = [index for _ in range(8) for index in next(loader)[2].tolist()]
    first = [index for index in drawn if index < 80]
    assert len(set(drawn)) > 0.9 * len(drawn) and len(set(first)) == len(first)
    data.teardown("fit")
    assert not Path(data._cache).exists()


RECIPE = TINY.but(epochs=2, schedule="one_cycle", optimizer="adamw", batch_size=16)


def test_a_run_on_shards_goes_on_to_the_same_bits(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, out = folders
    whole = train(out, tmp_path / "whole", recipe=RECIPE, device="cpu")
    assert whole.val_dice is not None
    run = tmp_path / "cut"
    calls = iter(range(1000))
    patch = pytest.MonkeyPatch()
    with patch.context() as patched:

        def stop(*_: object) -> None:
            if next(calls) == 7:
                raise KeyboardInterrupt

        patched.setattr("lungseg.callbacks.NonFiniteGuard.on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(out, run, recipe=RECIPE, device="cpu")
    with pytest.raises(UsageError, match=r"data\.streamed"):
        train(folders[0], run, recipe=RECIPE, device="cpu", resume=True)
    again = train(out, run, device="cpu", resume=True)
    assert same_weights(whole.last, again.last)
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["streamed"] is True and config["machine"]["stream_workers"] == 0


def test_the_same_from_a_store(folders: tuple[Path, Path], tmp_path: Path) -> None:
    # What LitData calls local: is fetched and kept as from any store.
    drawn = batches(Streamed(open_shards(f"local:{folders[1]}"), TRAINING, tmp_path / "cache"), 60)
    assert drawn == batches(Streamed(open_shards(folders[1]), TRAINING, tmp_path), 60)
    assert list((tmp_path / "cache").rglob("chunk-0-*.bin"))
    with pytest.raises(LungsegError, match="does not give the records"):
        open_shards(f"local:{tmp_path / 'nothing'}")


def test_a_second_time_nothing_is_done_and_other_slices_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    processed, out = folders
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    shard(processed, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path in before} == before
    other = write_processed(tmp_path / "other", {"lung_001": [0, 5]})
    with pytest.raises(UsageError, match="other slices"):
        shard(other.root, out)
    with pytest.raises(UsageError, match="inside the preprocessed folder"):
        shard(processed, processed / "shards")
    done = shard(other.root, tmp_path / "one")
    (tmp_path / "one" / "shards.json").unlink()  # as if it had been killed before the end
    assert shard(other.root, tmp_path / "one") == done


def test_a_damaged_slice_is_never_packed_or_learned_from(folders: tuple[Path, Path], tmp_path: Path) -> None:
    processed, out = tmp_path / "processed", tmp_path / "shards"
    shutil.copytree(folders[0], processed)
    path = processed / "lung_003" / "images" / "004.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"lung_003.*004\.npy"):
        shard(processed, out)
    assert not (out / "shards.json").exists()
    shutil.copytree(folders[1], out, dirs_exist_ok=True)
    chunk = out / "tumour" / "chunk-0-0.bin"
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(IntegrityError, match="lung_001"):
        list(InOrder(Streamed(open_shards(out), ("lung_001",), tmp_path), 4, Share()))


def test_an_index_that_would_be_unpickled_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[1], tmp_path / "shards")
    path = tmp_path / "shards" / "tumour" / "index.json"
    index = json.loads(path.read_text())
    check_index(index, path)
    index["config"]["data_format"] = ["pickle"]
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match="samples of bytes"):
        open_shards(tmp_path / "shards")
    # And were it exchanged after that look, LitData would find no reader for it.
    shards = Shards.read(tmp_path / "shards", str(tmp_path / "shards"))
    with pytest.raises(DataError, match="something else than slices"):
        list(InOrder(Streamed(shards, ("lung_001",), tmp_path), 4, Share()))
