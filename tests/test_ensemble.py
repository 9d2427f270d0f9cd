"""The folds as one network: the mean of their probabilities, whatever the batch, with the settings that were chosen."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.config import AIR
from lungseg.crossval import crossval
from lungseg.ensemble import SLICES_HELD, Ensemble, load_segmenter
from lungseg.errors import IntegrityError, UsageError
from lungseg.geometry import SliceGrid, to_las
from lungseg.inference import MaskVolume, Segmenter
from lungseg.nifti import read_scan
from lungseg.postprocess import PLAIN, PostProcessing, drop_components
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.slicing import slice_image

from .training import TINY
from .volumes import affine_of, chest_like, write_tree, write_volume

pytestmark = pytest.mark.usefixtures("one_thread")
CHOSEN = {"smallest_ml": 0.05, "smallest_share": 0.5, "temperature": 2.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validated run of three folds, with settings that are not the plain ones."""
    folder = tmp_path_factory.mktemp("ensemble")
    preprocess(write_tree(folder / "tree", cases=6), folder / "slices", size=32, skip_slices=2, workers=1)
    recipe = TINY.but(epochs=3, inner_val=0.0, learning_rate=0.02)
    crossval(folder / "slices", folder / "run", recipe=recipe, n_folds=3, device="cpu")
    # A threshold that part of these networks' probabilities lie above: they have not learnt much.
    some = np.full((1, 32, 32), AIR, np.float16) + np.linspace(0, 0.4, 32, dtype=np.float16)
    threshold = float(np.mean([next(member.probabilities(some)) for member in members(folder / "run")]))
    record = json.loads((folder / "run" / "crossval.json").read_text())
    record["chosen"] |= {**CHOSEN, "threshold": round(threshold * 256) / 256}
    (folder / "run" / "crossval.json").write_text(json.dumps(record))
    return folder / "run"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "scan.nii.gz", chest_like((40, 30, 9), 5), affine_of("LAS", (0.7, 0.9, 2.5)))


def members(run: Path) -> list[Segmenter]:
    return [Segmenter.load(run / "folds" / fold, device="cpu") for fold in "012"]


def test_the_probability_is_the_mean_of_the_folds(run: Path) -> None:
    generator = np.random.default_rng(0)
    slices = [generator.uniform(AIR, 0.1, (32, 32)).astype(np.float16) for _ in range(SLICES_HELD + 3)]
    ensemble, _ = load_segmenter(run, device="cpu", batch_size=3)
    assert isinstance(ensemble, Ensemble)
    each = [list(member.probabilities(slices)) for member in members(run)]
    found = list(ensemble.probabilities(iter(slices)))
    assert len(found) == len(slices) and found[0].dtype == np.float32
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-6)
    assert not np.allclose(each[0], each[1], atol=1e-3)


def test_no_more_slices_are_taken_than_it_holds(run: Path) -> None:
    ensemble, taken = load_segmenter(run, device="cpu")[0], []
    slices = (taken.append(n) or np.full((32, 32), AIR, np.float16) for n in range(1000))
    next(ensemble.probabilities(slices))
    assert len(taken) == SLICES_HELD


def test_predict_is_the_ensemble_worked_out_by_hand(run: Path, scan: Path, tmp_path: Path) -> None:
    predict(run, scan, tmp_path / "mask.nii.gz", device="cpu")
    las, affine, _ = to_las(read_scan(scan).voxels, read_scan(scan).affine)
    spacing_mm = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    folds = members(run)
    config = folds[0].config
    grid = SliceGrid.of(las.shape, spacing_mm, config.size)
    slices = [slice_image(las, z, grid, config) for z in range(2, las.shape[2])]
    mean = np.mean([list(member.probabilities(slices)) for member in folds], axis=0)
    chosen = json.loads((run / "crossval.json").read_text())["chosen"]
    by_hand = MaskVolume(las.shape, grid, chosen["threshold"])
    for z, probability in enumerate(mean, start=2):
        by_hand.put(z, probability)
    drop_components(by_hand.mask, by_hand.probability, PostProcessing(**CHOSEN), float(np.prod(spacing_mm)) / 1000)
    found = np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj)
    assert 0 < found.sum() < found.size
    # Means in another order differ in the last bit, which may lie at the threshold.
    assert np.count_nonzero(found != by_hand.mask) <= 2
    record = json.loads((tmp_path / "mask.json").read_text())
    names = ("threshold", *CHOSEN)
    assert {name: record["settings"][name] for name in names} == {name: chosen[name] for name in names}
    assert [fold["fold"] for fold in record["model"]["folds"]] == [0, 1, 2]
    assert record["model"]["ensemble"] == "mean of probabilities"
    assert str(tmp_path) not in json.dumps(record)


