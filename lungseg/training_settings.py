"""What a training run may be asked for: checked before anything is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .augment import ENGINES
from .config import Recipe, recipe_from_dict, recipe_named
from .errors import LungsegError, UsageError
from .neighbours import MOST, MOST_MM, Neighbours
from .setting_types import check_types
from .unet import check_unet
from .views import ZOOMS, zooms_can_be_meant

DEFAULT_FOLDS = 5
LARGEST = 2**31 - 1  # of a count; torch keeps some of them in 64 bits, and multiplies them before
MOST_WORKERS = 256  # processes that load slices; a slip of the keyboard must not take all the memory of a machine
LARGEST_SEED = 2**63 - 1  # that torch takes
CUSTOM = "custom"  # what a recipe calls an augmentation that is no name


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe as it is, its settings checked but for the ranges of the augmentation (:func:`augment.checked`).

    Raises:
        UsageError: one of them can not be meant.
    """
    check_types(recipe)
    if not 0 <= recipe.neighbours <= MOST:
        raise _bad("neighbours", f"a whole number of 0 to {MOST}", recipe.neighbours)
    if not 0.0 < recipe.neighbour_mm <= MOST_MM:
        raise _bad("neighbour_mm", f"above 0, at most {MOST_MM:g}", recipe.neighbour_mm)
    try:
        check_unet(recipe.unet)
    except ValueError as cause:
        raise _bad("unet", "a network that can be built", cause) from cause
    whole = {"batch_size": 1, "epochs": 1, "early_stop": 0, "seed": 0}
    for name, least in whole.items():
        most = LARGEST_SEED if name == "seed" else LARGEST
        if not least <= getattr(recipe, name) <= most:
            raise _bad(name, f"a whole number of {least} to {most}", getattr(recipe, name))
    if not 0 < recipe.learning_rate < float("inf"):
        raise _bad("learning_rate", "above 0", recipe.learning_rate)
    for name in ("tumour_share", "average", "whole_slices"):
        if not 0.0 <= getattr(recipe, name) < 1.0:
            raise _bad(name, "0 to below 1", getattr(recipe, name))
    if not zooms_can_be_meant(recipe.test_zooms):
        raise _bad("test_zooms", ZOOMS, recipe.test_zooms)
    channels = Neighbours(recipe.neighbours).channels
    if recipe.unet.in_channels != channels:
        expected = f"{channels}, for {recipe.neighbours} neighbours on each side"
        raise _bad("unet.in_channels", expected, recipe.unet.in_channels)
    if recipe.neighbours and recipe.augment not in ("torch", "none"):
        raise _bad("augment", "torch or none with neighbours: the others take one slice at a time", recipe.augment)
    if recipe.augment not in (*ENGINES, CUSTOM):
        raise _bad("augment", " or ".join(ENGINES), recipe.augment)
    return recipe


def check_limits(max_minutes: float | None, limit_batches: int | None, workers: int | None) -> None:
    """Raise :class:`UsageError` where one of them can not be meant; None is the default of each."""
    if max_minutes is not None and not 0 <= max_minutes < float("inf"):
        raise _bad("max_minutes", "0 (no limit) or more", max_minutes)
    for name, number, most in (("limit_batches", limit_batches, LARGEST), ("workers", workers, MOST_WORKERS)):
        if number is not None and (type(number) is not int or not 0 <= number <= most):
            raise _bad(name, f"a whole number of 0 to {most}", number)


def refuse_inside(run: Path, processed: Path) -> None:
    """Raise :class:`UsageError` where the run's folder would lie inside the preprocessed one."""
    if processed.resolve() in (run.resolve(), *run.resolve().parents):
        raise UsageError.of(
            "run-in-data",
            "the run's folder lies inside the preprocessed folder",
            file=run,
            mend="Name a folder outside it: a stage never changes its input.",
        )


def _bad(name: str, expected: str, found: Any) -> LungsegError:
    return UsageError.of("bad-setting", f"the setting {name} can not be meant", expected=expected, found=str(found))


def base_recipe(recipe: str | Recipe | None, before: dict[str, Any] | None) -> Recipe:
    """The recipe that is named or given; else the one of a run's record ``before``; else ``classic``.

    Raises:
        UsageError: there is none of that name, or the record is damaged.
    """
    if recipe is None and before is not None:
        try:
            return recipe_from_dict(before["recipe"])
        except UsageError as error:
            raise UsageError(error.problem.at(file="the recipe in the run's record")) from error
    return recipe if isinstance(recipe, Recipe) else recipe_named(recipe or "classic")
