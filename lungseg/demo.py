"""All stages one after another on the sample: the stage behind ``lungseg demo`` and ``make demo``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .case_score import CaseScore
from .config import Recipe
from .errors import NOTICE, printable
from .evaluate import evaluate
from .evaluation import Evaluation
from .files import make_folder
from .predict import predict
from .preprocess import preprocess
from .run_folder import RunResult
from .sample import write_sample
from .train import train
from .tree import find_case, read_tree
from .verify import table, verify
from .visualize.animation import animate

SKIP_SLICES = 4  # of 64: the share of a chest that 30 slices of a usual scan are
N_FOLDS = 3  # 4 of the 12 patients are held out
MAX_MINUTES = 4.0  # of training, on a machine that is slower than most


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Args:
        sample: tree of synthetic scans, in the layout of Task06_Lung.
        slices: what ``preprocess`` made of them.
        run: the trained run.
        evaluation: scores of its held-out patients.
        predictions: folder of masks: held-out patients and unlabelled scans.
        animation: GIF of a held-out patient with truth and prediction.
        test_animation: of an unlabelled scan with the prediction; None where the sample has none.
        seconds: time that it took.
    """

    sample: Path
    slices: Path
    run: RunResult
    evaluation: Evaluation
    predictions: Path
    animation: Path
    test_animation: Path | None
    seconds: float

    def __str__(self) -> str:
        places = {
            "synthetic scans": self.sample,
            "slices": self.slices,
            "run": self.run.run,
            "curves": self.run.curves,
            "scores": self.evaluation.folder,
            "masks": self.predictions,
            "animation": self.animation,
            "unlabelled scan": self.test_animation,
        }
        lines = [f"  {what:<16} {printable(path)}" for what, path in places.items() if path is not None]
        took = f"done in {self.seconds / 60:.1f} minutes, {self.run.minutes:.1f} of them training"
        return "\n".join([str(self.evaluation), "", took, *lines])


def demo(
    out: str | Path = "demo",
    *,
    cases: int = 12,
    test_cases: int = 2,
    shape: tuple[int, int, int] = (256, 256, 64),
    seed: int = 0,
    recipe: str | Recipe = "demo",
    epochs: int | None = None,
) -> Demo:
    """Write the sample, check, slice, train, evaluate, predict and animate it; run again, it takes what is there.

    Args:
        out: folder for everything.
        cases: labelled patients, of whom a third is held out.
        test_cases: unlabelled patients.
        shape: voxels of a scan along left, front, head.
        seed: of the sample.
        recipe: how to train.
        epochs: replaces the recipe's.

    Raises:
        LungsegError: as the stages do.
    """
    started = time.monotonic()
    out = make_folder(out)
    root, slices, run, masks = (out / name for name in ("Task06_Lung", "slices", "run", "predictions"))
    steps = 6

    def say(step: int, what: str) -> None:
        print(f"[{step}/{steps}] {what}", file=sys.stderr, flush=True)

    say(1, f"{cases + test_cases} synthetic scans, checked to the last byte")
    write_sample(root, cases=cases, test_cases=test_cases, shape=shape, seed=seed)
    print(table(verify(root)), file=sys.stderr)
    say(2, "slices")
    preprocess(root, slices, skip_slices=SKIP_SLICES)
    say(3, f"training; a third of the patients is held out ({NOTICE})")
    result = train(slices, run, recipe=recipe, n_folds=N_FOLDS, epochs=epochs, max_minutes=MAX_MINUTES, resume=True)
    say(4, "scores of the held-out patients")
    evaluation = evaluate(run)
    say(5, "masks of the held-out and the unlabelled patients")
    tree = read_tree(root)
    for score in evaluation.cases:
        predict(run, find_case(tree, score.case).image, masks / f"{score.case}.nii.gz")
    unlabelled = [case for case in tree.cases if case.label is None]
    for case in unlabelled:
        predict(run, case.image, masks / f"{case.name}.nii.gz")
    say(6, "animations")
    shown = find_case(tree, typical(evaluation.cases).case)
    mask = masks / f"{shown.name}.nii.gz"
    animation = animate(shown.image, out / "animation.gif", mask=mask, truth=shown.label, show_progress=False)
    test_animation = None
    if unlabelled:
        case = unlabelled[0]
        mask = masks / f"{case.name}.nii.gz"
        test_animation = animate(case.image, out / "unlabelled.webp", mask=mask, show_progress=False)
    seconds = time.monotonic() - started
    return Demo(root, slices, result, evaluation, masks, animation, test_animation, seconds)


def typical(scores: Sequence[CaseScore]) -> CaseScore:
    """The patient in the middle by Dice (the better of two), so that no picture flatters."""
    return sorted(scores, key=lambda score: (score.dice, score.case))[len(scores) // 2]
