"""Counts of slices against the same numbers worked out from all pixels at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from lungseg.config import AIR, PreprocessConfig
from lungseg.lungs import lung_region
from lungseg.metrics import soft_dice_pooled
from lungseg.tally import SliceTally, total

CONFIG, PIXEL_MM = PreprocessConfig(size=96), 4.0


def slices(seed: int, count: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images with two lungs, masks (also where no lung is near), probabilities."""
    rng = np.random.default_rng(seed)
    image = np.full((96, 96), AIR, np.float16)
    image[10:86, 10:86] = 40 / 3071
    image[30:60, 20:40] = image[30:60, 55:75] = -850 / 3071
    masks = (rng.random((count, 96, 96)) < 0.05).astype(np.uint8)
    return np.stack([image] * count), masks, rng.random((count, 96, 96)).astype(np.float32)


def counted(seed: int) -> SliceTally:
    tally = SliceTally()
    for image, mask, probability in zip(*slices(seed), strict=True):
        tally.add(image, mask, probability, PIXEL_MM, CONFIG)
    return tally


def test_counts_equal_all_pixels_at_once() -> None:
    images, masks, probability = slices(1)
    region = np.stack([lung_region(image.astype(float) * CONFIG.hu_max, PIXEL_MM) for image in images])
    assert 0.1 < region.mean() < 0.7
    tally = counted(1)
    result = tally.calibration()
    assert result["brier"] == pytest.approx(brier_score_loss(masks[region], probability[region]), abs=1e-5)
    assert result["pixels"] == region.sum() and result["tumour_pixels"] == masks[region].sum()
    assert result["tumour_outside_region"] == pytest.approx(masks[~region].sum() / masks.sum(), abs=1e-6)
    assert tally.soft_dice_pooled == pytest.approx(soft_dice_pooled(masks, probability), abs=1e-6)


def test_patients_add_up() -> None:
    both = total([counted(1), counted(2)])
    _, masks, probability = (np.concatenate(pair) for pair in zip(slices(1), slices(2), strict=True))
    assert both.soft_dice_pooled == pytest.approx(soft_dice_pooled(masks, probability), abs=1e-6)
    assert both.histogram.pixels == 2 * counted(1).histogram.pixels
    assert total([]).soft_dice_pooled == 1.0 and total([]).calibration()["tumour_outside_region"] is None


def test_it_can_be_written_and_read() -> None:
    tally = counted(3)
    back = SliceTally.from_dict(json.loads(json.dumps(tally.as_dict())))
    assert back.calibration(1.7) == tally.calibration(1.7) and back.soft_dice_pooled == tally.soft_dice_pooled
