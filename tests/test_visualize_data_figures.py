"""The figures of the training data."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg import sampler_weights
from lungseg.errors import DataError
from lungseg.visualize import augmentation_examples, class_imbalance
from lungseg.visualize.picture import Picture


def pair(shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((1, 32, 32), np.float32)
    mask[0, 8 + shift : 16 + shift, 8:16] = 1
    return mask - 0.3, mask


def test_augmentation_shows_the_original_first() -> None:
    figure = augmentation_examples([pair(i) for i in range(4)], columns=2)
    assert isinstance(figure, Picture)
    assert [axes.get_title() for axes in figure.axes] == ["original", "augmented 1", "augmented 2", "augmented 3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tumour"]


def test_augmentation_outlines_each_mask_where_it_is() -> None:
    for axes, shift in zip(augmentation_examples([pair(0), pair(10)]).axes, (0, 10), strict=True):
        (contour,) = axes.collections
        box = contour.get_paths()[0].get_extents()
        assert (box.y0, box.y1) == (7.5 + shift, 15.5 + shift) and (box.x0, box.x1) == (7.5, 15.5)


def test_augmentation_refuses_nothing_and_odd_pairs() -> None:
    with pytest.raises(DataError, match="no slice"):
        augmentation_examples([])
    image, mask = pair()
    with pytest.raises(DataError, match="differ in shape"):
        augmentation_examples([(image, mask[:, 1:])])


def heights(figure: Picture) -> list[float]:
    """Bars: without, with tumour as the slices are; without, with as the sampler draws them."""
    return [bar.get_height() for container in figure.axes[0].containers for bar in container]  # type: ignore[attr-defined]


def test_imbalance_of_the_users_data_is_drawn_half_and_half() -> None:
    # The user's published training slices: 12,949 without and 1,521 with tumour.
    pixels = np.concatenate([np.zeros(12_949, int), np.full(1_521, 7)])
    figure = class_imbalance(pixels, sampler_weights(pixels))
    assert heights(figure) == pytest.approx([12_949, 1_521, 7_235, 7_235])
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["12,949\n89.5%", "1,521\n10.5%", "7,235\n50.0%", "7,235\n50.0%"]


def test_imbalance_follows_any_weights() -> None:
    assert heights(class_imbalance([0, 0, 5, 9], [1, 1, 3, 3])) == pytest.approx([2, 2, 1, 3])
    assert heights(class_imbalance([0, 0], [1, 1])) == pytest.approx([2, 0, 2, 0])


@pytest.mark.parametrize(
    ("pixels", "weights"),
    [([], []), ([0, 1], [1]), ([0, 1], [1, -1]), ([0, 1], [0, 0]), ([0, 1], [1, float("nan")])],
)
def test_weights_that_are_none_are_refused(pixels: list, weights: list) -> None:
    with pytest.raises(DataError, match="weight"):
        class_imbalance(pixels, weights)
