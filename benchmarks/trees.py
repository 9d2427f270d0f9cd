"""What the benchmarks work on: trees of copies of real scans, slices for the recipe, and weights with a plain mask."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from lungseg.memory import available_memory

CASES = ("lung_001", "lung_113")
MEMORY = Path("/dev/shm")
ROOM_BYTES = 10 << 30  # twice what the recipe writes of 24 scans


def require(path: Path, what: str) -> Path:
    """``path``, or an end that says what is missing."""
    if not path.exists():
        raise SystemExit(f"there is no {path}: name {what} (see benchmarks/README.md)")
    return path


def scratch() -> Path:
    """A new folder to write to, in memory where that has room: what is compared is work, not what a disk did before.

    Folders are emptied between runs.  On a virtual machine with ext4 without a journal, each new file was then seen to
    take many times as long for some minutes; that the kernel passes over inodes that were deleted of late
    would explain it, and was not traced.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES < available_memory()
    return Path(tempfile.mkdtemp(prefix="lungseg-bench-", dir=MEMORY if roomy else None))


def copies(volumes: Path, out: Path, count: int) -> Path:
    """A tree in Task06_Lung's layout with ``count`` labelled cases, the scans of ``volumes`` in turn; no test scans.

    Files are links where the file system has them, so that many copies take no room; each is read in full.
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
    for way in (os.link, os.symlink):  # the first works on one file system only
        with contextlib.suppress(OSError):
            way(source.resolve(), target)
            return
    shutil.copyfile(source, target)
