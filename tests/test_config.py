"""Recipes are what the issue promises, and survive JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from lungseg.config import AIR, RECIPES, Recipe, UNetConfig, recipe_from_dict, recipe_named, to_dict
from lungseg.errors import UsageError


def test_classic_is_the_users_recipe() -> None:
    recipe = recipe_named("classic")
    assert recipe == Recipe()
    assert (recipe.loss, recipe.optimizer, recipe.learning_rate) == ("bce", "adam", 1e-4)
    assert (recipe.batch_size, recipe.epochs, recipe.inner_val) == (8, 30, 0.15)
    assert (recipe.unet.widths, recipe.unet.norm, recipe.augment) == ((64, 128, 256, 512), "none", "torch")
    assert recipe.augmentation.scale == (0.85, 1.15) and recipe.augmentation.rotation_deg == 45
    assert recipe.augmentation.elastic_strength == (0, 40) and recipe.augmentation.translation == 0.15


def test_air_is_1000_hu_below_water_over_the_divisor() -> None:
    assert pytest.approx(-0.3256, abs=5e-5) == AIR


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json_and_know_their_names(name: str) -> None:
    recipe = recipe_named(name)
    assert recipe.name == name
    again = recipe_from_dict(json.loads(json.dumps(to_dict(recipe))))
    assert again == recipe and hash(again) == hash(recipe)


def test_changes_leave_the_original_and_what_is_none() -> None:
    recipe = Recipe()
    changed = recipe.but(epochs=3, loss=None, inner_val=0.0)
    assert (changed.epochs, changed.loss, changed.inner_val, recipe.epochs) == (3, "bce", 0.0, 30)
    with pytest.raises(FrozenInstanceError):
        recipe.epochs = 4  # type: ignore[misc]


def test_names_that_are_not_there() -> None:
    with pytest.raises(UsageError, match=r"expected classic or strong or demo.*found best"):
        recipe_named("best")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"momentum": 0.9, "alpha": 1}, "Recipe has no such setting.*alpha, momentum"),
        ({"unet": {"depth": 3}}, "UNetConfig has no such setting.*depth"),
        ({"augmentation": {"shear": 3}}, "AugmentConfig has no such setting.*shear"),
    ],
)
def test_settings_of_another_version_are_named(values: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipe_from_dict(values)


def test_lists_of_json_become_tuples() -> None:
    assert recipe_from_dict({"unet": {"widths": [4, 8]}}).unet == UNetConfig(widths=(4, 8))
