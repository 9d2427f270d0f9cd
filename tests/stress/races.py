"""Four of the same command at once: one writes, the others say so (rows 9 and 32)."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from tests.volumes import tree_bytes, write_tree

from . import Figure
from .victim import Victim

AT_ONCE = 4
LOCKED, DONE = 5, 0


def races(count: int, folder: Path) -> Figure:
    """Half ``preprocess``, a quarter ``download`` of an archive on disk, a quarter ``sample``."""
    figure = Figure("races", "4 writers at once: one correct output, the others end with 5 or find the work done")
    root = write_tree(folder / "root")
    with tarfile.open(folder / "archive.tar", "w") as archive:
        archive.add(root, "Task06_Lung")
    digest = hashlib.sha256((folder / "archive.tar").read_bytes()).hexdigest()
    commands = [
        ("preprocess", root, "OUT", "--size", 16, "--skip-slices", 0, "--workers", 1),
        ("download", "OUT", "--source", folder / "archive.tar", "--sha256", digest),
        ("preprocess", root, "OUT", "--size", 16, "--skip-slices", 0, "--workers", 1),
        ("sample", "OUT", "--cases", 1, "--test-cases", 1, "--shape", 32, 32, 16, "--workers", 1),
    ]
    codes: dict[str, int] = {}
    with Victim(folder) as victim:
        for number in range(count):
            words = commands[number % len(commands)]
            clean, out = folder / f"clean-{words[0]}", folder / f"out-{number}"
            if not clean.exists():
                done = victim.run(*(clean if word == "OUT" else word for word in words))
                figure.check(done["code"] == DONE, f"{words[0]} alone: {done['err'][-300:]}")
            ended = victim.race(AT_ONCE, *(out if word == "OUT" else word for word in words))
            figure.tried += 1
            found = [one["code"] for one in ended]
            for code in found:
                codes[str(code)] = codes.get(str(code), 0) + 1
            case = f"{words[0]} {number}"
            figure.check(DONE in found and set(found) <= {DONE, LOCKED}, f"{case}: ended with {found}")
            for one in ended:
                locked = one["err"].strip().splitlines()[-1:] if one["code"] == LOCKED else ["another lungseg process"]
                figure.check(locked and "another lungseg process" in locked[0], f"{case}: says {locked}")
            figure.check(tree_bytes(out) == tree_bytes(clean), f"{case}: another tree")
    figure.facts = {"codes": dict(sorted(codes.items()))}
    return figure
