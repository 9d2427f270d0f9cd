"""Both engines against geometry worked out by hand: alignment, ranges, directions, fill, and sameness of a sample."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from lungseg.augment import Augment, SliceBySlice, augment_named, from_albumentations
from lungseg.augment_torch import TorchAugment, Transform, sample
from lungseg.config import AIR, AugmentConfig
from lungseg.errors import MachineError, UsageError
from lungseg.randomness import SampleRandom

RECIPE = AugmentConfig()
STILL = AugmentConfig(scale=(1.0, 1.0), rotation_deg=0.0, translation=0.0, elastic_strength=(0.0, 0.0))
AFFINE = AugmentConfig(elastic_strength=(0.0, 0.0))
ENGINES = ["torch", "imgaug"]


def engine(name: str, config: AugmentConfig = RECIPE) -> Augment:
    try:
        made = augment_named(name, config)
    except MachineError:
        pytest.skip("imgaug is not installed")
    assert made is not None
    return made


def shapes(count: int, size: int = 256) -> Tensor:
    """Discs and a bar well inside the slice, ``float32 [count, 1, size, size]`` of 0 and 1."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    inside = ((x - 0.1) ** 2 + y**2 < 0.1**2) | ((x + 0.2) ** 2 + (y + 0.1) ** 2 < 0.05**2)
    inside |= (abs(x) < 0.02) & (abs(y - 0.1) < 0.15)
    return torch.from_numpy(inside.astype(np.float32)).expand(count, 1, size, size).clone()


def transform(**values: float) -> Transform:
    default = {"scale": 1.0, "angle": 0.0, "shift_x": 0.0, "shift_y": 0.0, "strength": 0.0, "smoothness": 6.0}
    return Transform(**{name: torch.tensor([value]) for name, value in (default | values).items()})


def moved(image: Tensor, drawn: Transform) -> tuple[Tensor, Tensor]:
    positions = TorchAugment(RECIPE).positions(drawn, SampleRandom(0, 0, [0]), image.shape[-1])
    return sample(image, (image > 0.5).float(), positions)


@pytest.mark.parametrize(("size", "tolerance"), [(64, 0.0), (256, 0.0), (100, 2e-5), (97, 2e-5)])
def test_torch_without_any_transform_gives_the_very_image(size: int, tolerance: float) -> None:
    image = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    mask = (image > 0.5).float()
    new_image, new_mask = TorchAugment(STILL)(image, mask, SampleRandom(0, 0, [0, 1]))
    torch.testing.assert_close(new_image, image, rtol=0, atol=tolerance)
    assert torch.equal(new_mask, mask)


def test_torch_moves_in_the_direction_that_it_says() -> None:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    # A quarter turn clockwise as displayed: what was on the right is at the bottom.
    turned, turned_mask = moved(image, transform(angle=np.pi / 2))
    torch.testing.assert_close(turned, torch.rot90(image, -1, (2, 3)), rtol=0, atol=1e-4)
    assert torch.equal(turned_mask, (torch.rot90(image, -1, (2, 3)) > 0.5).float())
    # A quarter of the side to the right and an eighth up; air comes in.
    shifted, shifted_mask = moved(image, transform(shift_x=0.25, shift_y=-0.125))
    torch.testing.assert_close(shifted[..., :-8, 16:], image[..., 8:, :-16], rtol=0, atol=1e-6)
    assert (shifted[..., :16] == AIR).all() and (shifted[..., -8:, :] == AIR).all()
    assert (shifted_mask[..., :16] == 0).all()
    # Twice as large: each pixel of the middle half becomes 2 x 2.
    y, x = np.mgrid[:64, :64] - 31.5
    ramp = torch.from_numpy(x + 100 * y).float()[None, None]
    torch.testing.assert_close(moved(ramp, transform(scale=2.0))[0], ramp / 2, rtol=0, atol=1e-3)


def test_torch_partly_outside_is_mixed_with_air() -> None:
    image = torch.full((1, 1, 64, 64), 0.5)
    shifted = moved(image, transform(shift_x=0.25 / 64))[0]  # a quarter of a pixel
    torch.testing.assert_close(shifted[0, 0, :, 0], torch.full((64,), 0.75 * 0.5 + 0.25 * AIR))
    torch.testing.assert_close(shifted[0, 0, :, 1:], image[0, 0, :, 1:])


def test_torch_image_and_mask_stay_aligned() -> None:
    image = shapes(40)
    new_image, new_mask = engine("torch")(image, image, SampleRandom(0, 0, range(40)))
    # The nearest pixel has at least a quarter of the weight in bilinear interpolation, so this holds for every pixel.
    assert (new_image[new_mask == 1] >= 0.25 - 1e-5).all()
    assert (new_image[new_mask == 0] <= 0.75 + 1e-5).all()
    assert (new_mask != image).float().mean() > 0.01


