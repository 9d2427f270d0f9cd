"""The command ``lungseg``: one subcommand a stage, one line an error, exit codes that mean something.

Exit codes: 0 done, with or without warnings; 1 a fault of lungseg, or training that diverged; 2 usage; 3 a scan, label
or pair is bad (the good ones are done); 4 an archive, checkpoint or weights file refused; 5 the machine (disk, memory,
lock); 130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from . import __version__
from .config import RECIPES
from .errors import NOTICE, LungsegError, MachineError, UsageError, printable
from .files import machine_error
from .place import is_store_error, store_error

Handler = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal can not show is no fault
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone: not an error of ours, and nobody is left to be told.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 0


def _run(argv: Sequence[str] | None) -> int:
    args = build_parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        return int(args.handler(args))
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt, _Terminated) as error:
        text, code = _explained(error, args.command)
        if args.debug:
            traceback.print_exc()
        for problem in getattr(error, "others", ()):
            print(f"error: {problem}", file=sys.stderr)
        print(f"lungseg {args.command}: {text}", file=sys.stderr)
        return code


def _explained(error: BaseException, command: str) -> tuple[str, int]:
    """One line for people, and the exit code."""
    again = "the same command with --resume goes on" if command == "train" else "the same command goes on"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {again} where it was", 130
    if isinstance(error, _Terminated):
        return f"terminated; {again} where it was", 143
    if isinstance(error, MemoryError):
        return "there is not enough memory. Use fewer --workers or a smaller batch.", MachineError.exit_code
    if isinstance(error, OSError):
        error = machine_error(error, error.filename or "")
    elif is_store_error(error):
        error = store_error(error)
    if isinstance(error, LungsegError):
        return str(error.problem), error.exit_code
    text = printable(f"{type(error).__name__}: {error}")
    return f"{text}. This is a fault of lungseg: run again with --debug and report it.", 1


def _joined(argv: Sequence[str]) -> list[str]:
    """``--window -1000,400`` as one word, because argparse takes what begins with a dash for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--window" and "--" not in words and re.match(r"-[\d.]", word):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"{self.prog}: {printable(message)}. See `{self.prog} --help`.\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; it imports nothing heavy."""
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        prog="lungseg", description="Segment lung tumours in chest CT, and understand what was done.", epilog=NOTICE
    )
    parser.add_argument("--version", action="version", version=f"lungseg {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, handler: Handler, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=NOTICE, parents=[common]
        )
        sub.set_defaults(handler=handler)
        return sub

    sub = command("sample", _sample, "write a synthetic Task06_Lung tree")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--cases", type=_count(1), default=12, help="labelled patients (12)")
    sub.add_argument("--test-cases", type=_count(0), default=2, help="unlabelled patients (2)")
    sub.add_argument("--shape", type=_count(16), nargs=3, default=(256, 256, 64), metavar=("X", "Y", "Z"))
    sub.add_argument("--seed", type=_count(0), default=0)
    _workers(sub)

    sub = command("download", _download, "fetch, check and unpack Task06_Lung (9.16 GB)")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--source", default="aws", help="aws, kaggle:OWNER/NAME, a URL, or an archive on disk (aws)")
    sub.add_argument("--sha256", help="what another archive than the published one must hash to")
    sub.add_argument("--keep-archive", action="store_true", help="leave the archive beside the unpacked tree")
    sub.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for another download into OUT to end (0: end at once, code 5)",
    )

    sub = command("verify", _verify, "check a tree of scans, to the last byte, and list what is wrong")
    sub.add_argument("root", metavar="ROOT")
    sub.add_argument("--json", metavar="FILE", help="write the list as JSON as well")
    _workers(sub)
    _cluster(sub)

    sub = command("preprocess", _preprocess, "cut scans into slices for training")
    sub.add_argument("root", metavar="ROOT")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--size", type=_count(8), default=256, help="rows and columns of a slice (256)")
    sub.add_argument(
        "--skip-slices",
        default="30",
        metavar="N",
        help="axial slices to drop at the feet end: 30, 12.5mm, or auto (30)",
    )
    sub.add_argument("--rebuild", action="store_true", help="make everything again if OUT was made with other settings")
    _slice_sets(sub, default=None)
    _workers(sub)
    _cluster(sub)

    sub = command("shard", _shard, "pack slices as shards, for data beyond one machine's disk")
    sub.add_argument("processed", metavar="PROCESSED")
    sub.add_argument("out", metavar="OUT")

    sub = command("train", _train, "train a network on slices")
    sub.add_argument("processed", metavar="PROCESSED", help="folder of preprocess or shard, or s3://... with shards")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--fold", type=_count(0), help="which fold is held out (0)")
    sub.add_argument("--n-folds", type=_count(2), help="folds that the patients are split into (5)")
    sub.add_argument("--splits", metavar="FILE", help="nnU-Net's splits_final.json, or the splits.json of another run")
    _training(sub)
    text = "train on so many devices of each node, a process each; a batch is shared by all (1)"
    sub.add_argument("--devices", type=_count(1), metavar="N", help=text)
    sub.add_argument(
        "--nodes", type=_count(1), metavar="M", help="train on so many nodes; give the command on each (1)"
    )
    sub.add_argument("--tensorboard", action="store_true", help="log for TensorBoard as well (an extra)")
    sub.add_argument("--resume", action="store_true", help="go on with a run that was stopped")

    sub = command("crossval", _crossval, "train every fold, then score each patient by the network that never saw it")
    sub.add_argument("processed", metavar="PROCESSED")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--n-folds", type=_count(2), help="folds that the patients are split into (5)")
    sub.add_argument("--splits", metavar="FILE", help="nnU-Net's splits_final.json, or the splits.json of another run")
    sub.add_argument("--folds", default="all", metavar="all|0,1,...", help="which to train now (all)")
    _training(sub, device="auto, cpu, cuda or mps; cuda:0,cuda:1 train a fold each (auto: all GPUs)", minutes="a fold")

    sub = command("evaluate", _evaluate, "score the held-out patients of a run's fold, or of all its folds")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--scans", metavar="ROOT", help="read the original scans and labels again instead of the slices")
    sub.add_argument(
        "--compare",
        metavar="OTHER_RUN|FILE.csv[:COLUMN]",
        help="compare Dice patient by patient with another evaluated run, or with a table `case,dice`",
    )
    sub.add_argument("--no-report", action="store_true", help="leave report.html and its pictures out")
    _inference(sub)
    _cluster(sub)

    sub = command("score", _score, "measure masks that any tool made against labels")
    sub.add_argument("predictions", metavar="PREDICTIONS")
    sub.add_argument("labels", metavar="LABELS")
    sub.add_argument("--json", metavar="FILE")
    sub.add_argument("--csv", metavar="FILE")
    _slice_sets(sub, default=False)
    _workers(sub)
    _cluster(sub)

    sub = command("predict", _predict, "segment a scan, or a folder of scans into a folder")
    sub.add_argument("run", metavar="RUN", help="folder of a run, or exported weights (.safetensors)")
    sub.add_argument("scan", metavar="SCAN")
    sub.add_argument("out", metavar="OUT.nii.gz")
    sub.add_argument("--skip-slices", metavar="N", help="as in preprocess; otherwise as the run was trained")
    sub.add_argument("--smallest-ml", type=_volume, metavar="ML", help="drop tumours of less volume (likewise, or 0)")
    sub.add_argument(
        "--temperature",
        type=_positive,
        metavar="T",
        help="divide the logits of reported probabilities by it (likewise, or 1)",
    )
    sub.add_argument("--report", action="store_true", help="write a page to look at beside the mask, OUT.html")
    _inference(sub, threshold=None, default="what crossval chose, or 0.5")
    _cluster(sub)

    sub = command("export", _export, "write a run's weights for others: safetensors, and JSON beside it")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("out", metavar="OUT.safetensors")
    sub.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")

    sub = command("animate", _animate, "show a scan slice by slice, with its tumours")
    sub.add_argument("scan", metavar="SCAN")
    sub.add_argument("out", metavar="OUT.gif")
    sub.add_argument("--mask", metavar="MASK", help="prediction to draw")
    sub.add_argument("--truth", metavar="LABEL", help="true label to draw")
    sub.add_argument("--window", default="lung", metavar="lung|mediastinum|LO,HI", help="HU shown from black to white")
    sub.add_argument("--every", type=_count(1), metavar="N", help="show every Nth slice (as many as make 100 frames)")
    sub.add_argument("--fps", type=_positive, default=10.0, metavar="N", help="frames a second (10)")

    sub = command("reproduce", _reproduce, "from nothing to the whole table on Task06_Lung, beside published figures")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument(
        "--plan", action="store_true", help="only say what it would do, how long it takes and what it needs"
    )
    sub.add_argument(
        "--source", default="aws", help="as for download, or a tree in Task06_Lung's layout that is there already (aws)"
    )
    sub.add_argument("--sha256", help="as for download")
    sub.add_argument("--recipe", choices=sorted(RECIPES), default="strong", help="how each fold is trained (strong)")
    sub.add_argument("--epochs", type=_count(1))
    _neighbours(sub)
    sub.add_argument(
        "--max-minutes", type=_positive, help="end each fold's training in time, with the schedule finished"
    )
    sub.add_argument("--folds", default="all", metavar="all|0,1,...", help="which to train now (all)")
    sub.add_argument("--splits", metavar="FILE", help="a splits_final.json (nnU-Net's own folds of all patients)")
    sub.add_argument("--device", default="auto", help="as for crossval (auto: all GPUs)")
    sub.add_argument("--size", type=_count(8), default=256, help="rows and columns of a slice (256)")
    sub.add_argument("--skip-slices", default="30", metavar="N", help="as for preprocess (30)")
    _slice_sets(sub, default=False)
    _workers(sub)

    sub = command("demo", _demo, "the whole pipeline on the sample")
    sub.add_argument("out", metavar="OUT", nargs="?", default="demo")
    return parser


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
    """What :func:`_training` reads, by the names of ``train`` and ``crossval``."""
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


def _workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_count(1), metavar="N", help="processes (one for each core)")


def _cluster(parser: argparse.ArgumentParser) -> None:
    text = "Dask scheduler whose workers do it, such as tcp://host:8786 (docs/clusters.md)"
    parser.add_argument("--cluster", metavar="ADDRESS", help=text)


def _neighbours(parser: argparse.ArgumentParser) -> None:
    text = "slices on each side that the network sees with each slice (0)"
    parser.add_argument("--neighbours", type=_count(0), metavar="N", help=text)


def _slice_sets(parser: argparse.ArgumentParser, default: bool | None) -> None:
    text = "the stacks have gaps, so that distances, volumes and lesions are left out of every measure"
    parser.add_argument("--slice-sets", action=argparse.BooleanOptionalAction, default=default, help=text)


def _training(
    sub: argparse.ArgumentParser, *, device: str = "auto, cpu, cuda, cuda:1 or mps (auto)", minutes: str = "the run"
) -> None:
    """Options of ``train`` and ``crossval``: the recipe, settings of it one by one, and the machine."""
    sub.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        help="all settings together (classic, the walk-through; strong is for a result)",
    )
    sub.add_argument("--loss", choices=("bce", "dice", "dice_bce"))
    sub.add_argument("--epochs", type=_count(1))
    sub.add_argument("--max-minutes", type=_positive, help=f"end {minutes} in time, with the schedule finished")
    sub.add_argument("--augment", choices=("torch", "imgaug", "none"))
    sub.add_argument("--batch-size", type=_count(1), help="slices a step, on all devices together")
    sub.add_argument("--learning-rate", type=_positive)
    _neighbours(sub)
    sub.add_argument(
        "--inner-val",
        type=_share,
        metavar="SHARE",
        help="share of the training patients that choose the checkpoint; 0 keeps the last (0.15)",
    )
    sub.add_argument(
        "--early-stop", type=_count(0), metavar="N", help="end after N epochs without a better Dice; 0 never"
    )
    sub.add_argument("--precision", choices=("auto", "32", "bf16"))
    sub.add_argument("--seed", type=_count(0))
    sub.add_argument("--device", default="auto", help=device)
    sub.add_argument("--loader-workers", type=_count(0), default=None, help="processes that load slices")
    text = "let torch compile the training step: minutes to start, then quicker (a GPU, many epochs)"
    sub.add_argument("--compile", action=argparse.BooleanOptionalAction, help=text)


def _inference(parser: argparse.ArgumentParser, *, threshold: float | None = 0.5, default: str = "0.5") -> None:
    text = f"probability above which a voxel is tumour ({default})"
    parser.add_argument("--threshold", type=_share, default=threshold, help=text)
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
    parser.add_argument("--batch-size", type=_count(1), help="slices at a time (4 on a CPU, 32 on a GPU)")


def _count(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} is under {least}")
        return value

    return whole_number


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time of 0 seconds or more")
    return value


def _volume(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no volume of 0 ml or more")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to under 1")
    return value


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


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files are removed on the way out."""


def _terminated(number: int, frame: Any) -> NoReturn:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())
