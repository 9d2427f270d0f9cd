"""Slices above and below as channels: the right ones, in training as in use, and refused where there are none."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungseg.augment import SliceBySlice, augment_named
from lungseg.augment_torch import TorchAugment
from lungseg.callbacks import EndOfRun
from lungseg.cli import main
from lungseg.config import AugmentConfig, PreprocessConfig, Recipe, UNetConfig
from lungseg.crossval import crossval
from lungseg.dataset import LungDataset
from lungseg.ensemble import load_segmenter
from lungseg.errors import IntegrityError, LungsegError, UsageError
from lungseg.evaluate import evaluate
from lungseg.export import export
from lungseg.inference import Segmenter
from lungseg.manifest import Manifest
from lungseg.neighbours import ALONE, Neighbours
from lungseg.placement import Place
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.probe import probe
from lungseg.randomness import SampleRandom
from lungseg.sample import write_sample
from lungseg.shards import Shards
from lungseg.splits import Split
from lungseg.train import train
from lungseg.training_data import run_loaders
from lungseg.training_settings import check_recipe

from .processed import write_processed
from .training import TINY, same_weights

pytestmark = pytest.mark.usefixtures("one_thread")
THREE = TINY.but(neighbours=1, augmentation=AugmentConfig(window=16))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of five small phantoms, and beside it their slices, a run of one fold and a cross-validated run."""
    folder = tmp_path_factory.mktemp("whole")
    write_sample(folder / "tree", cases=5, test_cases=0, shape=(48, 48, 20), workers=1)
    preprocess(folder / "tree", folder / "slices", size=32, skip_slices=2, workers=1)
    recipe = THREE.but(inner_val=0.3, test_mirror=True)
    train(folder / "slices", folder / "run", recipe=recipe)
    crossval(folder / "slices", folder / "folds", recipe=recipe.but(epochs=1, inner_val=0.0), n_folds=2)
    return folder


# Which


@pytest.mark.parametrize(
    ("slice_mm", "steps"),
    [(0.6, (-8, -4, 0, 4, 8)), (1.0, (-4, -2, 0, 2, 4)), (2.5, (-2, -1, 0, 1, 2)), (8.0, (-2, -1, 0, 1, 2))],
)
def test_neighbours_lie_apart_in_millimetres_and_by_a_slice_at_least(slice_mm: float, steps: tuple[int, ...]) -> None:
    assert Neighbours(2, 2.5).steps(slice_mm) == steps
    assert ALONE.steps(slice_mm) == (0,) and ALONE.channels == 1


def test_beyond_the_ends_is_the_end_and_in_a_gap_the_slice_itself() -> None:
    assert Neighbours(1, 2.0).table([5, 6, 7, 8, 9], 1.0).tolist() == [
        [0, 0, 2], [0, 1, 3], [0, 2, 4], [1, 3, 4], [2, 4, 4],
    ]  # fmt: skip
    assert Neighbours(1, 1.0).table([5, 6, 9, 10], 1.0).tolist() == [[0, 0, 1], [0, 1, 1], [2, 2, 3], [2, 3, 3]]
    assert ALONE.table([3, 4, 8], 1.0).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("seed", range(20))
def test_stacks_are_what_the_table_says_and_little_is_held(seed: int) -> None:
    random = np.random.default_rng(seed)
    places = np.flatnonzero(random.random(60) < random.choice([0.5, 0.9, 1.1]))
    neighbours = Neighbours(int(random.integers(0, 4)), float(random.choice([1.0, 2.0, 3.5])))
    slices = random.random((len(places), 2, 3))
    read = iter(slices)
    taken: list[int] = []

    def one_by_one():
        for index, one in enumerate(read):
            taken.append(index)
            yield one

    reach = max(neighbours.steps(1.0))
    for index, stack in enumerate(neighbours.stacks(one_by_one(), places.tolist(), 1.0)):
        assert np.array_equal(stack, slices[neighbours.table(places, 1.0)[index]])
        assert len(taken) <= index + reach + 1
    assert len(taken) == len(places)