def test_imgaug_image_and_mask_stay_aligned() -> None:
    image = shapes(12)
    new_image, new_mask = engine("imgaug")(image, image, SampleRandom(0, 0, range(12)))
    # It interpolates twice, so only pixels at the contour may differ; the shapes are about 8 pixels wide or more.
    differ = ((new_image > 0.5) != (new_mask > 0.5)).sum((1, 2, 3))
    assert (differ <= 0.06 * new_mask.sum((1, 2, 3))).all()
    inner = torch.from_numpy(ndimage.binary_erosion(new_mask.numpy() > 0, np.ones((1, 1, 5, 5))))
    outer = torch.from_numpy(ndimage.binary_dilation(new_mask.numpy() > 0, np.ones((1, 1, 5, 5))))
    assert (new_image[inner] > 0.5).all() and (new_image[~outer] < 0.5).all()
    assert (new_mask != image).float().mean() > 0.01


def similarity(name: str, count: int) -> np.ndarray:
    """Scale, angle in degrees, shift in x and y as shares, from where three markers went: ``[count, 4]``."""
    size, spots = 256, [(40.0, 0.0), (-20.0, 35.0), (-25.0, -30.0)]  # (x, y) from the centre
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    found = []
    for k, (at_x, at_y) in enumerate(spots):
        spot = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 4.0**2)) + AIR
        image = torch.from_numpy(spot.astype(np.float32)).expand(count, 1, size, size)
        out = engine(name, AFFINE)(image, torch.zeros_like(image), SampleRandom(0, 0, range(count)))[0]
        weight = (out[:, 0].numpy() - AIR).clip(0.01) - 0.01
        total = weight.sum((1, 2))
        found.append(((weight * x).sum((1, 2)) + 1j * (weight * y).sum((1, 2))) / total)
        assert k or (total > 0).all()
    before = np.array([at_x + 1j * at_y for at_x, at_y in spots])
    after = np.array(found).T  # [count, 3]
    # Least squares for after = a * before + b in complex numbers; a is scale and rotation at once.
    a = ((after - after.mean(1, keepdims=True)) * (before - before.mean()).conj()).sum(1)
    a /= (abs(before - before.mean()) ** 2).sum()
    b = after.mean(1) - a * before.mean()
    return np.stack([abs(a), np.degrees(np.angle(a)), b.real / size, b.imag / size], 1)


@pytest.mark.parametrize("name", ENGINES)
def test_ranges_are_met_and_two_sided(name: str) -> None:
    measured = similarity(name, 60)
    for values, low, high in zip(measured.T, (0.85, -45, -0.15, -0.15), (1.15, 45, 0.15, 0.15), strict=True):
        slack = 0.01 * (high - low)
        assert low - slack <= values.min() and values.max() <= high + slack
        # 60 uniform draws: each end's outermost 15 % is missed with probability 0.85^60 = 0.006 %.
        assert values.min() < low + 0.15 * (high - low) and values.max() > high - 0.15 * (high - low)
    assert abs(np.corrcoef(measured.T) - np.eye(4)).max() < 0.5  # drawn apart from each other


def test_torch_does_what_it_drew() -> None:
    drawn = TorchAugment(AFFINE).draw(SampleRandom(0, 0, range(10)))
    expected = torch.stack([drawn.scale, drawn.angle.rad2deg(), drawn.shift_x, drawn.shift_y], 1).numpy()
    assert (np.abs(similarity("torch", 10) - expected) <= [0.003, 0.2, 0.001, 0.001]).all()


def test_torch_draws_are_uniform_in_their_ranges() -> None:
    drawn = TorchAugment(RECIPE).draw(SampleRandom(0, 0, range(4000)))
    turn = np.pi / 4
    ranges = [(0.85, 1.15), (-turn, turn), (-0.15, 0.15), (-0.15, 0.15), (0.0, 40.0), (4.0, 8.0)]
    for values, (low, high) in zip(vars(drawn).values(), ranges, strict=True):
        assert stats.kstest(values.numpy(), stats.uniform(low, high - low).cdf).pvalue > 0.001


