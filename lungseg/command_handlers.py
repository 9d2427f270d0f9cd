"""What each subcommand does with its options: the function of that name is called, and what it found is printed.

Heavy modules are imported when a command runs, so that ``lungseg --help`` is quick.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .errors import UsageError, printable

Handler = Callable[[argparse.Namespace], int]


def _sample(args: argparse.Namespace) -> int:
    from .sample import write_sample

    write_sample(
        args.out,
        cases=args.cases,
        test_cases=args.test_cases,
        shape=tuple(args.shape),
        seed=args.seed,
        workers=args.workers,
    )
    print(f"{args.cases} labelled and {args.test_cases} unlabelled synthetic scans in {printable(args.out)}")
    return 0


def _download(args: argparse.Namespace) -> int:
    from .download import download

    root = download(args.out, source=args.source, sha256=args.sha256, keep_archive=args.keep_archive, wait_s=args.wait)
    print(f"Task06_Lung is in {printable(root)}; next: lungseg verify {printable(root)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .verify import table, verify

    verified = verify(args.root, workers=args.workers, json_file=args.json, cluster=args.cluster)
    print(table(verified))
    return verified.exit_code


def _preprocess(args: argparse.Namespace) -> int:
    from .preprocess import preprocess, summary

    done = preprocess(
        args.root,
        args.out,
        size=args.size,
        skip_slices=args.skip_slices,
        workers=args.workers,
        rebuild=args.rebuild,
        slice_sets=args.slice_sets,
        cluster=args.cluster,
    )
    print(summary(done))
    return done.exit_code


def _shard(args: argparse.Namespace) -> int:
    from .shard import shard

    print(shard(args.processed, args.out))
    return 0


def _train(args: argparse.Namespace) -> int:
    from .placement import find_place
    from .train import train

    result = train(
        args.processed,
        args.run,
        fold=args.fold,
        n_folds=args.n_folds,
        splits=args.splits,
        logger="tensorboard" if args.tensorboard else None,
        devices=args.devices,
        nodes=args.nodes,
        resume=args.resume,
        **_training_settings(args),
    )
    if find_place(args.devices, args.nodes).rank == 0:
        print(result)
    return 0


def _crossval(args: argparse.Namespace) -> int:
    from .crossval import crossval

    evaluation = crossval(
        args.processed,
        args.run,
        n_folds=args.n_folds,
        splits=args.splits,
        folds=args.folds,
        **_training_settings(args),
    )
    print(evaluation)
    return evaluation.exit_code


def _training_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`lungseg.command_options.add_training` reads, by the names of ``train`` and ``crossval``."""
    return {
        "recipe": args.recipe,
        "loss": args.loss,
        "epochs": args.epochs,
        "max_minutes": args.max_minutes,
        "augment": args.augment,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "inner_val": args.inner_val,
        "early_stop": args.early_stop,
        "precision": args.precision,
        "seed": args.seed,
        "device": args.device,
        "workers": args.loader_workers,
        "compile": args.compile,
        "neighbours": args.neighbours,
    }


def _evaluate(args: argparse.Namespace) -> int:
    from .evaluate import evaluate

    evaluation = evaluate(
        args.run,
        scans=args.scans,
        threshold=args.threshold,
        device=args.device,
        batch_size=args.batch_size,
        checkpoint=args.checkpoint,
        report=not args.no_report,
        compare=args.compare,
        cluster=args.cluster,
    )
    print(evaluation)
    return evaluation.exit_code


def _score(args: argparse.Namespace) -> int:
    from .score import score

    scores = score(
        args.predictions,
        args.labels,
        json_file=args.json,
        csv_file=args.csv,
        workers=args.workers,
        slice_sets=args.slice_sets,
        cluster=args.cluster,
    )
    print(scores)
    return scores.exit_code


def _predict(args: argparse.Namespace) -> int:
    from .predict import predict

    predicted = predict(
        args.run,
        args.scan,
        args.out,
        threshold=args.threshold,
        smallest_ml=args.smallest_ml,
        smallest_share=args.smallest_share,
        temperature=args.temperature,
        device=args.device,
        batch_size=args.batch_size,
        checkpoint=args.checkpoint,
        skip_slices=args.skip_slices,
        report=args.report,
        cluster=args.cluster,
    )
    print(predicted)
    return predicted.exit_code


def _export(args: argparse.Namespace) -> int:
    from .export import export

    print(export(args.run, args.out, checkpoint=args.checkpoint))
    return 0


def _animate(args: argparse.Namespace) -> int:
    from .visualize import animate

    out = animate(
        args.scan,
        args.out,
        mask=args.mask,
        truth=args.truth,
        window=_window(args.window),
        every=args.every,
        fps=args.fps,
    )
    print(printable(out))
    return 0


def _reproduce(args: argparse.Namespace) -> int:
    options: dict[str, Any] = {
        "source": args.source,
        "recipe": args.recipe,
        "epochs": args.epochs,
        "neighbours": args.neighbours,
        "max_minutes": args.max_minutes,
        "folds": args.folds,
        "splits": args.splits,
        "device": args.device,
        "size": args.size,
        "skip_slices": args.skip_slices,
        "slice_sets": args.slice_sets,
        "workers": args.workers,
    }
    if args.plan:
        from .reproduce_plan import plan_reproduction

        print(plan_reproduction(args.out, **options))
        return 0
    from .reproduce import reproduce

    result = reproduce(args.out, sha256=args.sha256, **options)
    print(result)
    return result.exit_code


def _demo(args: argparse.Namespace) -> int:
    from .demo import demo

    print(demo(args.out))
    return 0


def _window(text: str) -> Any:
    if "," not in text:
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as cause:
        raise UsageError.of(
            "bad-window", "the window can not be read", expected="lung, mediastinum or LO,HI in HU", found=text
        ) from cause
    return low, high


HANDLERS: dict[str, Handler] = {
    "sample": _sample,
    "download": _download,
    "verify": _verify,
    "preprocess": _preprocess,
    "shard": _shard,
    "train": _train,
    "crossval": _crossval,
    "evaluate": _evaluate,
    "score": _score,
    "predict": _predict,
    "export": _export,
    "animate": _animate,
    "reproduce": _reproduce,
    "demo": _demo,
}
