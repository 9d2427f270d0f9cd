"""The counter-based generator: its hash against the published SplitMix64, its statistics, its independence of order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from lungseg import randomness
from lungseg.randomness import STEP, DeviceRandom, SampleRandom, seed_generators


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator (https://prng.di.unimi.it/splitmix64.c) in unbounded integers."""
    word = (1 << 64) - 1
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & word
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        numbers.append(z ^ (z >> 31))
    return numbers


def test_the_hash_is_splitmix64() -> None:
    # First outputs of splitmix64.c for the seed 1234567, as its ports list them in their tests.
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]
    assert randomness._mix_int(1234567) == 6457827717110365317
    words = [0, 1, 1234567, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    mixed = randomness._mix(torch.tensor([randomness._signed((w + randomness._GOLDEN) % 2**64) for w in words]))
    assert [int(value) % 2**64 for value in mixed] == [splitmix64(word, 1)[0] for word in words]


def test_uniform_in_range_and_distribution() -> None:
    numbers = SampleRandom(0, 0, range(100)).uniform("a", 2000).double()
    assert numbers.dtype == torch.float64 and numbers.shape == (100, 2000)
    assert numbers.min() >= 0.0 and numbers.max() < 1.0
    # n = 200,000: the mean's standard error is 0.29 / 447 = 0.00065, that of the variance about 0.00017.
    assert abs(numbers.mean().item() - 0.5) < 0.003
    assert abs(numbers.var().item() - 1 / 12) < 0.001
    assert stats.kstest(numbers.flatten().numpy(), "uniform").pvalue > 0.001
    assert stats.kstest(numbers[:, 0].numpy(), "uniform").pvalue > 0.001  # over indices, one counter


@pytest.mark.parametrize("change", ["index", "epoch", "seed", "stream", "counter"])
def test_neighbours_are_not_correlated(change: str) -> None:
    def draw(seed: int = 0, epoch: int = 0, first: int = 0, stream: str = "a") -> np.ndarray:
        return SampleRandom(seed, epoch, range(first, first + 50)).uniform(stream, 2000).numpy()

    base = draw()
    others = {
        "index": draw(first=1),
        "epoch": draw(epoch=1),
        "seed": draw(seed=1),
        "stream": draw(stream="b"),
        "counter": np.roll(base, 1, axis=1),
    }
    correlation = np.corrcoef(base.ravel(), others[change].ravel())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(base.size)  # 5 standard errors
    assert not np.isin(others[change], base).all() or change in ("index", "counter")


def test_a_sample_does_not_depend_on_its_batch() -> None:
    whole = SampleRandom(3, 5, [4, 9, 2]).uniform("a", 7)
    alone = SampleRandom(3, 5, torch.tensor([2])).uniform("a", 3)
    assert torch.equal(whole[2:, :3], alone)
    assert SampleRandom(3, 5, [4, 9, 2]).seeds()[1:2] == SampleRandom(3, 5, [9]).seeds()


def test_numpy_gives_the_bits_that_torch_gives_on_a_gpu() -> None:
    numbers = SampleRandom(3, -5, [4, 9, -2])
    expected = randomness._uniform(numbers.indices, numbers.start("a"), 1000)
    assert torch.equal(numbers.uniform("a", 1000), expected)


def test_one_after_the_other_as_all_at_once() -> None:
    numbers = SampleRandom(3, 5, [4, 9, 2])
    assert torch.equal(torch.stack([one.clone() for one in numbers.uniform_each("a", 7)]), numbers.uniform("a", 7))
    assert torch.equal(numbers.sample(1).uniform("a", 7), numbers.uniform("a", 7)[1:2])


def test_torchs_own_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    SampleRandom(0, 0, [0, 1]).uniform("a", 10)
    assert torch.equal(before, torch.get_rng_state())


def test_seeds_are_31_bits_and_differ() -> None:
    seeds = SampleRandom(0, 0, range(10_000)).seeds()
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) > 9990  # two of 10,000 meet once in 43 such sets
    assert abs(np.mean(seeds) / 2**30 - 1) < 0.03


def test_large_and_negative_seeds_and_indices() -> None:
    numbers = [SampleRandom(s, 0, [i]).uniform("a", 1).item() for s in (-1, 2**63, 2**70 + 1) for i in (0, 2**62)]
    assert len(set(numbers)) == 6


def test_seeds_are_the_first_bits_of_the_same_hash() -> None:
    for seed, epoch in ((0, 0), (-3, 7), (2**70 + 1, 1)):
        random = SampleRandom(seed, epoch, [0, 1, 17, 2**40, 2**62])
        first = random.uniform("seeds", 1)[:, 0].double() * 2**24
        assert [value >> 7 for value in random.seeds()] == first.long().tolist()  # 24 of the 31 bits


def test_numbers_out_of_tensors_alone_are_the_same_bits() -> None:
    random = SampleRandom(5, 3, [4, 9, 2**40])
    starts = {name: torch.tensor(random.start(name)) for name in ("a", "b")}
    alone = DeviceRandom(random.indices, starts, torch.tensor(STEP))
    assert len(alone) == 3
    assert all(torch.equal(alone.uniform(name, 50), random.uniform(name, 50)) for name in ("a", "b"))
    assert not torch.equal(alone.uniform("a", 50), alone.uniform("b", 50))


def test_seeding_one_device_is_seeding_as_torch_does() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2**31 - 7)
        expected = torch.rand(5)
        seed_generators(2**31 - 7, torch.device("cpu"))
        assert torch.equal(torch.rand(5), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_same_bits() -> None:
    random = SampleRandom(1, 2, range(64))
    assert torch.equal(random.uniform("a", 5000), random.uniform("a", 5000, "cuda").cpu())
