"""A pipeline of albumentations itself, in an environment of its own (``make test-extras``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

albumentations = pytest.importorskip("albumentations")

from lungseg.augment import from_albumentations  # noqa: E402
from lungseg.config import AIR  # noqa: E402
from lungseg.dataset import LungDataset  # noqa: E402
from lungseg.randomness import SampleRandom  # noqa: E402
from lungseg.train import train  # noqa: E402
from tests.training import TINY, write_slices  # noqa: E402


def pipeline(**options: object) -> albumentations.Compose:
    """The recipe's transform in albumentations' words; air outside."""
    return albumentations.Compose(
        [
            albumentations.Affine(
                scale=(0.85, 1.15), rotate=(-45, 45), translate_percent=(-0.15, 0.15), fill=AIR, fill_mask=0, p=1.0
            ),
            albumentations.ElasticTransform(alpha=20, sigma=6, fill=AIR, fill_mask=0, p=1.0),
        ],
        **options,
    )


def disc(size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """An image that is its mask: a bright disc on air, off the centre; four times over."""
    y, x = np.mgrid[:size, :size]
    mask = torch.from_numpy((((y - 24) ** 2 + (x - 36) ** 2) < 144).astype(np.float32)).expand(4, 1, size, size)
    return torch.where(mask > 0, 0.5, AIR), mask


def test_the_version_is_the_one_that_is_promised() -> None:
    assert albumentations.__version__ == "2.0.8"


def test_image_and_mask_stay_aligned_and_outside_is_air() -> None:
    image, mask = disc()
    moved, moved_mask = from_albumentations(pipeline())(image, mask, SampleRandom(0, 0, range(4)))
    assert moved.shape == image.shape and moved.dtype == moved_mask.dtype == torch.float32
    assert set(moved_mask.unique().tolist()) == {0.0, 1.0}
    halfway = (moved > (0.5 + AIR) / 2).float()
    # Only the edge may differ: the image is interpolated there, the mask is not.
    assert (halfway != moved_mask).sum() < 0.15 * moved_mask.sum()
    assert moved.min() >= AIR - 1e-3 and moved.max() <= 0.5 + 1e-3
    assert torch.allclose(moved[:, :, 0, 0], torch.tensor(AIR))
    assert not torch.equal(moved[0], moved[1]) and not torch.equal(moved, image)


def test_a_sample_is_decided_by_seed_epoch_and_index() -> None:
    image, mask = disc()
    engine = from_albumentations(pipeline())
    first, first_mask = engine(image, mask, SampleRandom(7, 2, range(4)))
    turned, _ = from_albumentations(pipeline())(image, mask, SampleRandom(7, 2, [3, 2, 1, 0]))
    assert torch.equal(first, turned.flip(0))
    again, again_mask = engine(image, mask, SampleRandom(7, 2, range(4)))
    assert torch.equal(first, again) and torch.equal(first_mask, again_mask)
    assert not torch.equal(first, engine(image, mask, SampleRandom(7, 3, range(4)))[0])
    assert not torch.equal(first, engine(image, mask, SampleRandom(8, 2, range(4)))[0])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_sample(tmp_path: Path, workers: int) -> None:
    folder = write_slices(tmp_path / "processed")
    data = LungDataset(folder, ["lung_001", "lung_002"], augment=from_albumentations(pipeline()), with_index=True)
    data.set_epoch(3)
    alone = [data[index] for index in range(len(data))]
    loaded = list(torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers))
    for one, other in zip(alone, loaded, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_pipeline_trains_and_the_run_can_be_repeated(tmp_path: Path) -> None:
    folder = write_slices(tmp_path / "processed").root
    results = [
        train(folder, tmp_path / f"run{workers}", recipe=TINY.but(epochs=1), augment=pipeline(), workers=workers)
        for workers in (0, 1)
    ]
    weights = [torch.load(result.last, weights_only=True)["state_dict"] for result in results]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