@pytest.mark.parametrize("smoothness", [4.0, 5.5, 8.0])
def test_torch_elastic_displacement_matches_full_resolution(smoothness: float) -> None:
    count, strength = 24, 40.0
    one = vars(transform(strength=strength, smoothness=smoothness))
    still = {name: value.expand(count) for name, value in one.items()}
    augment, numbers = TorchAugment(RECIPE), SampleRandom(0, 0, range(count))
    field = augment.positions(Transform(**still), numbers, 256) * 128  # pixels
    field -= augment.positions(Transform(**still | {"strength": torch.zeros(count)}), numbers, 256) * 128
    field = field.permute(0, 3, 1, 2).double().numpy()  # [count, 2, 256, 256]

    noise = np.random.default_rng(0).uniform(-1, 1, (count * 2, 300, 300))
    direct = strength * ndimage.gaussian_filter(noise, (0, smoothness, smoothness))[:, 22:-22, 22:-22]

    expected = strength / (smoothness * np.sqrt(12 * np.pi))
    assert direct.std() == pytest.approx(expected, rel=0.03)
    assert field.std() == pytest.approx(expected, rel=0.03)
    assert abs(field.mean()) < 0.1 * expected
    # The same everywhere: at noise nodes and between them, along rows and columns, in the corner.
    phases = [field[..., phase::4].std() for phase in range(4)] + [field[..., phase::4, :].std() for phase in range(4)]
    assert max(phases) / min(phases) < 1.01
    assert field[..., :16, :16].std() == pytest.approx(expected, rel=0.15)
    # Correlation at a distance d is exp(-d^2 / 4 sigma^2).
    for lag in (4, 8, 12):
        for axis in (2, 3):
            one, other = np.take(field, range(256 - lag), axis), np.take(field, range(lag, 256), axis)
            assert (one * other).mean() / field.var() == pytest.approx(
                np.exp(-(lag**2) / (4 * smoothness**2)), abs=0.04
            )
    assert abs((field[:, 0] * field[:, 1]).mean() / field.var()) < 0.05  # the two axes are independent


def test_torch_transform_is_the_same_at_every_size() -> None:
    augment, numbers = TorchAugment(RECIPE), SampleRandom(0, 0, [5])
    drawn = augment.draw(numbers)
    large = augment.positions(drawn, numbers, 256).permute(0, 3, 1, 2)
    small = augment.positions(drawn, numbers, 128).permute(0, 3, 1, 2)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 2), small, rtol=0, atol=0.1 / 128)


@pytest.mark.parametrize("name", ENGINES)
def test_outside_is_air_and_masks_stay_binary(name: str) -> None:
    image = torch.full((12, 1, 256, 256), 0.2)
    new_image, new_mask = engine(name)(image, torch.ones_like(image), SampleRandom(0, 0, range(12)))
    assert new_image.dtype == new_mask.dtype == torch.float32
    assert new_mask.unique().tolist() == [0.0, 1.0]
    assert new_image.min() >= AIR - 1e-6 and new_image.max() <= 0.2 + 1e-6
    assert (new_image[new_mask == 0] < 0.2).all()
    assert ((new_image - AIR).abs() < 1e-6).float().mean() > 0.05
    assert (image == 0.2).all()  # the input is not changed


@pytest.mark.parametrize("name", ENGINES)
def test_mirroring_exchanges_left_and_right_of_image_and_mask(name: str) -> None:
    image = shapes(1)
    always, never = (engine(name, replace(STILL, mirror=chance)) for chance in (1.0, 0.0))
    mirrored, mask = always(image, image, SampleRandom(0, 0, [0]))
    assert (mirrored - image.flip(-1)).abs().mean() < 1e-3 and torch.equal(mask, image.flip(-1))
    assert torch.equal(never(image, image, SampleRandom(0, 0, [0]))[1], image)


@pytest.mark.parametrize("name", ENGINES)
def test_samples_are_mirrored_as_often_as_asked_for(name: str) -> None:
    image = shapes(40, size=64)
    _, mask = engine(name, replace(STILL, mirror=0.5))(image, image, SampleRandom(0, 0, range(40)))
    kept = int((mask == image).flatten(1).all(1).sum())
    assert 10 < kept < 30


@pytest.mark.parametrize("name", ENGINES)
def test_a_sample_is_decided_by_seed_epoch_and_index(name: str) -> None:
    augment, image = engine(name), shapes(3)
    whole = augment(image, image, SampleRandom(1, 2, [7, 8, 9]))
    alone = augment(image[:1], image[:1], SampleRandom(1, 2, [9]))
    torch.testing.assert_close(whole[0][2:], alone[0], rtol=0, atol=1e-4)
    for other in (SampleRandom(0, 2, [9]), SampleRandom(1, 3, [9]), SampleRandom(1, 2, [10])):
        assert not torch.allclose(augment(image[:1], image[:1], other)[0], alone[0], atol=0.1)


