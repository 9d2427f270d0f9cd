"""Settings of another kind than their dataclass says are refused by name, wherever they come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lungseg.config import RECIPES, AugmentConfig, PreprocessConfig, Recipe, UNetConfig, recipe_from_dict, to_dict
from lungseg.errors import UsageError
from lungseg.losses import LOSSES
from lungseg.setting_types import check_types
from lungseg.training_settings import check_recipe


@pytest.mark.parametrize("config", [*RECIPES.values(), PreprocessConfig()], ids=lambda config: type(config).__name__)
def test_what_the_package_itself_uses_is_right(config: Any) -> None:
    check_types(config)


def test_whole_numbers_are_numbers() -> None:
    check_types(replace(AugmentConfig(), offset_hu=60, contrast=(1, 2)))
    check_types(UNetConfig(window_hu=(-1000, 400)))


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("average", "x", "a number"), ("average", True, "a number"), ("tumour_share", [0.5], "a number"),
        ("test_mirror", "no", "true or false"), ("test_zooms", 1.25, "(a number, ...)"),
        ("draw_by", ["slice"], "slice or patient"), ("epochs", 3.0, "a whole"),
        ("name", 3, "text"), ("augmentation.contrast", 3, "(a number, a number)"),
        ("augmentation.contrast", [1, 2, 3], "(a number, a number)"), ("augmentation.noise_hu", None, "a number"),
        ("augmentation.window", 64.5, "a whole number"), ("unet.deep", True, "a whole number"),
        ("unet.skip", "sum", "concat or add"),
        ("unet.norm", "layer", "none or batch or group or instance"),
        ("unet.widths", [4, "8"], "(a whole number, ...)"),
        ("unet.window_hu", [-1000, 0, 400], "(a number, a number) or nothing"),
    ],
)  # fmt: skip
def test_a_record_with_another_kind_of_value(where: str, value: Any, expected: str) -> None:
    values = to_dict(Recipe())
    *tables, name = where.split(".")
    table = values[tables[0]] if tables else values
    assert name in table
    table[name] = value
    with pytest.raises(UsageError, match=f"the setting {name} can not be meant") as caught:
        check_recipe(recipe_from_dict(values))
    assert expected in caught.value.problem.expected and caught.value.problem.code == "bad-setting"


@pytest.mark.parametrize("changes", [{"deep": 4}, {"deep": -1}, {"prior": 1.0}, {"widths": ()}, {"patch": 0}])
def test_a_network_that_no_checkpoint_could_describe_is_not_trained(changes: dict[str, Any]) -> None:
    check_recipe(Recipe())
    with pytest.raises(UsageError, match="the setting unet can not be meant"):
        check_recipe(Recipe(unet=replace(UNetConfig(), **changes)))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_chosen(name: str) -> None:
    check_recipe(Recipe(loss=name))  # type: ignore[arg-type]