def test_no_slices_give_no_stacks() -> None:
    assert list(Neighbours(1).stacks(iter(()), [], 1.0)) == []


# In training


def test_a_sample_shows_slices_of_its_own_scan(tmp_path: Path) -> None:
    manifest = write_processed(tmp_path / "slices", {"a": [0, 5, 9, 0], "b": [3, 0, 0]})
    cases, two = ("b", "a"), Neighbours(1, 1.0)
    plain = LungDataset(manifest, cases)
    table = [[0, 0, 1], [0, 1, 2], [1, 2, 2], [3, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 6]]
    for in_memory in (False, True):
        data = LungDataset(manifest, cases, neighbours=two, in_memory=in_memory)
        if in_memory:
            data.hold_on(torch.device("cpu"))
        image, mask = data.batch([6, 0, 4, 8])[:2]
        assert image.shape == (4, 3, 32, 32) and mask.shape == (4, 1, 32, 32) and image.dtype == torch.float32
        for found, label, index in zip(image, mask, [6, 0, 4, 1], strict=True):
            assert torch.equal(found, torch.cat([plain[other][0] for other in table[index]]))
            assert torch.equal(label, plain[index][1])


def test_stacks_with_gaps_have_no_neighbours(tmp_path: Path) -> None:
    manifest = replace(write_processed(tmp_path / "slices", {f"p{k}": [0, 9, 0] for k in range(6)}), slice_sets=True)
    manifest.write()
    for begin, record in ((train, "config.json"), (crossval, "crossval.json")):
        with pytest.raises(UsageError, match="gaps") as caught:
            begin(manifest.root, tmp_path / "run", recipe=THREE)
        assert caught.value.problem.code == "no-neighbours" and not (tmp_path / "run" / record).exists()
    for command in (["reproduce", "--plan"], ["reproduce"]):
        name, *options = command
        assert main([name, str(tmp_path / "out"), "--slice-sets", "--neighbours", "1", *options]) == 2
    assert not (tmp_path / "out").exists()
    LungDataset(manifest, ["p1"])


def test_shards_have_no_neighbours(tmp_path: Path) -> None:
    shards = Shards(str(tmp_path / "shards"), Manifest(tmp_path, PreprocessConfig(), {}), {})
    split = Split(0, ("a",), (), ("b",), (), "")
    here: dict[str, Any] = {
        "workers": 0,
        "in_memory": None,
        "limit": 0,
        "device": torch.device("cpu"),
        "place": Place(),
    }
    with pytest.raises(UsageError, match="one slice at a time") as caught:
        run_loaders(shards, split, THREE, None, **here)
    assert caught.value.problem.file == str(tmp_path / "shards")


def test_slices_whose_network_has_neighbours_are_not_scored_once_they_have_gaps(whole: Path, tmp_path: Path) -> None:
    slices, run = (shutil.copytree(whole / name, tmp_path / name) for name in ("slices", "run"))
    replace(Manifest.read(slices), slice_sets=True).write()
    with pytest.raises(UsageError, match="gaps"):
        evaluate(run, report=False)


def test_an_engine_of_single_slices_is_refused() -> None:
    engine = SliceBySlice(lambda image, mask, seed: (image, mask))
    with pytest.raises(UsageError, match="slice at a time"):
        engine(torch.zeros(2, 3, 16, 16), torch.zeros(2, 1, 16, 16), SampleRandom(0, 0, range(2)))


@pytest.mark.parametrize("slice_mm", [1.0 - 1e-6, 1.0 + 1e-6, float(np.float32(1.0) - np.float32(6e-8))])
def test_rounding_of_a_spacing_does_not_decide(slice_mm: float) -> None:
    assert Neighbours(1, 2.5).steps(slice_mm) == Neighbours(1, 2.5).steps(1.0) == (-2, 0, 2)


