"""The probe leaves no trace, takes the recipe that it is given, and counts what it says."""

from __future__ import annotations

import pytest
import torch

from lungseg.config import RECIPES, AugmentConfig, UNetConfig
from lungseg.errors import UsageError
from lungseg.probe import probe
from lungseg.unet import UNet, parameter_count

from .training import TINY

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("augment", ["torch", "none"])
def test_a_recipe_is_tried_and_the_process_left_as_it_was(augment: str) -> None:
    recipe = TINY.but(augment=augment, augmentation=AugmentConfig(window=16))
    parameters = parameter_count(UNet(recipe.unet))
    state, grads = torch.random.get_rng_state(), torch.is_grad_enabled()
    rates = probe(recipe, "cpu", size=32, seconds=0.0)
    assert rates.train_s > 0 and rates.forward_s > 0 and rates.gpu_bytes == 0 and rates.device == "cpu"
    assert rates.parameters == parameters
    assert torch.equal(torch.random.get_rng_state(), state) and torch.is_grad_enabled() == grads


def test_every_recipe_can_be_tried() -> None:
    for recipe in RECIPES.values():
        rates = probe(recipe.but(batch_size=1), "cpu", size=64, seconds=0.0)
        assert rates.train_s > 0 and rates.forward_s > 0, recipe.name


def test_the_whole_slices_at_the_end_of_a_run_are_counted() -> None:
    recipe = TINY.but(augmentation=AugmentConfig(window=16))
    windows, mixed = (probe(recipe.but(whole_slices=share), "cpu", size=128, seconds=0.1) for share in (0.0, 0.9))
    assert mixed.train_s > 2.0 * windows.train_s


def test_a_mirror_image_in_prediction_costs_as_much_again() -> None:
    one, both = (probe(TINY.but(test_mirror=mirror), "cpu", size=96, seconds=0.2) for mirror in (False, True))
    assert both.forward_s > 1.2 * one.forward_s


def test_another_zoom_in_prediction_costs_its_pixels() -> None:
    one, both = (probe(TINY.but(test_zooms=zooms), "cpu", size=96, seconds=0.2) for zooms in ((), (1.5,)))
    assert both.forward_s > 1.5 * one.forward_s


def test_a_larger_network_takes_longer() -> None:
    small = probe(TINY, "cpu", size=64, seconds=0.05)
    large = probe(TINY.but(unet=UNetConfig(widths=(64, 128))), "cpu", size=64, seconds=0.05)
    assert large.train_s > small.train_s and large.forward_s > small.forward_s


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no such device"):
        probe(TINY, "tpu")
