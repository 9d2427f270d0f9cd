"""The folder of a run: where its files are, and what its config.json says.

``config.json`` is all that decides the run (recipe, fold, hash of the training data), the way to the preprocessed
folder relative to the run, so that both can move together, and once the run has ended, how it ended.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .case_record import image_name, mask_name
from .checkpoint import BEST, FOLDER, LAST
from .config import Recipe, to_dict
from .digests import digest
from .errors import DataError, LungsegError, UsageError, printable
from .manifest import Manifest
from .records import check_format, read_json, write_json
from .shards import is_address
from .splits import Split

FORMAT = 1
CONFIG, SPLITS, METRICS, CURVES = "config.json", "splits.json", "metrics.csv", "curves.png"
CROSSVAL = "crossval.json"  # in place of config.json, where the folds are run folders below


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Args:
        run: its folder.
        epochs: epochs that were begun.
        best_epoch: the epoch of ``best.ckpt``, counted from 1.
        val_dice: mean Dice of the inner validation patients in that epoch; None where there are none.
        reason: why it ended: ``epochs`` (all done), ``time`` or ``early stop``.
        minutes: time that it took, over all its parts.
    """

    run: Path
    epochs: int
    best_epoch: int
    val_dice: float | None
    reason: str
    minutes: float

    @property
    def best(self) -> Path:
        return self.run / FOLDER / BEST

    @property
    def last(self) -> Path:
        return self.run / FOLDER / LAST

    @property
    def metrics(self) -> Path:
        return self.run / METRICS

    @property
    def curves(self) -> Path:
        return self.run / CURVES

    def __str__(self) -> str:
        ended = "" if self.reason == "epochs" else f" (ended by {self.reason})"
        score = "no inner validation, so the last weights are kept"
        if self.val_dice is not None:
            score = f"best Dice of the inner validation patients {self.val_dice:.3f} in epoch {self.best_epoch}"
        return f"{self.epochs} epochs in {self.minutes:.1f} minutes{ended}; {score}\n{self.best}"


def describe(
    recipe: Recipe, split: Split, manifest: Manifest, *, max_minutes: float, limit_batches: int, deterministic: bool
) -> dict[str, Any]:
    """What decides a run, as plain values; the arguments are those of ``train``, 0 for none."""
    return {
        "format": FORMAT,
        "lungseg": __version__,
        "recipe": to_dict(recipe),
        "fold": split.fold,
        "n_folds": split.n_folds,
        "max_minutes": float(max_minutes),
        "limit_batches": int(limit_batches),
        "deterministic": bool(deterministic),
        "data": {
            "settings": to_dict(manifest.config),
            "slices": sum(len(manifest.record(case).slices) for case in split.train),
            "digest": data_digest(manifest, [*split.train, *split.inner_val]),
        },
    }


def data_digest(manifest: Manifest, cases: list[str]) -> str:
    """One hash for all slices and masks of ``cases``, from the manifest's hashes (XXH3-128, hex)."""
    files = {}
    for case in sorted(cases):
        record = manifest.record(case)
        names = [name(z) for z in record.slices for name in (image_name, mask_name)]
        files[case] = {name: record.hashes[name] for name in names}
    return digest(json.dumps(files).encode("utf-8", "surrogateescape"))


def read_config(run: str | Path) -> dict[str, Any]:
    """The config.json of a run.

    Raises:
        UsageError: there is none, so this is no run; or it is damaged or of another version.
    """
    path = Path(run) / CONFIG
    config = read_json(path, mend="Name a folder that `lungseg train` has made.")
    if not check_format(config, FORMAT, path) or not isinstance(config.get("recipe"), dict):
        found = str(config.get("format")) if isinstance(config, dict) else type(config).__name__
        raise _bad_config(path, f"format {FORMAT}", found[:200])
    if not isinstance(config.get("processed"), str) or "\0" in config["processed"]:
        raise _bad_config(path, "the way to the slices (processed)", str(config.get("processed"))[:200])
    data = config.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("settings"), dict) or type(data.get("digest")) is not str:
        raise _bad_config(path, "the data that it is trained on (data: settings, digest)", str(data)[:200])
    if type(config.get("fold")) is not int:
        raise _bad_config(path, "the number of the fold", str(config.get("fold"))[:200])
    for name in ("n_folds", "max_minutes", "limit_batches"):
        if not isinstance(number := config.get(name, 0), (int, float)) or not 0 <= number < 2**31:
            raise _bad_config(path, f"a number of {name}", str(number)[:200])
    if not isinstance(config.get("earlier_machines", []), list):
        raise _bad_config(path, "a list of earlier_machines", str(config["earlier_machines"])[:200])
    return config


