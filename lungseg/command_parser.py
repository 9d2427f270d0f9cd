"""The command line as argparse takes it: every subcommand, its options and its help."""

from __future__ import annotations

import argparse
from typing import NoReturn

from . import __version__
from .command_handlers import HANDLERS
from .command_options import (
    add_cluster,
    add_inference,
    add_neighbours,
    add_slice_sets,
    add_training,
    add_workers,
    count,
    portion,
    positive,
    seconds,
    volume,
)
from .config import RECIPES
from .errors import NOTICE, UsageError, printable


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

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=NOTICE, parents=[common]
        )
        sub.set_defaults(handler=HANDLERS[name])
        return sub

    sub = command("sample", "write a synthetic Task06_Lung tree")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--cases", type=count(1), default=12, help="labelled patients (12)")
    sub.add_argument("--test-cases", type=count(0), default=2, help="unlabelled patients (2)")
    sub.add_argument("--shape", type=count(16), nargs=3, default=(256, 256, 64), metavar=("X", "Y", "Z"))
    sub.add_argument("--seed", type=count(0), default=0)
    add_workers(sub)

    sub = command("download", "fetch, check and unpack Task06_Lung (9.16 GB)")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--source", default="aws", help="aws, kaggle:OWNER/NAME, a URL, or an archive on disk (aws)")
    sub.add_argument("--sha256", help="what another archive than the published one must hash to")
    sub.add_argument("--keep-archive", action="store_true", help="leave the archive beside the unpacked tree")
    sub.add_argument(
        "--wait",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for another download into OUT to end (0: end at once, code 5)",
    )

    sub = command("verify", "check a tree of scans, to the last byte, and list what is wrong")
    sub.add_argument("root", metavar="ROOT")
    sub.add_argument("--json", metavar="FILE", help="write the list as JSON as well")
    add_workers(sub)
    add_cluster(sub)

    sub = command("preprocess", "cut scans into slices for training")
    sub.add_argument("root", metavar="ROOT")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument("--size", type=count(8), default=256, help="rows and columns of a slice (256)")
    sub.add_argument(
        "--skip-slices",
        default="30",
        metavar="N",
        help="axial slices to drop at the feet end: 30, 12.5mm, or auto (30)",
    )
    sub.add_argument("--rebuild", action="store_true", help="make everything again if OUT was made with other settings")
    add_slice_sets(sub, default=None)
    add_workers(sub)
    add_cluster(sub)

    sub = command("shard", "pack slices as shards, for data beyond one machine's disk")
    sub.add_argument("processed", metavar="PROCESSED")
    sub.add_argument("out", metavar="OUT")

    sub = command("train", "train a network on slices")
    sub.add_argument("processed", metavar="PROCESSED", help="folder of preprocess or shard, or s3://... with shards")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--fold", type=count(0), help="which fold is held out (0)")
    sub.add_argument("--n-folds", type=count(2), help="folds that the patients are split into (5)")
    sub.add_argument("--splits", metavar="FILE", help="nnU-Net's splits_final.json, or the splits.json of another run")
    add_training(sub)
    text = "train on so many devices of each node, a process each; a batch is shared by all (1)"
    sub.add_argument("--devices", type=count(1), metavar="N", help=text)
    sub.add_argument("--nodes", type=count(1), metavar="M", help="train on so many nodes; give the command on each (1)")
    sub.add_argument("--tensorboard", action="store_true", help="log for TensorBoard as well (an extra)")
    sub.add_argument("--resume", action="store_true", help="go on with a run that was stopped")

    sub = command("crossval", "train every fold, then score each patient by the network that never saw it")
    sub.add_argument("processed", metavar="PROCESSED")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--n-folds", type=count(2), help="folds that the patients are split into (5)")
    sub.add_argument("--splits", metavar="FILE", help="nnU-Net's splits_final.json, or the splits.json of another run")
    sub.add_argument("--folds", default="all", metavar="all|0,1,...", help="which to train now (all)")
    add_training(
        sub, device="auto, cpu, cuda or mps; cuda:0,cuda:1 train a fold each (auto: all GPUs)", minutes="a fold"
    )

    sub = command("evaluate", "score the held-out patients of a run's fold, or of all its folds")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("--scans", metavar="ROOT", help="read the original scans and labels again instead of the slices")
    sub.add_argument(
        "--compare",
        metavar="OTHER_RUN|FILE.csv[:COLUMN]",
        help="compare Dice patient by patient with another evaluated run, or with a table `case,dice`",
    )
    sub.add_argument("--no-report", action="store_true", help="leave report.html and its pictures out")
    add_inference(sub)
    add_cluster(sub)

    sub = command("score", "measure masks that any tool made against labels")
    sub.add_argument("predictions", metavar="PREDICTIONS")
    sub.add_argument("labels", metavar="LABELS")
    sub.add_argument("--json", metavar="FILE")
    sub.add_argument("--csv", metavar="FILE")
    add_slice_sets(sub, default=False)
    add_workers(sub)
    add_cluster(sub)

    sub = command("predict", "segment a scan, or a folder of scans into a folder")
    sub.add_argument("run", metavar="RUN", help="folder of a run, or exported weights (.safetensors)")
    sub.add_argument("scan", metavar="SCAN")
    sub.add_argument("out", metavar="OUT.nii.gz")
    sub.add_argument("--skip-slices", metavar="N", help="as in preprocess; otherwise as the run was trained")
    sub.add_argument("--smallest-ml", type=volume, metavar="ML", help="drop tumours of less volume (likewise, or 0)")
    text = "drop tumours that weigh less than this share of the scan's heaviest, 0 to 1 (likewise, or 0)"
    sub.add_argument("--smallest-share", type=portion, metavar="SHARE", help=text)
    sub.add_argument(
        "--temperature",
        type=positive,
        metavar="T",
        help="divide the logits of reported probabilities by it (likewise, or 1)",
    )
    sub.add_argument("--report", action="store_true", help="write a page to look at beside the mask, OUT.html")
    add_inference(sub, threshold=None, default="what crossval chose, or 0.5")
    add_cluster(sub)

    sub = command("export", "write a run's weights for others: safetensors, and JSON beside it")
    sub.add_argument("run", metavar="RUN")
    sub.add_argument("out", metavar="OUT.safetensors")
    sub.add_argument("--checkpoint", choices=("best", "last"), default="best", help="which weights (best)")

    sub = command("animate", "show a scan slice by slice, with its tumours")
    sub.add_argument("scan", metavar="SCAN")
    sub.add_argument("out", metavar="OUT.gif")
    sub.add_argument("--mask", metavar="MASK", help="prediction to draw")
    sub.add_argument("--truth", metavar="LABEL", help="true label to draw")
    sub.add_argument("--window", default="lung", metavar="lung|mediastinum|LO,HI", help="HU shown from black to white")
    sub.add_argument("--every", type=count(1), metavar="N", help="show every Nth slice (as many as make 100 frames)")
    sub.add_argument("--fps", type=positive, default=10.0, metavar="N", help="frames a second (10)")

    sub = command("reproduce", "from nothing to the whole table on Task06_Lung, beside published figures")
    sub.add_argument("out", metavar="OUT")
    sub.add_argument(
        "--plan", action="store_true", help="only say what it would do, how long it takes and what it needs"
    )
    sub.add_argument(
        "--source", default="aws", help="as for download, or a tree in Task06_Lung's layout that is there already (aws)"
    )
    sub.add_argument("--sha256", help="as for download")
    sub.add_argument("--recipe", choices=sorted(RECIPES), default="strong", help="how each fold is trained (strong)")
    sub.add_argument("--epochs", type=count(1))
    add_neighbours(sub)
    sub.add_argument(
        "--max-minutes", type=positive, help="end each fold's training in time, with the schedule finished"
    )
    sub.add_argument("--folds", default="all", metavar="all|0,1,...", help="which to train now (all)")
    sub.add_argument("--splits", metavar="FILE", help="a splits_final.json (nnU-Net's own folds of all patients)")
    sub.add_argument("--device", default="auto", help="as for crossval (auto: all GPUs)")
    sub.add_argument("--size", type=count(8), default=256, help="rows and columns of a slice (256)")
    sub.add_argument("--skip-slices", default="30", metavar="N", help="as for preprocess (30)")
    add_slice_sets(sub, default=False)
    add_workers(sub)

    sub = command("demo", "the whole pipeline on the sample")
    sub.add_argument("out", metavar="OUT", nargs="?", default="demo")
    return parser