@pytest.mark.parametrize("batched", [False, True])
def test_all_channels_are_moved_alike(batched: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 3, 48, 48, generator=generator)
    mask = (torch.rand(6, 1, 48, 48, generator=generator) > 0.95).float()
    engine = TorchAugment(AugmentConfig(mirror=0.5, window=24, scale=(0.8, 1.2), blur=1.0, contrast=(0.8, 1.2)))
    call = engine.batched if batched else engine
    numbers = SampleRandom(0, 1, range(6))
    found, label = call(image, mask, numbers)
    assert found.shape == (6, 3, 24, 24) and label.shape == (6, 1, 24, 24)
    for channel in range(3):
        alone, same = call(image[:, channel : channel + 1], mask, numbers)
        assert torch.allclose(found[:, channel : channel + 1], alone, atol=1e-6) and torch.equal(label, same)


def test_a_window_without_a_transform_cuts_all_channels_alike() -> None:
    image, mask = torch.rand(4, 3, 32, 32), torch.zeros(4, 1, 32, 32)
    engine = augment_named("none", AugmentConfig(window=12))
    assert engine is not None
    found, _ = engine(image, mask, SampleRandom(0, 0, range(4)))
    for channel in range(3):
        alone, _ = engine(image[:, channel : channel + 1], mask, SampleRandom(0, 0, range(4)))
        assert torch.equal(found[:, channel : channel + 1], alone)


def test_the_network_follows_the_number_of_neighbours() -> None:
    assert Recipe().but(neighbours=2).unet.in_channels == 5
    assert THREE.but(neighbours=0) == THREE.but(neighbours=0).but(neighbours=0) and THREE.but().unet.in_channels == 3


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        (replace(TINY, neighbours=1), "unet.in_channels"),
        (TINY.but(unet=UNetConfig(in_channels=3, widths=(4, 8))), "unet.in_channels"),
        (TINY.but(neighbours=-1), "neighbours"),
        (TINY.but(neighbours=17), "neighbours"),
        (TINY.but(neighbours=True), "neighbours"),
        (replace(THREE, neighbour_mm=0.0), "neighbour_mm"),
        (replace(THREE, neighbour_mm=1e308), "neighbour_mm"),
        (replace(THREE, neighbour_mm=float("nan")), "neighbour_mm"),
        (THREE.but(augment="imgaug"), "augment"),
        (THREE.but(augment="custom"), "augment"),
    ],
)
def test_what_can_not_be_meant_is_refused(recipe: Recipe, setting: str) -> None:
    with pytest.raises(UsageError, match=f"the setting {setting} can not be meant"):
        check_recipe(recipe)


def test_a_run_goes_on_to_the_same_weights_however_slices_are_read(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = train(whole / "slices", tmp_path / "run", recipe=THREE, in_memory=True)
    for workers in (0, 1):
        there = tmp_path / f"files-{workers}"
        assert same_weights(
            done.last, train(whole / "slices", there, recipe=THREE, in_memory=False, workers=workers).last
        )
    with monkeypatch.context() as patch:
        patch.setattr(EndOfRun, "on_train_epoch_end", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(whole / "slices", tmp_path / "stopped", recipe=THREE)
    assert same_weights(done.last, train(whole / "slices", tmp_path / "stopped", resume=True).last)
    alone = train(whole / "slices", tmp_path / "alone", recipe=THREE.but(neighbours=0))
    assert not same_weights(done.last, alone.last)
    with pytest.raises(UsageError, match="neighbours"):
        train(whole / "slices", tmp_path / "run", resume=True, neighbours=2)


def test_a_probe_counts_the_channels() -> None:
    assert probe(THREE, "cpu", size=32, seconds=0.01).parameters > probe(TINY, "cpu", size=32, seconds=0.01).parameters


# In use


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], float]]:
    """Places and thickness of the slices of every scan that a network is shown."""
    calls: list[tuple[tuple[int, ...], float]] = []
    original = Segmenter.probabilities

    def look(self: Segmenter, slices: Any, places: Any = None, slice_mm: float = 1.0) -> Any:
        calls.append((tuple(places), slice_mm))
        return original(self, slices, places, slice_mm)

    monkeypatch.setattr(Segmenter, "probabilities", look)
    return calls