def _bad_config(path: Path, expected: str, found: str) -> LungsegError:
    mend = "Take the run's folder from where it came from again, or train again."
    what = "is no config.json of this version"
    return UsageError.of("bad-config", what, expected=expected, found=found, file=path, mend=mend)


def begin(run: Path, config: dict[str, Any], split: Split, processed: str | Path, machine: dict[str, Any]) -> None:
    """Write what a run starts, or goes on, with; config.json last, because it says that there is a run.

    A run that goes on on another machine, or with another torch, is warned of: its weights are not those of one that
    was trained in one piece.  ``earlier_machines`` keeps what its other parts were made on.
    """
    earlier: list[Any] = []
    if (run / CONFIG).exists():
        before = read_config(run)
        earlier = [*(before.get("earlier_machines") or []), before.get("machine")]
    else:
        split.write(run / SPLITS)
    if earlier and earlier[-1] == machine:
        earlier.pop()
    elif earlier:
        last = earlier[-1] if isinstance(earlier[-1], dict) else {}
        other = ", ".join(
            f"{key} {machine[key]} after {last.get(key)}" for key in machine if machine[key] != last.get(key)
        )
        what = f"goes on with {other}: the weights will not be those of a run in one piece"
        print(f"train: warning: {printable(run)} {printable(what)}", file=sys.stderr, flush=True)
    address = is_address(processed)
    way = str(processed) if address else os.path.relpath(Path(processed).resolve(), run.resolve())
    parts = {"earlier_machines": earlier} if earlier else {}
    begun = {
        **config,
        "processed": way if address else Path(way).as_posix(),
        "machine": machine,
        **parts,
        "finished": None,
    }
    write_json(run / CONFIG, begun)


def finish(run: Path, result: RunResult) -> None:
    """Write into config.json how the run ended."""
    ended = {key: value for key, value in asdict(result).items() if key != "run"}
    write_json(run / CONFIG, {**read_config(run), "finished": ended})


def finished(run: Path) -> RunResult | None:
    """How the run ended; None where it has not."""
    ended = read_config(run).get("finished")
    if ended is None:
        return None
    kinds: dict[str, Any] = {"epochs": int, "best_epoch": int, "reason": str, "minutes": (int, float)}
    if not (
        isinstance(ended, dict)
        and ended.keys() == {*kinds, "val_dice"}
        and all(isinstance(ended[key], kind) for key, kind in kinds.items())
        and isinstance(ended["val_dice"], (int, float, type(None)))
    ):
        raise _bad_config(Path(run) / CONFIG, "how the run ended (finished)", str(ended)[:200])
    return RunResult(run=run, **ended)


def processed_folder(run: str | Path) -> Path:
    """The preprocessed folder that a run was trained on.

    Raises:
        UsageError: the run's config.json is missing or damaged.
        DataError: there is no such folder any more.
    """
    return slices_of(run, str(read_config(run)["processed"]))


def slices_of(run: str | Path, way: str) -> Path:
    """The folder of slices that lies at ``way`` from ``run``.

    Raises:
        DataError: there is no folder.
    """
    folder = Path(run) / way
    if not folder.is_dir():
        what, mend = "the slices that this run was trained on are not there", "Move run and slices together"
        mend = f"{mend}, or preprocess the same scans again into that folder."
        raise DataError.of("missing-slices", what, expected=f"the folder {way}, from the run", file=run, mend=mend)
    return folder
