"""What a reproduction is going to do, and what it will cost here: settled, checked and said before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .archive_plan import ROOT
from .config import Recipe
from .crossval import devices_named, folds_named
from .crossval_folder import is_done
from .errors import NOTICE, UsageError, printable
from .estimate import Estimate, estimate
from .executor import cores
from .memory import available_memory
from .neighbours import refuse_gaps
from .probe import SECONDS, probe
from .splits import read_splits
from .training_settings import DEFAULT_FOLDS, base_recipe, check_limits, check_recipe
from .tree import Tree, read_tree
from .workload import published_workload, workload_of

DATA, SLICES, RUN, MASKS = "data", "slices", "run", "predictions"


@dataclass(frozen=True)
class Plan:
    """A reproduction that has not been started, or not been finished.

    Args:
        out: folder for everything.
        source: tree on this machine; None where it has to be fetched.
        recipe: how each fold is trained, its numbers checked.
        n_folds: folds that the patients are parted into.
        folds: which of them are trained.
        cost: what all of it takes.
        free_disk_bytes: that the disk of ``out`` has left.
        taken_bytes: that ``out`` holds already.
    """

    out: Path
    source: Path | None
    recipe: Recipe
    n_folds: int
    folds: tuple[int, ...]
    cost: Estimate
    free_disk_bytes: int
    taken_bytes: int = 0

    @property
    def needed_bytes(self) -> int:
        """Of disk, besides what is taken already."""
        return max(0, self.cost.disk_bytes - self.taken_bytes)

    def __str__(self) -> str:
        where = f"into {printable(self.out)}, folds {', '.join(map(str, self.folds))} of 0 to {self.n_folds - 1}"
        free = f"free here: {self.free_disk_bytes / 1e9:.1f} GB of disk, {available_memory() / 1e9:.1f} GB of memory"
        taken = f", besides {self.taken_bytes / 1e9:.1f} GB that the folder holds already" if self.taken_bytes else ""
        return "\n".join([where, str(self.cost), free + taken, NOTICE])


def plan_reproduction(
    out: str | Path,
    *,
    source: str | Path = "aws",
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
    probe_s: float = SECONDS,
) -> Plan:
    """Settle what is to be done, and work out what it costs; writes nothing, and asks no network.

    The recipe's network is tried for some seconds on the device.  The arguments are those of
    :func:`lungseg.reproduce.reproduce`; ``probe_s`` is how long training and use of the network are each tried.

    Raises:
        UsageError: an argument can not be meant, or ``out`` and the tree lie one in the other.
        MachineError: this machine has no such device.
    """
    out = Path(out)
    tree = local_tree(out, source)
    chosen = check_recipe(base_recipe(recipe, None).but(epochs=epochs, neighbours=neighbours))
    refuse_gaps(chosen.neighbours, slice_sets, out)
    check_limits(max_minutes, None, None)
    devices = devices_named(device)
    n_folds = DEFAULT_FOLDS if splits is None else len(read_splits(splits, None))
    numbers = tuple(folds_named(folds, n_folds))
    work = published_workload(str(skip_slices)) if tree is None else workload_of(tree, str(skip_slices))
    rates = probe(chosen, devices[0].partition("#")[0], size=size, seconds=probe_s)
    cost = estimate(
        work,
        chosen,
        rates,
        n_folds=n_folds,
        folds=len(numbers),
        trained=sum(is_done(out / RUN, number) for number in numbers),
        size=size,
        max_minutes=max_minutes,
        workers=workers or cores(),
        devices=len(devices),
    )
    return Plan(
        out,
        None if tree is None else tree.root,
        chosen,
        n_folds,
        numbers,
        replace(cost, notes=(*cost.notes, *_busy())),
        shutil.disk_usage(_standing(out)).free,
        sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    )


def local_tree(out: Path, source: str | Path) -> Tree | None:
    """The tree that ``source`` names or that an earlier call has fetched; None where it has to be fetched.

    Raises:
        UsageError: there is nothing of that name; a tree that is named and ``out`` lie one in the other, or there is no
            scan in it.
    """
    elsewhere = source == "aws" or str(source).startswith("kaggle:") or "://" in str(source)
    if not elsewhere and not Path(source).exists():
        forms = "aws, kaggle:OWNER/NAME, https://..., an archive's path or a tree's folder"
        raise UsageError.of("no-such-source", "there is no such file, folder or source", expected=forms, file=source)
    if source != "aws" and Path(source).is_dir():
        root, target = Path(source).resolve(), out.resolve()
        if root == target or root in target.parents or target in root.parents:
            mend = "Name a folder beside the data folder, which is never changed."
            what = "the output folder and the data folder lie one in the other"
            raise UsageError.of("out-in-root", what, file=out, mend=mend)
        return read_tree(source)
    fetched = out / DATA / ROOT
    return read_tree(fetched) if (fetched / "dataset.json").is_file() else None


def _busy() -> list[str]:
    """That other programs stretch what was measured, where they do."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return []
    if load <= 1.5 * cores():
        return []
    return [f"other programs keep this machine busy (load {load:.1f} on {cores()} cores): alone it would be quicker"]


def _standing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place