def test_chosen_settings_can_be_overruled_one_by_one(run: Path, scan: Path, tmp_path: Path) -> None:
    predict(run, scan, tmp_path / "mask.nii.gz", threshold=0.25, temperature=1.0, device="cpu")
    settings = json.loads((tmp_path / "mask.json").read_text())["settings"]
    assert (settings["threshold"], settings["smallest_ml"], settings["temperature"]) == (0.25, 0.05, 1.0)
    predict(run, scan, tmp_path / "all.nii.gz", smallest_ml=0.0, device="cpu")
    assert json.loads((tmp_path / "all.json").read_text())["settings"]["smallest_ml"] == 0.0
    for share in (0.0, 1.0):
        asked = {"threshold": 0.04, "smallest_ml": 0.0, "smallest_share": share}  # some components, of many sizes
        predict(run, scan, tmp_path / f"{share}.nii.gz", device="cpu", **asked)
    many, one = (json.loads((tmp_path / f"{share}.json").read_text()) for share in (0.0, 1.0))
    assert (many["settings"]["smallest_share"], one["settings"]["smallest_share"]) == (0.0, 1.0)
    assert len(one["tumours"]) == 1 < len(many["tumours"]) and one["tumours"][0] in many["tumours"]
    for wrong in ({"threshold": 1.0}, {"smallest_ml": -1.0}, {"smallest_share": 1.5}, {"temperature": 0.0}):
        with pytest.raises(UsageError):
            predict(run, scan, tmp_path / "mask.nii.gz", device="cpu", **wrong)


def test_the_temperature_changes_what_is_said_and_not_the_mask(run: Path, scan: Path, tmp_path: Path) -> None:
    for name, temperature in (("cold", 1.0), ("warm", 3.0)):
        predict(run, scan, tmp_path / f"{name}.nii.gz", temperature=temperature, device="cpu")
    cold, warm = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("cold", "warm"))
    masks = [(tmp_path / f"{name}.nii.gz").read_bytes() for name in ("cold", "warm")]
    assert masks[0] == masks[1] and cold["volume_ml"] == warm["volume_ml"] > 0
    for before, after in zip(cold["tumours"], warm["tumours"], strict=True):
        assert abs(after["mean_probability"] - 0.5) < abs(before["mean_probability"] - 0.5) + 0.01


def test_a_run_of_one_fold_is_used_as_before(run: Path) -> None:
    segmenter, settings = load_segmenter(run / "folds" / "1", device="cpu")
    assert isinstance(segmenter, Segmenter) and settings == PLAIN == PostProcessing(0.5, 0.0, 1.0)


def test_weights_that_were_not_scored_are_refused(run: Path) -> None:
    path = run / "crossval.json"
    before = path.read_text()
    record = json.loads(before)
    record["chosen"]["weights"][1] = "0" * 64
    path.write_text(json.dumps(record))
    try:
        with pytest.raises(UsageError, match="fold 1"):
            load_segmenter(run, device="cpu")
        for damaged in ({"folds": []}, {"weights": []}, {"folds": ["a", 1, 2]}, {"threshold": 7}, {"other": 1}):
            path.write_text(json.dumps({**record, "chosen": {**record["chosen"], **damaged}}))
            with pytest.raises(UsageError):
                load_segmenter(run, device="cpu")
    finally:
        path.write_text(before)


def test_a_damaged_member_is_refused(run: Path, tmp_path: Path) -> None:
    path = run / "folds" / "2" / "checkpoints" / "best.ckpt"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    try:
        with pytest.raises(IntegrityError, match="SHA-256"):
            load_segmenter(run, device="cpu")
    finally:
        path.write_bytes(data)
