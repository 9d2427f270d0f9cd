"""The mean over the views of a slice is worked out view by view, each brought back to the slice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lungseg.views import mean_probability, zooms_can_be_meant

SEEN: list[tuple[int, ...]] = []


def edges(image: Tensor) -> Tensor:
    """Something that a mirror image and another zoom both change."""
    SEEN.append(tuple(image.shape[-2:]))
    return F.conv2d(image, torch.tensor([[[[1.0, -2.0, 0.5]]]]), padding=(0, 1)) * 3.0


def image() -> Tensor:
    return torch.rand(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))


def test_alone_it_is_the_network() -> None:
    assert torch.equal(mean_probability(edges, image()), edges(image()).sigmoid())


def test_every_view_has_one_vote() -> None:
    shown = image()
    large = F.interpolate(shown, (26, 38), mode="bilinear", antialias=True)

    def back(logits: Tensor) -> Tensor:
        return F.interpolate(logits, (16, 24), mode="bilinear", antialias=True).sigmoid()

    votes = [
        edges(shown).sigmoid(),
        edges(shown.flip(-1)).flip(-1).sigmoid(),
        back(edges(large)),
        back(edges(large.flip(-1)).flip(-1)),
    ]
    SEEN.clear()
    found = mean_probability(edges, shown, mirror=True, zooms=(1.6,))
    torch.testing.assert_close(found, torch.stack(votes).mean(0))
    assert SEEN == [(16, 24), (16, 24), (26, 38), (26, 38)]
    assert (votes[0] - votes[1]).abs().max() > 0.01 and (votes[0] - votes[2]).abs().max() > 0.01


def test_something_flat_is_the_same_at_every_zoom() -> None:
    flat = torch.full((1, 1, 16, 16), 0.3)
    found = mean_probability(lambda image: image * 2.0, flat, mirror=True, zooms=(0.5, 1.25, 2.0))
    torch.testing.assert_close(found, (flat * 2.0).sigmoid())


@pytest.mark.parametrize("zoom", [0.6, 1.25, 2.0])
def test_what_is_seen_stays_in_its_place(zoom: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    blob = torch.exp(-((rows - 11.0) ** 2 + (columns - 40.0) ** 2) / 18.0)[None, None]
    plain, both = (
        mean_probability(lambda image: image * 20.0 - 10.0, blob, mirror=True, zooms=z) for z in ((), (zoom,))
    )
    for found in (plain, both):
        weight = found[0, 0] / found.sum()
        assert float((weight * rows).sum()) == pytest.approx(11.0, abs=0.15)
        assert float((weight * columns).sum()) == pytest.approx(40.0, abs=0.15)
    assert (plain - both).abs().max() > 1e-3


def test_a_zoom_is_never_nothing() -> None:
    SEEN.clear()
    mean_probability(edges, image()[..., :1, :1], zooms=(0.5,))
    assert SEEN == [(1, 1), (1, 1)]


@pytest.mark.parametrize("zooms", [(), [1.25], (0.5, 2), (0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4)])
def test_zooms_that_can_be_meant(zooms: Any) -> None:
    assert zooms_can_be_meant(zooms)


@pytest.mark.parametrize(
    "zooms",
    [(0.0,), (0.4,), (2.1,), (1.0,), (1.5, 1.5), (float("nan"),), (True,), ("1.5",), tuple(range(9)), 1.25, None],
)
def test_others(zooms: Any) -> None:
    assert not zooms_can_be_meant(zooms)
