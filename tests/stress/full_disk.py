"""A disk that is full before, or gets full while, each of the commands writes (rows 8 and 37)."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.volumes import write_tree

from . import Figure
from .victim import Victim, can_mount

FULL, DONE = 5, 0


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Args:
        words: its command line, given the small disk.
        out: what it writes below the small disk.
        again: what is added to go on after it was stopped.
        keeps: whether what stood at ``out`` before must be sound after it failed, because it is replaced in place.
    """

    words: Callable[[Path], list[object]]
    out: str
    again: tuple[str, ...] = ()
    keeps: bool = False


def writers(folder: Path) -> dict[str, Writer]:
    """All of them; what they read lies in ``folder``, but a run, which ``evaluate`` writes into, on the disk."""
    root, processed = folder / "root", folder / "processed"
    scan, label = root / "imagesTr/lung_001.nii.gz", root / "labelsTr/lung_001.nii.gz"
    archive = folder / "Task06_Lung.tar"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    cpu = ("--device", "cpu")

    def run(disk: Path) -> Path:
        return disk / "run"

    return {
        "sample": Writer(
            lambda disk: ["sample", disk / "sample", "--cases", 2, "--shape", 32, 32, 16, "--workers", 1], "sample"
        ),
        "download": Writer(
            lambda disk: ["download", disk / "data", "--source", archive, "--sha256", digest], "data"
        ),
        "verify": Writer(lambda disk: ["verify", root, "--json", disk / "found.json", "--workers", 1], "found.json"),
        "preprocess": Writer(
            lambda disk: ["preprocess", root, disk / "slices", "--size", 16, "--skip-slices", 0, "--workers", 1],
            "slices",
        ),
        "train": Writer(
            lambda disk: ["train", processed, disk / "new", "--recipe", "demo", "--n-folds", 3, *cpu],
            "new",
            again=("--resume",),
        ),
        "evaluate": Writer(lambda disk: ["evaluate", run(disk), *cpu], "run/evaluation", keeps=True),
        "predict": Writer(lambda disk: ["predict", run(disk), scan, disk / "mask.nii.gz", *cpu], "mask.nii.gz"),
        "predict a folder": Writer(lambda disk: ["predict", run(disk), root, disk / "masks", *cpu], "masks"),
        "export": Writer(lambda disk: ["export", run(disk), disk / "w.safetensors"], "w.safetensors"),
        "score": Writer(
            lambda disk: ["score", label, label, "--json", disk / "s.json", "--csv", disk / "s.csv"], "s.json"
        ),
        "animate": Writer(
            lambda disk: ["animate", scan, disk / "a.gif", "--truth", label], "a.gif"
        ),
        "animate a webp": Writer(lambda disk: ["animate", scan, disk / "a.webp"], "a.webp"),
    }  # fmt: skip


def full_disks(
    shares: Sequence[float], folder: Path, *, told: tuple[bool, ...] = (True, False), only: Sequence[str] = ()
) -> Figure:
    """Every writer on a small disk with room for some share of what it writes, and again once there is room.

    Where no disk can be mounted, the system's limit on the size of a file takes its place.

    Args:
        shares: of what it writes that there is room for.
        folder: of the test.
        told: whether the disk says beforehand that it is full, or is only found out to be while it is written to.
        only: names of writers; all where it is empty.

    """
    figure = Figure(
        "full_disks", "no corrupt final file, exit code 5, and the same command ends well once there is room"
    )
    mounted = can_mount()
    figure.facts = {"by": "a tmpfs" if mounted else "RLIMIT_FSIZE", "refused": 0, "fitted": 0}
    disk = folder / "disk"
    with ExitStack() as stack:
        victim = stack.enter_context(Victim(folder, own_mounts=mounted))
        victim.ask("mount", path=disk, size=64 << 20) if mounted else disk.mkdir()
        prepare(figure, victim, folder, disk)
        for name, writer in writers(folder).items():
            if only and name not in only:
                continue
            words = writer.words(disk)
            done = victim.run(*words)
            if not figure.check(done["code"] == DONE, f"{name}: without a limit {done['code']}: {done['err'][-300:]}"):
                continue
            needed = victim.ask("used", path=disk / writer.out) or 4096
            for share in shares:
                for said in told:
                    if not writer.keeps:
                        victim.ask("remove", path=disk / writer.out)
                    _one(figure, victim, disk, name, writer, int(needed * share), not said, mounted)
        if mounted:
            victim.ask("unmount", path=disk)
    return figure


def prepare(figure: Figure, victim: Victim, folder: Path, disk: Path) -> None:
    """Make what the writers read, in ``folder``, and a run on the small disk."""
    root = write_tree(folder / "root")
    with tarfile.open(folder / "Task06_Lung.tar", "w") as archive:
        archive.add(root, "Task06_Lung")
    processed = folder / "processed"
    for words in (
        ("preprocess", root, processed, "--size", 16, "--skip-slices", 0, "--workers", 1),
        ("train", processed, disk / "run", "--recipe", "demo", "--n-folds", 3, "--device", "cpu"),
    ):
        done = victim.run(*words)
        figure.check(done["code"] == DONE, f"{words[0]}: {done['err'][-300:]}")


def _one(
    figure: Figure, victim: Victim, disk: Path, name: str, writer: Writer, room: int, plenty: bool, mounted: bool
) -> None:
    case = f"{name} with room for {room} bytes{', found out while writing' if plenty else ''}"
    if mounted:
        victim.ask("fill", path=disk, free=room)
        failed = victim.run(*writer.words(disk), plenty=plenty)
    else:
        failed = victim.run(*writer.words(disk), most_bytes=room, plenty=plenty)
    figure.tried += 1
    figure.facts["refused" if failed["code"] == FULL else "fitted"] += 1
    lines = failed["err"].strip().splitlines() or [""]
    figure.check(failed["code"] in (FULL, DONE), f"{case}: ended with {failed['code']}: {lines[-1][:300]}")
    figure.check("Traceback" not in failed["err"], f"{case}: a traceback")
    figure.check(room > 0 or failed["code"] == FULL or not mounted, f"{case}: said to be done")
    if failed["code"] == FULL:
        said = "disk" in lines[-1] or "space" in lines[-1]
        figure.check(said, f"{case}: says {lines[-1][:300]}")
    for fault in victim.ask("unsound", path=disk):
        figure.check(False, f"{case}: {fault}")
    victim.ask("empty", path=disk)
    words = writer.words(disk)
    began = writer.again and (failed["code"] == DONE or "config.json" in victim.ask("names", path=disk / writer.out))
    again = victim.run(*words, *(writer.again if began else ()))
    figure.check(again["code"] == DONE, f"{case}: once there is room {again['code']}: {again['err'][-300:]}")
    for fault in victim.ask("unsound", path=disk):
        figure.check(False, f"{case}, then with room: {fault}")
