"""The dataset on tiny folders: what a sample is, that it depends on (seed, epoch, index) alone, and bad files."""

from __future__ import annotations

import multiprocessing
import pickle  # noqa: TID251 (how errors cross from a worker)
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lungseg.augment import SliceBySlice, augment_named
from lungseg.config import AIR
from lungseg.dataset import LungDataset, make_sampler
from lungseg.errors import DataError, IntegrityError, UsageError
from lungseg.manifest import Manifest
from lungseg.sampler import number_repeats, sampler_weights
from lungseg.slice_file import mask_path, read_slice

from .processed import write_processed

CASES = {"lung_001": [0, 40, 100], "lung_002": [0, 0], "lung_003": [7]}


@pytest.fixture
def folder(tmp_path: Path) -> Manifest:
    return write_processed(tmp_path / "processed", CASES)


def test_samples_are_the_written_slices(folder: Manifest) -> None:
    data = LungDataset(folder.root, ["lung_003", "lung_001"])
    assert len(data) == 4
    assert data.case_index.tolist() == [0, 1, 1, 1]
    assert data.slice_index.tolist() == [0, 0, 1, 2]
    assert data.tumour_pixels.tolist() == [7, 0, 40, 100]
    for index, (image, mask) in enumerate(data):
        assert image.shape == mask.shape == (1, 32, 32)
        assert image.dtype == mask.dtype == torch.float32
        assert mask.sum() == data.tumour_pixels[index]
        assert torch.equal((image[:, :-1] > 0).float(), mask[:, :-1])
        assert image[0, -2, 0].item() == pytest.approx(AIR, abs=2e-4)  # float16
    assert data[0][0][0, -1, -1].item() == 5 / 1024  # the number of lung_003's slice
    assert torch.equal(data[-1][0], data[3][0])
    with pytest.raises(IndexError):
        data[-5]


def test_mask_path_goes_by_the_last_folder_only() -> None:
    assert mask_path("/images/images/images/030.npy") == Path("/images/images/masks/030.npy")
    with pytest.raises(UsageError, match="no slice's image"):
        mask_path("/images/case/030.npy")