@pytest.mark.parametrize("name", ENGINES)
def test_no_global_generator_is_touched(name: str) -> None:
    augment, image = engine(name), shapes(1)
    states = [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # noqa: NPY002
    if name == "imgaug":
        import imgaug

        before = repr(imgaug.random.get_global_rng().state)
        again = engine(name)
        again(image, image, SampleRandom(0, 0, [0]))
        assert repr(imgaug.random.get_global_rng().state) == before
    augment(image, image, SampleRandom(0, 0, [0]))
    assert states == [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]  # noqa: NPY002


def test_torch_ignores_autocast() -> None:
    image = shapes(2)
    plain = TorchAugment(RECIPE)(image, image, SampleRandom(0, 0, [0, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        cast = TorchAugment(RECIPE)(image, image, SampleRandom(0, 0, [0, 1]))
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiled", [False, True])
def test_the_gpu_gives_the_same_samples(compiled: bool) -> None:
    image = shapes(8)
    here = TorchAugment(RECIPE)(image, image, SampleRandom(0, 0, range(8)))
    augment = TorchAugment(RECIPE, compiled=compiled)
    there = augment(image.cuda(), image.cuda(), SampleRandom(0, 0, range(8)))
    assert (augment._compiled is not None) == compiled  # where compiling failed, it is gone
    assert (here[0] - there[0].cpu()).abs().mean() < 1e-4
    assert (here[1] != there[1].cpu()).float().mean() < 1e-4


def test_torch_refuses_batches_that_do_not_fit() -> None:
    image = torch.zeros(2, 1, 32, 32)
    for one, mask, count in ((image, image[:1], 2), (image, image, 3), (image[..., :30], image[..., :30], 2)):
        with pytest.raises(UsageError, match=r"image \[2, 1, 32, 3"):
            TorchAugment(RECIPE)(one, mask, SampleRandom(0, 0, range(count)))


def test_numpy_is_as_it_was_after_importing_imgaug() -> None:
    engine("imgaug")
    assert hasattr(np, "sctypes") == np.__version__.startswith("1.")


def test_a_missing_imgaug_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "imgaug"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "imgaug", None)
    with pytest.raises(MachineError, match=r"pip install imgaug==0\.4\.0"):
        augment_named("imgaug")
    assert hasattr(np, "sctypes") == np.__version__.startswith("1.")


class Flipping:
    """Stands in for ``albumentations.Compose``."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng()

    def set_random_seed(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)

    def __call__(self, *, image: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        assert image.dtype == np.float32 and mask.dtype == np.uint8 and image.ndim == mask.ndim == 2
        image += 1  # pipelines may work in place
        flip = slice(None, None, -1) if self.generator.random() < 0.5 else slice(None)
        return {"image": image[:, flip], "mask": mask[:, flip]}


def test_an_albumentations_like_pipeline() -> None:
    augment, image = from_albumentations(Flipping()), shapes(20, 64)
    new_image, new_mask = augment(image, image, SampleRandom(0, 0, range(20)))
    assert torch.equal(new_image - 1, new_mask) and torch.equal(image, shapes(20, 64))
    flipped = [torch.equal(new_mask[k], image[k].flip(2)) for k in range(20)]
    assert 3 < sum(flipped) < 17
    assert torch.equal(new_mask[7:8], augment(image[:1], image[:1], SampleRandom(0, 0, [7]))[1])
    assert not augment.on_device


def test_a_pipeline_that_changes_the_shape_is_refused() -> None:
    augment = SliceBySlice(lambda image, mask, seed: (image[:, 2:], mask))
    with pytest.raises(UsageError, match=r"expected image and mask \[64, 64\]; found image \[64, 62\]"):
        augment(shapes(1, 64), shapes(1, 64), SampleRandom(0, 0, [0]))


@pytest.mark.parametrize(
    "ranges",
    [
        {"scale": (1.15, 0.85)},
        {"scale": (0.0, 1.0)},
        {"rotation_deg": -5.0},
        {"translation": 1.5},
        {"elastic_strength": (-1.0, 4.0)},
        {"elastic_smoothness": (0.1, 8.0)},
        {"rotation_deg": float("nan")},
    ],
)
def test_ranges_that_can_not_be_meant(ranges: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(ranges))} can not be meant"):
        augment_named("torch", AugmentConfig(**ranges))


def test_names() -> None:
    assert augment_named("none") is None
    assert engine("torch").on_device
    assert not engine("imgaug").on_device
    with pytest.raises(UsageError, match="torch or imgaug or none"):
        augment_named("albumentations")
