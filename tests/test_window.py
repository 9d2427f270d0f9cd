"""Windows: placed on the tumour or anywhere, decided by the sample alone, and the very pixels of the slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from lungseg.augment import Windowed, augment_named, from_albumentations, windowed
from lungseg.augment_torch import TorchAugment
from lungseg.config import AIR, AugmentConfig
from lungseg.errors import UsageError
from lungseg.randomness import SampleRandom
from lungseg.window import REACH, cut, window_starts

SIZE, SIDE = 64, 24


def spot(count: int, row: int, column: int) -> torch.Tensor:
    mask = torch.zeros(count, 1, SIZE, SIZE)
    mask[:, :, row, column] = 1
    return mask


def numbers(count: int, epoch: int = 0) -> SampleRandom:
    return SampleRandom(0, epoch, range(count))


def test_a_window_holds_the_tumour_away_from_its_rim() -> None:
    starts = window_starts(spot(500, 30, 35), numbers(500), SIZE, SIDE)
    place = torch.tensor([30, 35]) - starts  # of the tumour in the window
    rim = (0.5 - REACH) * SIDE
    assert place.min() >= rim - 1 and place.max() <= SIDE - rim + 1
    assert (place.amin(0) < rim + 2).all() and (place.amax(0) > SIDE - rim - 2).all()  # and at all places of it


@pytest.mark.parametrize("corner", [(0, 0), (0, SIZE - 1), (SIZE - 1, 0), (SIZE - 1, SIZE - 1)])
def test_a_window_stays_in_the_slice_and_still_holds_a_tumour_at_its_corner(corner: tuple[int, int]) -> None:
    starts = window_starts(spot(50, *corner), numbers(50), SIZE, SIDE)
    assert starts.min() >= 0 and starts.max() <= SIZE - SIDE
    assert (cut(spot(50, *corner)[:, 0], starts, SIDE).sum((1, 2)) == 1).all()


def test_without_tumour_every_place_is_as_likely() -> None:
    starts = window_starts(torch.zeros(4000, 1, SIZE, SIZE), numbers(4000), SIZE, SIDE).numpy()
    for axis in (0, 1):
        counts = np.bincount(starts[:, axis], minlength=SIZE - SIDE + 1)
        assert len(counts) == SIZE - SIDE + 1
        assert stats.chisquare(counts).pvalue > 0.001


def test_every_tumour_pixel_is_as_likely() -> None:
    mask = torch.zeros(3000, 1, SIZE, SIZE)
    pixels = [(20, 20), (20, 40), (44, 30)]  # so far apart that a window holds one of them
    for row, column in pixels:
        mask[:, :, row, column] = 1
    starts = window_starts(mask, numbers(3000), SIZE, 12)
    seen = cut(mask[:, 0], starts, 12)
    assert (seen.sum((1, 2)) == 1).all()
    inside = [((starts <= torch.tensor(p)) & (torch.tensor(p) < starts + 12)).all(1).sum().item() for p in pixels]
    assert stats.chisquare(inside).pvalue > 0.001


def test_a_coarse_mask_places_the_window_within_its_pixel() -> None:
    fine = spot(200, 30, 36)
    far = window_starts(fine, numbers(200), SIZE, SIDE) - window_starts(fine[..., ::2, ::2], numbers(200), SIZE, SIDE)
    assert far.abs().max() <= 1


def test_cut_is_slicing() -> None:
    batch = torch.rand(3, SIZE, SIZE, 2)
    starts = torch.tensor([[0, 5], [40, 0], [7, 39]])
    for k, (row, column) in enumerate(starts.tolist()):
        assert torch.equal(cut(batch, starts, SIDE)[k], batch[k, row : row + SIDE, column : column + SIDE])


def test_torch_engine_shows_a_window_of_what_it_would_show_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 1, SIZE, SIZE, generator=generator)
    mask = spot(6, 30, 30)
    mask[:3, :, 28:34, 26:36] = 1
    config = AugmentConfig(mirror=0.5, translation=0.05)
    whole, whole_mask = TorchAugment(config)(image, mask, numbers(6))
    part, part_mask = TorchAugment(replace(config, window=SIDE))(image, mask, numbers(6))
    assert part.shape == part_mask.shape == (6, 1, SIDE, SIDE)
    starts = window_starts(whole_mask[..., ::2, ::2], numbers(6), SIZE, SIDE)
    torch.testing.assert_close(part[:, 0], cut(whole[:, 0], starts, SIDE), rtol=0, atol=1e-6)
    assert torch.equal(part_mask[:, 0], cut(whole_mask[:, 0], starts, SIDE))
    assert (part_mask[:3].sum((1, 2, 3)) > 0).all()


@pytest.mark.parametrize("name", ["torch", "imgaug", "none"])
def test_every_engine_gives_windows_that_the_sample_alone_decides(name: str) -> None:

    engine = augment_named(name, AugmentConfig(window=SIDE))
    assert engine is not None
    image, mask = torch.full((4, 1, SIZE, SIZE), AIR), spot(4, 20, 40)
    image[:, :, 10:50, 10:50] = torch.rand(4, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    both = engine(image, mask, numbers(4))
    assert both[0].shape == both[1].shape == (4, 1, SIDE, SIDE)
    alone = engine(image[2:3], mask[2:3], SampleRandom(0, 0, [2]))
    assert torch.equal(both[0][2], alone[0][0]) and torch.equal(both[1][2], alone[1][0])
    later = engine(image, mask, numbers(4, epoch=1))
    assert not torch.equal(both[0], later[0])


def test_no_window_changes_nothing_and_a_larger_one_is_the_slice() -> None:
    assert augment_named("none", AugmentConfig()) is None
    pipeline = from_albumentations(lambda image, mask: {"image": image, "mask": mask})
    assert windowed(pipeline, AugmentConfig()) is pipeline
    image, mask = torch.rand(2, 1, SIZE, SIZE), spot(2, 3, 3)
    wide = Windowed(None, SIZE + 1)
    assert wide.on_device and wide(image, mask, numbers(2))[0] is image
    whole = TorchAugment(AugmentConfig(window=SIZE + 1))(image, mask, numbers(2))[0]
    assert torch.equal(whole, TorchAugment(AugmentConfig())(image, mask, numbers(2))[0])


def test_a_window_that_can_not_be_meant_is_refused() -> None:
    with pytest.raises(UsageError, match="window"):
        augment_named("torch", AugmentConfig(window=-1))
