"""What a run is trained on: batches of a folder's slices or of shards, and the augmentation on their way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .augment import Augment, augment_named, from_albumentations, windowed
from .config import Recipe
from .dataset import LungDataset
from .errors import UsageError
from .executor import cores
from .loaders import MOST_WORKERS, SliceLoaders, fits_in_memory, fits_on_device
from .manifest import Manifest
from .neighbours import Neighbours, refuse_shards
from .phased import Phased
from .placement import Place
from .ranks import own_share
from .shards import Shards, holds_shards
from .splits import Split
from .stream_extra import require_litdata
from .training_settings import CUSTOM

if TYPE_CHECKING:  # an extra
    from .streaming import StreamLoaders


def shards_at(processed: str | Path) -> Shards | None:
    """The shards that are named; None where it is a folder of slices.

    Raises:
        UsageError: the extra that streams them is not installed.
        DataError, MachineError: they are damaged, or the store does not give them.
    """
    if not holds_shards(processed):
        return None
    require_litdata()
    from .shard_stream import open_shards

    return open_shards(processed)


def run_engine(augment: Any, recipe: Recipe) -> Augment | None:
    """The augmentation of a run, with whole slices at its end where the recipe asks for them.

    Args:
        augment: as for ``train``; an object that is no engine is taken as an Albumentations pipeline.
        recipe: of the run.

    Raises:
        UsageError: the recipe's augmentation can not be meant, or is one that has to be given again.
    """
    engine, end = _engine(augment, recipe), recipe.at_the_end
    if engine is None or end is None:
        return engine
    return Phased(engine, _engine(augment, end), recipe.whole_slices)


def run_loaders(
    source: Manifest | Shards,
    split: Split,
    recipe: Recipe,
    engine: Augment | None,
    *,
    workers: int | None,
    in_memory: bool | None,
    limit: int,
    device: torch.device,
    place: Place,
) -> SliceLoaders | StreamLoaders:
    """The batches of a run's training and inner validation patients.

    Args:
        source: a folder's manifest, or shards.
        split: who is trained on.
        recipe, engine: of the run.
        workers, in_memory: as for ``train``.
        limit: at most so many training batches an epoch; 0 is all.
        device, place: where this process trains, and among which others.

    Raises:
        UsageError: the recipe asks for neighbours, and these slices have none.
        DataError: a slice that is read at once is missing or damaged.
    """
    options: dict[str, Any] = {
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "limit": limit,
        "share": recipe.tumour_share,
        "by": recipe.draw_by,
        "own": own_share(),
        "phased": engine if isinstance(engine, Phased) else None,
    }
    in_workers = engine if engine is not None and not engine.on_device else None
    most_workers = min(max(1, cores() // place.devices), MOST_WORKERS)
    if isinstance(source, Shards):
        refuse_shards(recipe.neighbours, True, source.address)
        from .streaming import StreamLoaders

        if workers is None:
            workers = most_workers if device.type == "cuda" else 0
        return StreamLoaders(source, split.train, split.inner_val, workers=workers, augment=in_workers, **options)

    n_slices = sum(len(source.record(case).slices) for case in (*split.train, *split.inner_val))
    keep = fits_in_memory(n_slices, source.config.size, place.devices) if in_memory is None else in_memory
    if workers is None:
        # Gathering from memory is quicker than any traffic between processes.
        workers = 0 if keep and in_workers is None else most_workers
    shown: dict[str, Any] = {"in_memory": keep, "with_index": True}
    shown["neighbours"] = Neighbours(recipe.neighbours, recipe.neighbour_mm)
    training = LungDataset(source, split.train, augment=in_workers, seed=recipe.seed, **shown)
    validation = LungDataset(source, split.inner_val, **shown) if split.inner_val else None
    gather = keep and workers == 0 and fits_on_device(n_slices, source.config.size, device)
    return SliceLoaders(training, validation, workers=workers, resident=device if gather else None, **options)


def _engine(augment: Any, recipe: Recipe) -> Augment | None:
    if recipe.augment != CUSTOM:
        return augment_named(recipe.augment, recipe.augmentation, compiled=recipe.compile)
    if augment is None or isinstance(augment, str):
        mend = "Give the same augment= as at its start (from Python; the command has no way to)."
        raise UsageError.of("custom-augment", "the run was started with an augmentation of your own", mend=mend)
    engine: Augment = augment if hasattr(augment, "on_device") else from_albumentations(augment)
    return windowed(engine, recipe.augmentation)