def test_in_memory_and_batches_give_the_same(folder: Manifest) -> None:
    read = LungDataset(folder, folder.labelled, with_index=True)
    held = LungDataset(folder, folder.labelled, with_index=True, in_memory=True)
    for one, other in zip(read.batch([3, 0, 3]), held.batch(torch.tensor([3, 0, 3])), strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype
    for one, other in zip(read, held, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_unlabelled_cases_are_refused_unless_asked_for(tmp_path: Path) -> None:
    folder = write_processed(tmp_path, {"a": [0, 3], "b": [4]}, unlabelled=("a",))
    with pytest.raises(UsageError, match=r"no label to learn from.*found a"):
        LungDataset(folder, ["a", "b"])
    data = LungDataset(folder, ["a", "b"], labels=False)
    assert [int(mask.sum()) for _, mask in data] == data.tumour_pixels.tolist() == [0, 0, 4]


@pytest.mark.parametrize(
    ("cases", "said"), [(["x", "lung_001", "y"], "found x, y"), (["lung_001"] * 2, "more than once"), ([], "no slices")]
)
def test_bad_case_lists(folder: Manifest, cases: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        LungDataset(folder, cases)


def spoil(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "zeros":
        path.write_bytes(bytes(len(data)))
    elif how == "truncated":
        path.write_bytes(data[:-100])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "longer":
        path.write_bytes(data + b"x")
    elif how == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif how == "huge":
        path.write_bytes(data[:128].replace(b"(32, 32), }", b"(2**40,),}").replace(b"2**40", b"99999"))
    elif how == "other type":
        np.save(path, np.zeros((32, 32), np.float64))
    elif how == "other shape":
        np.save(path, np.zeros((32, 31), np.float16))
    elif how == "by column":
        np.save(path, np.asfortranarray(np.random.default_rng(0).random((32, 32)).astype(np.float16)))


FAULTS = ["zeros", "truncated", "empty", "longer", "pickle", "huge", "other type", "other shape", "by column"]


@pytest.mark.parametrize("how", ["missing", *FAULTS])
@pytest.mark.parametrize("in_memory", [False, True])
def test_row_33_bad_files_are_named(folder: Manifest, how: str, in_memory: bool) -> None:
    path = folder.root / "lung_001" / "images" / "001.npy"
    spoil(path, how)
    with pytest.raises(DataError if how == "missing" else IntegrityError) as caught:
        list(LungDataset(folder, folder.labelled, in_memory=in_memory))
    assert (caught.value.problem.file, caught.value.problem.case) == (str(path), "lung_001")
    assert "lungseg preprocess" in caught.value.problem.mend


@pytest.mark.parametrize("how", FAULTS)
def test_row_33_bad_files_are_found_without_hashes_too(folder: Manifest, how: str) -> None:
    path = folder.root / "lung_001" / "images" / "001.npy"
    spoil(path, how)
    with pytest.raises(DataError, match=r"images/001\.npy: the slice is damaged"):
        read_slice(path, np.float16, 32)


def test_a_flipped_bit_is_found_by_the_hash_alone(folder: Manifest) -> None:
    path = folder.root / "lung_003" / "masks" / "000.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"masks/000\.npy"):
        LungDataset(folder, ["lung_003"])[0]
    assert LungDataset(folder, ["lung_003"], check=False)[0][1].sum() == 8


@pytest.mark.parametrize("engine", ["torch", "imgaug"])
def test_samples_do_not_depend_on_the_workers(folder: Manifest, engine: str) -> None:
    if engine == "imgaug":
        pytest.importorskip("cv2")
    data = LungDataset(folder, folder.labelled, augment=augment_named(engine), seed=3, with_index=True)

    def epoch(number: int, loader: DataLoader) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        data.set_epoch(number)
        return {
            int(index): (image, mask)
            for images, masks, indices in loader
            for image, mask, index in zip(images, masks, indices, strict=True)
        }

    alone = [epoch(number, DataLoader(data, batch_size=4)) for number in (0, 1)]
    loader = DataLoader(data, batch_size=1, num_workers=2, persistent_workers=True, shuffle=True)
    shared = [epoch(number, loader) for number in (0, 1)]
    assert sorted(alone[0]) == list(range(len(data)))
    for number in (0, 1):
        for index in alone[number]:
            # Matrix products of another batch size may round in another way; drawn numbers are the same.
            torch.testing.assert_close(alone[number][index][0], shared[number][index][0], rtol=0, atol=1e-4)
            assert (alone[number][index][1] != shared[number][index][1]).sum() <= 1
    assert not torch.equal(alone[0][2][0], alone[1][2][0])


def test_spawned_workers_get_the_same(folder: Manifest) -> None:
    data = LungDataset(folder, ["lung_003"], augment=augment_named("torch"), in_memory=True)
    data.set_epoch(4)
    loader = DataLoader(data, num_workers=1, multiprocessing_context=multiprocessing.get_context("spawn"))
    image, mask = next(iter(loader))
    torch.testing.assert_close(image[0], data[0][0], rtol=0, atol=1e-4)
    assert torch.equal(mask[0], data[0][1])


def test_a_repeated_draw_is_the_same_slice_in_another_transform(folder: Manifest) -> None:
    plain = LungDataset(folder, folder.labelled)
    data = LungDataset(folder, folder.labelled, augment=augment_named("torch"))
    n = len(data)
    assert torch.equal(plain[2][0], plain[2 + n][0])
    assert not torch.equal(data[2][0], data[2 + n][0])
    assert torch.equal(data[2 + n][0], data[2 + n][0])


def test_row_35_a_workers_error_arrives_readable(folder: Manifest) -> None:
    spoil(folder.root / "lung_001" / "images" / "001.npy", "truncated")
    loader = DataLoader(LungDataset(folder, folder.labelled), num_workers=1)
    with pytest.raises(IntegrityError) as caught:
        list(loader)
    message = str(caught.value)
    assert "lung_001/images/001.npy" in message and "lungseg preprocess" in message
    assert "Traceback" not in message and "\n" not in message
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert str(again) == message


def test_row_35_a_failing_augmentation_names_the_slice(folder: Manifest) -> None:
    def broken(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        raise RuntimeError("no such filter")

    data = LungDataset(folder, ["lung_003"], augment=SliceBySlice(broken))
    with pytest.raises(UsageError, match=r"lung_003/000\.npy: .*RuntimeError: no such filter"):
        data[0]


def test_weights_of_the_users_data() -> None:
    # The user's published training slices: 12,949 without and 1,521 with tumour, weight 8.51.
    counts = np.concatenate([np.zeros(12_949, int), np.full(1_521, 5)])
    weights = sampler_weights(counts)
    assert weights.dtype == np.float64
    assert weights[0] == 1.0 and round(weights[-1], 2) == 8.51
    assert weights[counts > 0].sum() == pytest.approx(weights[counts == 0].sum())


@pytest.mark.parametrize("counts", [[0, 0, 0], [3, 1], []])
def test_weights_where_one_kind_is_missing(counts: list[int]) -> None:
    assert sampler_weights(counts).tolist() == [1.0] * len(counts)


def test_weights_of_task06_take_under_20_ms() -> None:
    counts = np.random.default_rng(0).integers(-200, 20, 15_767).clip(0)
    best = min(_seconds(lambda: sampler_weights(counts)) for _ in range(5))
    assert best < 0.02


def test_sampler_draws_half_tumour_and_is_decided_by_seed_and_epoch(tmp_path: Path) -> None:
    data = LungDataset(write_processed(tmp_path, {"a": [0] * 95 + [9] * 5}, size=8), ["a"])
    before = torch.get_rng_state()
    epochs = [torch.tensor(list(make_sampler(data, seed=0, epoch=epoch))) for epoch in range(20)]
    assert torch.equal(before, torch.get_rng_state())
    share = np.mean([data.tumour_pixels[(draws % 100).numpy()] > 0 for draws in epochs])
    assert abs(share - 0.5) < 0.06  # 2000 draws: 5 standard errors
    sampler = make_sampler(data, seed=0, epoch=3)
    assert isinstance(sampler, torch.utils.data.WeightedRandomSampler)
    assert list(sampler) == list(sampler) == epochs[3].tolist()
    assert len({tuple(draws.tolist()) for draws in epochs}) == 20
    assert list(make_sampler(data, seed=1, epoch=0)) != epochs[0].tolist()


def test_repeats_are_numbered_in_order() -> None:
    assert number_repeats(torch.tensor([2, 0, 2, 2, 1, 0]), 10).tolist() == [2, 0, 12, 22, 1, 10]
    assert number_repeats(torch.tensor([], dtype=torch.int64), 10).tolist() == []


def _seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
