"""Several processes train what one would: the same global batches, gradients, scores and weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lungseg.callbacks import read_metrics
from lungseg.checkpoint import load_checkpoint
from lungseg.config import AugmentConfig, UNetConfig

from .forked import job, run_jobs
from .training import TINY, same_weights, weights_of, write_slices

# Adam divides a gradient by its own size: a weight whose gradient is nothing but rounding would move by chance.  So
# there is no normalisation here, after which some weights do not matter.
# Of 20 slices in batches of 9 the last has 2, so that of 4 ranks two have none.
PAIR = TINY.but(batch_size=8, loss="bce", optimizer="adamw", schedule="one_cycle", epochs=4)
DEEP = UNetConfig(widths=(4, 8), deep=1)
ENDS = {"augmentation": AugmentConfig(window=16), "whole_slices": 0.5}
UNEVEN = TINY.but(
    batch_size=9, loss="dice_bce", epochs=2, inner_val=0.3, unet=DEEP, average=0.9, draw_by="patient", **ENDS
)
KILLED = TINY.but(epochs=2, schedule="one_cycle", optimizer="adamw", batch_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of several ranks, beside those of one process."""
    folder = tmp_path_factory.mktemp("ranks")
    processed = write_slices(folder / "processed", cases=10).root
    jobs = [job(processed, folder / f"pair-{ranks}", ranks, PAIR) for ranks in (1, 2)]
    jobs += [job(processed, folder / f"uneven-{ranks}", ranks, UNEVEN) for ranks in (1, 4)]
    jobs += [job(processed, folder / "whole", 3, KILLED), job(processed, folder / "killed", 3, KILLED, kill=1, steps=5)]
    said = run_jobs(jobs)
    assert said.count("another rank is gone") == 2  # those that are left say so, and end
    resumed = []
    for ranks in (3, 1):
        shutil.copytree(folder / "killed", folder / f"resumed-{ranks}")
        resumed.append(job(processed, folder / f"resumed-{ranks}", ranks, KILLED, resume=True))
    run_jobs(resumed)
    return folder


def apart(one: Path, other: Path) -> float:
    """The largest difference of two weights of the same place."""
    first, second = (weights_of(run / "checkpoints/last.ckpt") for run in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first if key.startswith("net."))


def last_step(run: Path) -> int:
    return int(load_checkpoint(run / "checkpoints/last.ckpt")["global_step"])


def rows(run: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row.items() if name != "seconds"} for row in read_metrics(run / "metrics.csv")
    ]


def test_two_ranks_of_four_learn_what_one_of_eight_does(folder: Path) -> None:
    assert len(rows(folder / "pair-1")) == 4
    assert last_step(folder / "pair-1") == last_step(folder / "pair-2") >= 10
    assert apart(folder / "pair-1", folder / "pair-2") < 1e-5


@pytest.mark.parametrize("names", [("pair-1", "pair-2"), ("uneven-1", "uneven-4")])
def test_losses_and_dice_by_patient_are_those_of_one_process(folder: Path, names: tuple[str, str]) -> None:
    one, several = (rows(folder / name) for name in names)
    assert len(one) == len(several)
    for row, other in zip(one, several, strict=True):
        assert row.keys() == other.keys() and "val_dice" in row
        assert other == pytest.approx(row, rel=1e-5, abs=1e-6)
        assert abs(row["val_dice"] - other["val_dice"]) < 1e-6


def test_a_rank_without_a_slice_of_the_last_batch_changes_nothing(folder: Path) -> None:
    assert json.loads((folder / "uneven-1/config.json").read_text())["data"]["slices"] % UNEVEN.batch_size == 2
    assert apart(folder / "uneven-1", folder / "uneven-4") < 1e-5


def test_a_run_whose_rank_was_killed_goes_on_to_the_same_bits(folder: Path) -> None:
    for name in ("last", "best"):
        assert same_weights(*(folder / run / f"checkpoints/{name}.ckpt" for run in ("whole", "resumed-3")))
    assert rows(folder / "whole") == rows(folder / "resumed-3")


def test_it_goes_on_with_another_number_of_ranks_but_for_rounding(folder: Path) -> None:
    assert 0.0 < apart(folder / "resumed-1", folder / "whole") < 1e-5


def test_only_rank_0_writes(folder: Path) -> None:
    one, two = (
        {path.relative_to(folder / name) for path in (folder / name).rglob("*")} for name in ("pair-1", "pair-2")
    )
    assert one == two
    assert json.loads((folder / "pair-2/config.json").read_text())["machine"]["devices"] == 2
