"""The sampler knows the manifest only, and is for training only.  What it draws: see test_dataset."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lungseg.dataset import LungDataset, make_sampler
from lungseg.sampler import TumourSampler, number_repeats, sampler_weights

from .processed import write_processed


def test_weights_even_out_the_users_slices() -> None:
    # The user's published training slices: 12,949 without and 1,521 with tumour, 12,949 / 1,521 = 8.51.
    weights = sampler_weights([0] * 12_949 + [1] * 1_521)
    assert set(np.round(weights, 2)) == {1.0, 8.51}
    sampler = TumourSampler(weights, seed=0, epoch=0)
    shows = sampler.draws() % 14_470 >= 12_949
    assert abs(float(shows.float().mean()) - 0.5) < 0.02  # 14,470 draws: 5 standard errors


def test_weights_need_no_mask(tmp_path: Path) -> None:
    manifest = write_processed(tmp_path, {"a": [0, 0, 0, 7], "b": [0, 0, 5]})
    for case in manifest.cases:
        shutil.rmtree(tmp_path / case)
    data = LungDataset(manifest, ["a", "b"])
    assert len(list(make_sampler(data, seed=0, epoch=0))) == 7
    assert make_sampler(data, seed=0, epoch=0).weights.tolist() == [1, 1, 1, 2.5, 1, 1, 2.5]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_draw_is_another_sample_of_a_slice_that_it_names(seed: int) -> None:
    draws = TumourSampler(np.array([1.0, 1.0, 50.0]), seed=seed, epoch=2).draws()
    assert len(set(draws.tolist())) == 3
    drawn = Counter((draws % 3).tolist())
    assert {slice_: sorted((draws[draws % 3 == slice_] // 3).tolist()) for slice_ in drawn} == {
        slice_: list(range(count)) for slice_, count in drawn.items()
    }


def test_repeats_are_those_of_counting_by_hand() -> None:
    random = np.random.default_rng(0)
    slices, seen, expected = random.integers(0, 30, 500), Counter(), []
    for slice_ in slices.tolist():
        expected.append(slice_ + 30 * seen[slice_])
        seen[slice_] += 1
    assert number_repeats(torch.from_numpy(slices), 30).tolist() == expected


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_share_of_draws_with_tumour(share: float) -> None:
    weights = sampler_weights([0] * 60 + [5] * 30, share)
    assert weights[60:].sum() / weights.sum() == pytest.approx(share)
    assert sampler_weights([0] * 60 + [5] * 30, 0.0).tolist() == [1.0] * 90


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_patients_alike_whatever_the_number_of_their_slices(share: float) -> None:
    pixels, patients = [0, 9, 9, 9, 0, 9, 0, 0], [0, 0, 0, 0, 1, 1, 1, 2]
    weights = sampler_weights(pixels, share, patients)
    assert weights[1:4].sum() == pytest.approx(weights[5])
    shows = np.array(pixels) > 0
    assert weights[shows].sum() / weights.sum() == pytest.approx(share or 0.5)  # as many as there are: four of eight
    assert set(weights[~shows]) == {1.0}
