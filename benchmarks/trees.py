"""What the benchmarks work on: trees of copies of real scans, slices for the recipe, and weights with a plain mask."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

CASES = ("lung_001", "lung_113")


def require(path: Path, what: str) -> Path:
    """``path``, or an end that says what is missing."""
    if not path.exists():
        raise SystemExit(f"there is no {path}: name {what} (see benchmarks/README.md)")
    return path


def copies(volumes: Path, out: Path, count: int) -> Path:
    """A tree in Task06_Lung's layout with ``count`` labelled cases, the scans of ``volumes`` in turn; no test scans.

    Files are hard links where the file system has them, so that many copies take no room; each is read in full.
    """
    if out.exists():
        shutil.rmtree(out)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (out / name).mkdir(parents=True)
    training = []
    for number in range(count):
        source, case = CASES[number % len(CASES)], f"lung_{number:03d}"
        for name in ("imagesTr", "labelsTr"):
            _link(require(volumes / name / f"{source}.nii.gz", "a tree of whole scans"), out / name / f"{case}.nii.gz")
        training.append({"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"})
    content = {"name": "copies", "labels": {"0": "background", "1": "cancer"}, "training": training, "test": []}
    (out / "dataset.json").write_text(json.dumps(content))
    return out


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
