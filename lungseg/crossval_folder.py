"""The folder of a cross-validated run: what decides it, where its folds are, and what was chosen in the end.

``RUN/crossval.json`` is all that decides it, ``RUN/splits.json`` the folds, fixed when it starts; ``RUN/folds/<k>`` is
the run of fold ``k``, as ``train`` makes it.  ``chosen`` in crossval.json says, once patients were scored, which folds
``predict`` uses, by the SHA-256 of their weights, and with which settings.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .config import Recipe, from_dict, to_dict
from .errors import UsageError
from .going_on import refuse_differences
from .manifest import Manifest
from .postprocess import PostProcessing
from .records import check_format, read_json, write_json
from .run_folder import CONFIG, CROSSVAL, SPLITS, data_digest, finished, slices_of
from .splits import VERSION, Fold, read_splits

FORMAT = 1
FOLDS = "folds"


@dataclass(frozen=True)
class Chosen:
    """What ``predict`` uses.

    Args:
        folds: numbers of the folds, rising.
        weights: SHA-256 of each one's ``best.ckpt``.
        postprocessing: chosen on the out-of-fold predictions of these folds.
    """

    folds: tuple[int, ...]
    weights: tuple[str, ...]
    postprocessing: PostProcessing

    def refuse_other_weights(self, run: str | Path, weights: Sequence[str]) -> None:
        """Raise :class:`UsageError` where the folds now hold other weights than those that were scored."""
        other = [str(fold) for fold, one, two in zip(self.folds, self.weights, weights, strict=True) if one != two]
        if other:
            raise UsageError.of(
                "other-weights",
                f"holds other weights than those that the settings were chosen for, in fold {', '.join(other)}",
                file=run,
                mend="Run the same `lungseg crossval` again: it scores the weights that are there.",
            )


def is_crossval(run: str | Path) -> bool:
    """Whether ``run`` is the folder of a cross-validated run."""
    return (Path(run) / CROSSVAL).exists()


def fold_folder(run: str | Path, fold: int) -> Path:
    """The run folder of a fold."""
    return Path(run) / FOLDS / str(fold)


def is_done(run: str | Path, fold: int) -> bool:
    """Whether the fold has been trained to its end."""
    folder = fold_folder(run, fold)
    return (folder / CONFIG).exists() and finished(folder) is not None


def describe(
    recipe: Recipe,
    folds: Sequence[Fold],
    manifest: Manifest,
    *,
    max_minutes: float,
    limit_batches: int,
    deterministic: bool,
) -> dict[str, Any]:
    """What decides a cross-validated run, as plain values; ``max_minutes`` is for each fold, 0 is no limit."""
    cases = sorted({case for fold in folds for case in (*fold.train, *fold.val)})
    return {
        "format": FORMAT,
        "lungseg": __version__,
        "recipe": to_dict(recipe),
        "n_folds": len(folds),
        "max_minutes": float(max_minutes),
        "limit_batches": int(limit_batches),
        "deterministic": bool(deterministic),
        "data": {"settings": to_dict(manifest.config), "digest": data_digest(manifest, cases)},
    }


def read_crossval(run: str | Path) -> dict[str, Any]:
    """The crossval.json of a run.

    Raises:
        UsageError: there is none, or it is damaged or of another version.
    """
    path = Path(run) / CROSSVAL
    config = read_json(path, mend="Name a folder that `lungseg crossval` has made.")
    if not check_format(config, FORMAT, path) or not isinstance(config.get("recipe"), dict):
        found = str(config.get("format")) if isinstance(config, dict) else type(config).__name__
        raise UsageError.of("bad-config", "is no crossval.json of this version", expected="1", found=found, file=path)
    if not isinstance(config.get("processed"), str) or "\0" in config["processed"]:
        what, found = "lacks the way to the slices (processed)", str(config.get("processed"))[:200]
        raise UsageError.of("bad-config", what, expected="a path from the run", found=found, file=path)
    for name in ("n_folds", "max_minutes", "limit_batches"):
        if not isinstance(number := config.get(name, 0), (int, float)) or not 0 <= number < 2**31:
            what, found = f"lacks a number of {name}", str(number)[:200]
            raise UsageError.of("bad-config", what, expected="0 or more", found=found, file=path)
    return config


def begin(run: Path, config: dict[str, Any], folds: Sequence[Fold], source: str, processed: Path) -> None:
    """Write what a run starts with; crossval.json last, because it says that there is a run."""
    listed = [{"train": list(fold.train), "val": list(fold.val)} for fold in folds]
    write_json(run / SPLITS, {"version": VERSION, "source": source, "folds": listed})
    way = os.path.relpath(processed.resolve(), run.resolve())
    write_json(run / CROSSVAL, {**config, "processed": Path(way).as_posix(), "chosen": None})


def refuse_other(run: Path, config: dict[str, Any], folds: Sequence[Fold]) -> None:
    """Raise :class:`UsageError`, with every setting that differs, where the run was started with others."""
    before, now = read_crossval(run), dict(config)
    for values, listed in ((before, read_folds(run)[0]), (now, folds)):
        for number, fold in enumerate(listed):
            for group in ("train", "val"):
                values[f"{group} patients of fold {number}"] = ", ".join(sorted(getattr(fold, group)))
    refuse_differences(run, before, now)


def read_folds(run: str | Path) -> tuple[list[Fold], str]:
    """The folds of a run, and where they come from, in words.

    Raises:
        UsageError: splits.json is missing or damaged.
    """
    path = Path(run) / SPLITS
    folds = read_splits(path, None)
    value = read_json(path)
    return folds, str(value.get("source", "")) if isinstance(value, dict) else f"file {path.name}"


def processed_of(run: str | Path) -> Path:
    """The preprocessed folder that a run was trained on."""
    return slices_of(run, str(read_crossval(run)["processed"]))


def write_chosen(run: str | Path, chosen: Chosen) -> None:
    """Record what ``predict`` uses."""
    plain = {**asdict(chosen.postprocessing), "folds": list(chosen.folds), "weights": list(chosen.weights)}
    write_json(Path(run) / CROSSVAL, {**read_crossval(run), "chosen": plain})


def read_chosen(run: str | Path) -> Chosen:
    """What ``predict`` uses.

    Raises:
        UsageError: nothing has been chosen yet, or the record is damaged.
    """
    values = read_crossval(run).get("chosen")
    mend = "Run the same `lungseg crossval` again: it goes on where it was."
    if values is None:
        raise UsageError.of("unfinished", "the cross-validation has not ended", file=run, mend=mend)
    try:
        folds, weights = tuple(values.pop("folds")), tuple(values.pop("weights"))
        if not folds or len(folds) != len(weights) or not all(type(fold) is int and fold >= 0 for fold in folds):
            raise ValueError("folds and weights do not fit together")
        return Chosen(folds, weights, from_dict(PostProcessing, values))
    except (AttributeError, KeyError, TypeError, ValueError) as cause:
        raise UsageError.of(
            "bad-config", "is damaged", found=str(cause), file=Path(run) / CROSSVAL, mend=mend
        ) from cause
