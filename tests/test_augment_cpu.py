"""The transform on a CPU, a sample at a time, against the same on a whole batch: ``TorchAugment.batched``.

Positions differ by rounding (1e-6 of a slice's side), so an image of noise differs by some 1e-4, and a mask only where
a position lies within rounding of the middle between two pixels.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lungseg.augment_torch import TorchAugment
from lungseg.config import AIR, AugmentConfig
from lungseg.randomness import SampleRandom

RECIPE = AugmentConfig()
FAR = replace(RECIPE, translation=1.0, scale=(0.3, 3.0), rotation_deg=180.0)
SHARP = replace(RECIPE, elastic_smoothness=(1.0, 2.0), elastic_strength=(0.0, 8.0))


def batch(size: int, count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise, and masks of which every second one is empty: ``float32 [count, 1, size, size]``."""
    image = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros_like(image)
    mask[::2, :, size // 3 : size // 2, size // 4 : size // 2] = 1.0
    return image, mask


def both_ways(
    config: AugmentConfig, image: Tensor, mask: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    augment, numbers = TorchAugment(config), SampleRandom(1, 2, range(len(image)))
    return augment(image, mask, numbers), augment.batched(image, mask, numbers)


@pytest.mark.parametrize("size", [256, 128, 97])
@pytest.mark.parametrize(
    "config",
    [RECIPE, replace(RECIPE, mirror=0.5), replace(RECIPE, mirror=0.5, window=48), FAR, SHARP],
    ids=["recipe", "mirror", "window", "far", "sharp"],
)
def test_the_same_samples_as_in_one_batch(size: int, config: AugmentConfig) -> None:
    one, other = both_ways(config, *batch(size))
    assert one[0].shape == other[0].shape and one[0].dtype == one[1].dtype == torch.float32
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=5e-4)
    assert (one[1] != other[1]).float().mean() < 1e-5
    assert one[1].any() and one[1].unique().tolist() == [0.0, 1.0]


def test_what_is_outside_is_air_and_no_tumour() -> None:
    image = torch.ones(6, 1, 64, 64)
    moved, mask = TorchAugment(replace(RECIPE, scale=(0.1, 0.1), translation=1.0))(
        image, image, SampleRandom(0, 0, range(6))
    )
    air = (moved - AIR).abs() < 1e-6
    assert moved.min() >= AIR - 1e-6 and air.float().mean() > 0.9
    assert mask.any() and not mask[air].any()


def test_what_is_stored_gives_what_its_numbers_give() -> None:
    image, mask = batch(64)
    image = image.half()
    augment, numbers = TorchAugment(RECIPE), SampleRandom(0, 0, range(6))
    stored = augment(image, mask.to(torch.uint8), numbers)
    assert all(torch.equal(*pair) for pair in zip(stored, augment(image.float(), mask, numbers), strict=True))
    assert augment.takes_stored


@pytest.mark.parametrize("window", [0, 32])
def test_to_the_bit_whatever_the_batch_and_what_came_before(window: int) -> None:
    augment, (image, mask) = TorchAugment(replace(RECIPE, window=window)), batch(96)
    whole = augment(image, mask, SampleRandom(0, 0, range(6)))
    TorchAugment(SHARP)(*batch(50), SampleRandom(0, 0, range(6)))  # another size and other nodes
    for k in range(6):
        alone = augment(image[k : k + 1], mask[k : k + 1], SampleRandom(0, 0, [k]))
        assert torch.equal(alone[0][0], whole[0][k]) and torch.equal(alone[1][0], whole[1][k])


def test_the_input_may_lie_in_any_order() -> None:
    image, mask = batch(64)
    turned = image.transpose(2, 3), mask.transpose(2, 3)
    augment, numbers = TorchAugment(RECIPE), SampleRandom(0, 0, range(6))
    laid_out = augment(turned[0].contiguous(), turned[1].contiguous(), numbers)
    assert all(torch.equal(*pair) for pair in zip(augment(*turned, numbers), laid_out, strict=True))


def test_threads_do_not_meet() -> None:
    """Each has room of its own: 4 threads of different slices give what each gives alone."""
    batches = [batch(64, seed=seed) for seed in range(4)]
    augment, numbers = TorchAugment(RECIPE), SampleRandom(0, 0, range(6))
    expected = [augment(*one, numbers) for one in batches]
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def work(which: int) -> None:
        found[which] = [augment(*batches[which], numbers) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, (image, mask) in enumerate(expected):
        assert len(found[which]) == 10
        assert all(torch.equal(one[0], image) and torch.equal(one[1], mask) for one in found[which])