def test_evaluation_and_prediction_say_where_the_slices_lie(
    whole: Path, tmp_path: Path, shown: list[tuple[tuple[int, ...], float]]
) -> None:
    manifest, held = Manifest.read(whole / "slices"), json.loads((whole / "run/splits.json").read_text())["held_out"]
    records = [manifest.record(case) for case in held]
    wanted = [(record.slices, pytest.approx(record.las_spacing_mm[2])) for record in records]
    evaluate(whole / "run", report=False)
    evaluate(whole / "run", scans=whole / "tree", report=False)
    for case in held:
        predict(whole / "run", whole / f"tree/imagesTr/{case}.nii.gz", tmp_path / f"{case}.nii.gz", skip_slices=2)
    assert shown == wanted * 3 and len(wanted[0][0]) == 18


def test_a_cross_validation_says_where_the_slices_lie(
    whole: Path, tmp_path: Path, shown: list[tuple[tuple[int, ...], float]]
) -> None:
    crossval(whole / "slices", tmp_path / "folds", recipe=THREE.but(epochs=1, inner_val=0.0), n_folds=2)
    records = Manifest.read(whole / "slices").cases.values()
    assert sorted(shown) == sorted((record.slices, record.las_spacing_mm[2]) for record in records)


def test_neighbours_matter_and_are_found_by_place(whole: Path) -> None:
    manifest = Manifest.read(whole / "slices")
    case = manifest.labelled[0]
    data = LungDataset(manifest, [case], neighbours=Neighbours(1))
    images = [data[index][0].numpy().astype(np.float16) for index in range(len(data))]
    places, slice_mm = manifest.record(case).slices, manifest.record(case).las_spacing_mm[2]
    segmenter = Segmenter.load(whole / "run")
    given = list(segmenter.probabilities(images))
    found = list(segmenter.probabilities([image[1] for image in images], places, slice_mm))
    assert np.array_equal(given, found)
    alone = list(segmenter.probabilities([image[1] for image in images]))
    assert not np.allclose(given, alone)


def test_an_ensemble_shows_neighbours_too(whole: Path) -> None:
    ensemble, _ = load_segmenter(whole / "folds")
    slices = np.random.default_rng(0).random((40, 32, 32)).astype(np.float16)
    places = list(range(3, 43))
    found = list(ensemble.probabilities(iter(slices), places, 1.0))
    each = [list(Segmenter.load(whole / f"folds/folds/{k}").probabilities(slices, places, 1.0)) for k in (0, 1)]
    assert np.allclose(found, np.mean(each, 0), atol=1e-6)


def test_exported_weights_know_their_neighbours(whole: Path, tmp_path: Path) -> None:
    export(whole / "run", tmp_path / "tumour.safetensors")
    exported, run = Segmenter.load(tmp_path / "tumour.safetensors"), Segmenter.load(whole / "run")
    assert exported.neighbours == run.neighbours == Neighbours(1)
    assert exported.description["neighbours"] == 1 and exported.description["neighbour_mm"] == 2.5
    slices = np.random.default_rng(0).random((5, 32, 32)).astype(np.float16)
    assert np.array_equal(*(list(one.probabilities(slices, range(5), 1.0)) for one in (exported, run)))


def test_weights_beside_a_recipe_of_other_neighbours_are_refused(whole: Path, tmp_path: Path) -> None:
    export(whole / "run", tmp_path / "tumour.safetensors")
    record = json.loads((tmp_path / "tumour.json").read_text())
    shutil.copy(tmp_path / "tumour.json", tmp_path / "kept.json")
    for changed in ({"neighbours": 2}, {"neighbours": "1"}, {"neighbour_mm": 0}, {"neighbour_mm": None}):
        text = json.dumps({**record, "model": {**record["model"], "recipe": {**record["model"]["recipe"], **changed}}})
        (tmp_path / "tumour.json").write_text(text)
        with pytest.raises(LungsegError) as caught:
            Segmenter.load(tmp_path / "tumour.safetensors")
        assert isinstance(caught.value, IntegrityError | UsageError)
