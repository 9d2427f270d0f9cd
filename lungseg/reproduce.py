"""From nothing to the whole table on Task06_Lung: the stage behind ``lungseg reproduce``.

Download, verify, preprocess, cross-validate in nnU-Net's own folds, compare with what is published patient by patient,
predict the test scans, report.  Every stage takes what is finished as it is, so the same call goes on where it stopped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .config import Recipe
from .crossval import crossval
from .crossval_folder import read_folds
from .download import download
from .errors import NOTICE, DataError, Problem
from .evaluation import Evaluation
from .files import require_free_space
from .folder_lock import folder_lock
from .manifest import Manifest
from .place import local
from .predict import predict
from .preprocess import preprocess
from .preprocess import summary as sliced
from .published import PublishedTable, published_task06
from .records import write_json
from .report.evaluation_page import PAGE
from .reproduce_plan import DATA, MASKS, RUN, SLICES, plan_reproduction
from .reproduction import (
    COMPARED,
    RESULT,
    SUBMISSION,
    VERIFIED,
    Reproduction,
    compare_with_published,
    write_whole_report,
)
from .submission import write_submission
from .tree import Tree, read_tree
from .verify import table, verify

STAGE = "reproduce"


def reproduce(
    out: str | Path,
    *,
    source: str | Path = "aws",
    sha256: str | None = None,
    recipe: str | Recipe = "strong",
    epochs: int | None = None,
    neighbours: int | None = None,
    max_minutes: float | None = None,
    folds: str | Sequence[int] = "all",
    splits: str | Path | None = None,
    device: str = "auto",
    skip_slices: str | int = "30",
    size: int = 256,
    slice_sets: bool = False,
    workers: int | None = None,
    published: PublishedTable | None = None,
    **plan_options: Any,
) -> Reproduction:
    """Fetch Task06_Lung, cross-validate a recipe on it, compare it with what is published, and predict the test scans.

    Says first what it will cost (:func:`lungseg.reproduce_plan.plan_reproduction`).  Stopped at any moment and called
    again in the same way, it goes on.

    Args:
        out: folder for everything; made here.
        source: as for ``download``; or a folder with a tree in Task06_Lung's layout, which is then not changed.
        sha256: as for ``download``.
        recipe: a name of ``config.RECIPES``, or a recipe.
        epochs, neighbours: replace the recipe's.
        max_minutes: time limit of each fold's training.
        folds: which to train now: ``"all"``, ``"0,2"`` or numbers.
        splits: a file with the folds; without, nnU-Net's own five of all patients.
        device: as for ``crossval``.
        skip_slices, size, slice_sets: as for ``preprocess``.
        workers: processes that read scans; None takes one for each core.
        published: the figures to compare with; None takes those that come with the package.
        plan_options: of :func:`~lungseg.reproduce_plan.plan_reproduction` alone.

    Raises:
        UsageError: an argument can not be meant; ``out`` was begun with other settings.
        DataError: no scan can be used.
        IntegrityError: what came is not the archive, or a checkpoint is refused.
        TrainingError: the training of every fold diverged.
        MachineError: network, disk, memory, device or a lock.
    """
    out, started = local(out), time.monotonic()
    options: dict[str, Any] = {"max_minutes": max_minutes, "folds": folds, "splits": splits, "device": device}
    cut: dict[str, Any] = {"skip_slices": skip_slices, "size": size, "workers": workers}
    changed: dict[str, Any] = {"epochs": epochs, "neighbours": neighbours}
    more = {"slice_sets": slice_sets, **plan_options}
    plan = plan_reproduction(out, source=source, recipe=recipe, **changed, **options, **cut, **more)
    print(plan, file=sys.stderr, flush=True)
    require_free_space(out, plan.needed_bytes, stage=STAGE)
    with folder_lock(out, stage=STAGE):
        _say("the data")
        tree = _tree(out, source, sha256)
        verified = verify(tree.root, workers=workers, json_file=out / VERIFIED)
        print(table(verified), file=sys.stderr)
        _say("slices")
        done = preprocess(tree.root, out / SLICES, slice_sets=slice_sets, **cut)
        print(sliced(done), file=sys.stderr)
        _say(f"training and scores, fold by fold ({NOTICE})")
        evaluation = crossval(out / SLICES, out / RUN, recipe=plan.recipe, **options)
        _say("the published figures")
        table06, manifest = published or published_task06(), Manifest.read(out / SLICES)
        compared = compare_with_published(evaluation, table06, manifest, read_folds(out / RUN)[0])
        compared.write(out / COMPARED)
        _say("test scans")
        submission, problems, code = _test_scans(out, tree, evaluation, device.partition(",")[0])
        worst = max(verified.exit_code, done.exit_code, evaluation.exit_code, code)
        result = Reproduction(
            out, evaluation, compared, submission, out / PAGE, time.monotonic() - started, problems, worst
        )
        write_whole_report(out, evaluation, compared, result.verdicts)
        write_json(out / RESULT, result.as_dict())
    return result


def _say(what: str) -> None:
    print(f"reproduce: {what}", file=sys.stderr, flush=True)


def _tree(out: Path, source: str | Path, sha256: str | None) -> Tree:
    """The tree that is named; or the one that is fetched, which ``download`` checks and mends where it is there."""
    if source != "aws" and Path(source).is_dir():
        return read_tree(source)
    return read_tree(download(out / DATA, source=source, sha256=sha256))


def _test_scans(
    out: Path, tree: Tree, evaluation: Evaluation, device: str
) -> tuple[Path | None, tuple[Problem, ...], int]:
    """Segment the scans without a label with all folds together, and pack the masks.

    Returns:
        The zip, or None where there is nothing whole to pack; what was wrong; the exit code.
    """
    (out / SUBMISSION).unlink(missing_ok=True)
    folder = tree.root / "imagesTs"
    cases = [case.name for case in tree.cases if case.label is None and case.image.parent == folder]
    if not cases or evaluation.problems:  # without a score of every patient, nothing has been chosen to predict with
        return None, (), 0
    try:
        predicted = predict(out / RUN, folder, out / MASKS, device=device)
        return write_submission(out / MASKS, cases, out / SUBMISSION), predicted.problems, predicted.exit_code
    except DataError as error:
        return None, (error.problem,), error.exit_code
