"""Whether a run may start in a folder, or go on there, and from which checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .checkpoint import BEST, FOLDER, LAST, load_checkpoint
from .config import recipe_from_dict, to_dict
from .errors import IntegrityError, UsageError
from .run_folder import CONFIG, CROSSVAL, SPLITS, finished, read_config
from .splits import Split

# What may differ when a run goes on: where the data lie, which machine it is, and what was not known before the end.
NOT_DECIDING = ("lungseg", "processed", "machine", "earlier_machines", "finished", "chosen")
# What Lightning reads of a checkpoint, beside the weights, when a run goes on.
_TO_GO_ON = frozenset(
    ("epoch", "global_step", "loops", "lr_schedulers", "optimizer_states", "pytorch-lightning_version")
)


def refuse_started(run: Path) -> None:
    """Raise :class:`UsageError` where a run stands already."""
    if (run / CROSSVAL).exists():
        mend = "Choose another folder for a new run."
        raise UsageError.of("run-exists", "holds a cross-validated run already", file=run, mend=mend)
    if not (run / CONFIG).exists():
        if any((run / FOLDER).glob("*.ckpt")):
            what, mend = (
                f"holds checkpoints, but no {CONFIG} that says of which run",
                "Put it back, or choose another folder.",
            )
            raise UsageError.of("run-exists", what, file=run, mend=mend)
        return
    state = "finished" if finished(run) else "unfinished"
    mend = "Choose another folder for a new run."
    if state == "unfinished":
        mend = f"Go on with it by --resume. {mend}"
    raise UsageError.of("run-exists", f"holds a run already, {state}", file=run, mend=mend)


def refuse_other(run: Path, config: dict[str, Any], split: Split) -> None:
    """Raise :class:`UsageError`, with every setting that differs, where the run was started with others."""
    before, now = read_config(run), dict(config)
    old = Split.read(run / SPLITS)
    for group in ("train", "inner_val", "held_out"):
        before[f"{group} patients"] = ", ".join(getattr(old, group))
        now[f"{group} patients"] = ", ".join(getattr(split, group))
    refuse_differences(run, before, now)


def refuse_differences(run: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise :class:`UsageError`, with every setting that differs, where what decides a run is not what it was.

    Args:
        run: folder of the run.
        before, now: nested plain values; those of :data:`NOT_DECIDING` may differ.  What a recipe of before does not
            say, because there was no such setting yet, is as it was then: the default, which changes nothing.
    """
    before = {**before, "recipe": to_dict(recipe_from_dict(before["recipe"]))}
    before, now = dict(_flat(before)), dict(_flat(now))
    names = [name for name in {**before, **now} if name.split(".")[0] not in NOT_DECIDING]
    other = [name for name in names if before.get(name) != now.get(name)]
    if other:
        raise UsageError.of(
            "other-settings",
            f"was started with other settings: {', '.join(other)}",
            expected="; ".join(f"{name} {before.get(name)}" for name in other),
            found="; ".join(f"{name} {now.get(name)}" for name in other),
            file=run,
            mend="Go on with the settings that it was started with, or choose another folder for a new run.",
        )


def newest_checkpoint(run: Path) -> Path | None:
    """The checkpoint to go on from: ``last.ckpt``; where a user took that away, ``best.ckpt``; None without both.

    Raises:
        IntegrityError: it is damaged, or holds weights alone; the message says how to go on from ``best.ckpt``.
    """
    last, best = run / FOLDER / LAST, run / FOLDER / BEST
    newest = last if last.exists() else best
    if not newest.exists():
        return None
    try:
        missing = sorted(_TO_GO_ON.difference(load_checkpoint(newest)))
        if missing:
            what, mend = "holds weights, but not all that training goes on with", "Train anew, into another folder."
            raise IntegrityError.of("no-training-state", what, found=f"no {', '.join(missing)}", file=newest, mend=mend)
    except IntegrityError as error:
        way = f"Or delete {LAST}, and --resume goes on from {BEST}, to the same final weights."
        mend = f"{error.problem.mend} {way}" if newest == last and best.exists() else error.problem.mend
        raise IntegrityError(replace(error.problem, mend=mend)) from error
    return newest


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each leaf."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
