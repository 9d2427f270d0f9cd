"""Makes every picture and animation of this folder again, from the sample: ``make images``.

It runs the demo into a temporary folder (some minutes), or takes a demo that is there::

    .venv/bin/python images/make.py [DEMO]

The same demo gives the same bytes.  Everything shows synthetic patients.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import lungseg
from lungseg import LungDataset, Manifest, UNet, sampler_weights
from lungseg.augment import augment_named
from lungseg.errors import NOTICE, LungsegError, UsageError
from lungseg.geometry import slice_of, to_las
from lungseg.nifti import read_label, read_scan
from lungseg.randomness import SampleRandom
from lungseg.splits import Split
from lungseg.visualize import (
    animate,
    augmentation_examples,
    class_imbalance,
    montage,
    side_by_side,
    training_curves,
    unet_diagram,
)

HERE = Path(__file__).resolve().parent
SEED = 0
# A reader of the README waits for its animation.
ANIMATION_BYTES = 3_000_000
# Slices to each side of the tumour in the montage, and pixels around it in the picture of one slice.
SLICES_AROUND, PIXELS_AROUND = 2, 24


def main(demo: Path | None, out: Path = HERE) -> None:
    """Make all pictures.

    Args:
        demo: a folder that ``lungseg demo`` has made; without, one is made and removed again.
        out: folder for the pictures.

    Raises:
        LungsegError: the demo is not complete, or a picture can not be written.
    """
    if demo is None:
        with tempfile.TemporaryDirectory() as folder:
            lungseg.demo(Path(folder) / "demo")
            main(Path(folder) / "demo", out)
        return
    case = typical(demo / "run")
    animations(demo, case, out)
    slices(demo, case, out)
    training(demo, out)
    unet_diagram(UNet()).write(out / "unet.png")


def typical(run: Path) -> str:
    """The held-out patient in the middle by Dice (the better of two), as the demo shows: no picture flatters."""
    scores = run / "evaluation" / "cases.csv"
    try:
        with open(scores, encoding="utf-8", newline="") as file:
            ranked = sorted((float(row["dice"]), row["case"]) for row in csv.DictReader(file))
    except (OSError, KeyError, ValueError) as cause:
        raise UsageError.of(
            "no-scores", "can not be read", expected="scores of patients", file=scores, mend="Run `lungseg demo` again."
        ) from cause
    if not ranked:
        raise UsageError.of("no-scores", "holds no patient", file=scores, mend="Run `lungseg demo` again.")
    return ranked[len(ranked) // 2][1]


def files(demo: Path, case: str) -> tuple[Path, Path, Path]:
    """Scan, predicted mask and true label of a labelled case; they need not exist."""
    tree = demo / "Task06_Lung"
    name = f"{case}.nii.gz"
    return tree / "imagesTr" / name, demo / "predictions" / name, tree / "labelsTr" / name


def animations(demo: Path, case: str, out: Path) -> None:
    """A held-out patient with truth and prediction, and a scan that has no label with its prediction."""
    scan, prediction, truth = files(demo, case)
    animate(scan, out / "animation.gif", mask=prediction, truth=truth, max_bytes=ANIMATION_BYTES)
    tests = sorted((demo / "Task06_Lung" / "imagesTs").glob("*.nii.gz"))
    if not tests:
        raise UsageError.of("no-test-scan", "holds no test scan", file=demo, mend="Run `lungseg demo` again.")
    animate(tests[0], out / "test_scan.webp", mask=demo / "predictions" / tests[0].name, max_bytes=ANIMATION_BYTES)


def slices(demo: Path, case: str, out: Path) -> None:
    """Slices of a held-out patient with the outlines of truth and prediction."""
    scan_file, *mask_files = files(demo, case)
    scan = read_scan(scan_file)
    hu = to_las(scan.voxels, scan.affine)[0]
    prediction, truth = (to_las(label.voxels, label.affine)[0] for label in map(read_label, mask_files))
    pixels = truth.sum(axis=(0, 1))
    with_tumour = np.flatnonzero(pixels)
    shown = range(max(0, with_tumour[0] - SLICES_AROUND), min(hu.shape[2], with_tumour[-1] + SLICES_AROUND + 1))
    images, masks, truths = ([slice_of(volume, z) for z in shown] for volume in (hu, prediction, truth))
    title = f"{case}, synthetic. {NOTICE}"
    labels = [f"slice {z}" for z in shown]
    montage(images, masks, truths, n=8, labels=labels, title=title, unit="hu").write(out / "montage.png")
    best = int(np.argmax(pixels)) - shown[0]
    side_by_side(
        images[best], truths[best], masks[best], margin=PIXELS_AROUND, title=f"{labels[best]} of {title}", unit="hu"
    ).write(out / "side_by_side.png")


def training(demo: Path, out: Path) -> None:
    """The training data, with and without augmentation and sampler, and the curves of the run."""
    split = Split.read(demo / "run" / "splits.json")
    data = LungDataset(Manifest.read(demo / "slices"), list(split.train))
    image, mask = data[int(np.argmax(data.tumour_pixels))]
    augment = augment_named("torch")
    copies = torch.stack([image] * 5), torch.stack([mask] * 5)
    augmented = augment(*copies, SampleRandom(SEED, 0, range(5)))
    pairs = [(image, mask), *zip(*augmented, strict=True)]
    augmentation_examples(pairs, title=f"Synthetic. {NOTICE}").write(out / "augmentation.png")
    class_imbalance(data.tumour_pixels, sampler_weights(data.tumour_pixels)).write(out / "imbalance.png")
    training_curves(demo / "run" / "metrics.csv", out / "curves.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=NOTICE)
    parser.add_argument("demo", metavar="DEMO", nargs="?", type=Path, help="folder that `lungseg demo` has made")
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER", help="where to write (this folder)")
    args = parser.parse_args()
    try:
        main(args.demo, args.out)
    except LungsegError as error:
        sys.exit(f"images: {error}")
