"""Random changes of grey levels: each alone, against scipy or by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from lungseg.augment import augment_named
from lungseg.augment_intensity import blurred, change_intensity, changes_intensity
from lungseg.config import HU_MAX, RECIPES, AugmentConfig
from lungseg.randomness import SampleRandom

STILL = AugmentConfig(
    scale=(1.0, 1.0), rotation_deg=0.0, translation=0.0, elastic_strength=(0.0, 0.0), elastic_smoothness=(4.0, 8.0)
)


def images(count: int = 64, hu: float = 300.0) -> torch.Tensor:
    return torch.full((count, 1, 16, 16), hu / HU_MAX)


def changed(image: torch.Tensor, **ranges: object) -> torch.Tensor:
    config = replace(STILL, **ranges)  # type: ignore[arg-type]
    return change_intensity(image, SampleRandom(0, 0, range(len(image))), config) * HU_MAX


def test_the_offset_is_two_sided_and_within_its_range() -> None:
    shift = changed(images(), offset_hu=50.0).flatten(1) - 300.0
    assert torch.allclose(shift.amin(1), shift.amax(1), atol=1e-3)  # one a sample
    assert -50.0 <= shift.min() < -35.0 and 35.0 < shift.max() <= 50.0


def test_contrast_is_about_water() -> None:
    found = changed(images(), contrast=(0.8, 1.25)) / 300.0
    assert 0.8 <= found.min() < 0.85 and 1.2 < found.max() <= 1.25
    assert not changed(images(hu=0.0), contrast=(0.8, 1.25)).any()


def test_noise_has_at_most_the_standard_deviation_that_is_asked_for() -> None:
    spread = (changed(images(), noise_hu=40.0) - 300.0).flatten(1).std(1)
    assert spread.max() < 44.0 and spread.max() > 30.0 and spread.min() < 10.0
    assert abs(changed(images(), noise_hu=40.0).mean() - 300.0) < 2.0


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_the_blur_is_a_gaussian(sigma: float) -> None:
    image = torch.rand(3, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    found = blurred(image, torch.tensor([sigma, 0.0, sigma]), largest=2.0)
    oracle = gaussian_filter(image[0, 0].numpy(), sigma, mode="nearest", radius=6)
    np.testing.assert_allclose(found[0, 0].numpy(), oracle, atol=1e-5)
    torch.testing.assert_close(found[1], image[1])


def test_half_of_the_samples_keep_their_detail() -> None:
    image = torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    same = (changed(image, blur=1.5) / HU_MAX - image).abs().flatten(1).amax(1) < 1e-6
    assert 70 <= int(same.sum()) <= 130


def test_a_sample_is_decided_by_its_index_and_not_by_its_batch() -> None:
    config = replace(STILL, contrast=(0.8, 1.2), offset_hu=50.0, noise_hu=30.0, blur=1.0)
    image = torch.rand(6, 1, 16, 16)
    whole = change_intensity(image, SampleRandom(3, 1, range(6)), config)
    alone = change_intensity(image[4:5], SampleRandom(3, 1, [4]), config)
    torch.testing.assert_close(whole[4:5], alone)


@pytest.mark.parametrize("name", ["torch", "imgaug"])
def test_engines_leave_the_mask_and_change_the_image(name: str) -> None:
    config = replace(STILL, offset_hu=100.0)
    engine = augment_named(name, config)
    assert engine is not None
    image, mask = torch.zeros(4, 1, 64, 64), torch.zeros(4, 1, 64, 64)
    mask[:, :, 20:40, 20:40] = 1
    new_image, new_mask = engine(image, mask, SampleRandom(0, 0, range(4)))
    inside = new_image[:, 0, 8:56, 8:56].flatten(1)
    assert torch.allclose(inside.amin(1), inside.amax(1), atol=1e-5) and inside.abs().min() > 1e-6
    assert torch.equal(new_mask, mask)


@pytest.mark.parametrize("name", ["torch", "imgaug"])
def test_an_empty_share_of_a_batch_stays_empty(name: str) -> None:
    """Of several devices, some have no slice of an epoch's last batch."""
    engine, nothing = augment_named(name, RECIPES["strong"].augmentation), torch.zeros(0, 1, 160, 160)
    assert engine is not None
    image, mask = engine(nothing, nothing, SampleRandom(0, 0, []))
    assert image.shape == mask.shape == (0, 1, 128, 128)


def test_the_published_recipe_changes_no_grey_level() -> None:
    assert not changes_intensity(AugmentConfig()) and changes_intensity(replace(STILL, blur=0.5))
