"""The network against an oracle written in plain functional calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lungseg.config import RECIPES, UNetConfig
from lungseg.unet import UNet, parameter_count

SMALL = UNetConfig(widths=(4, 6, 8, 10))


def oracle(weights: list[Tensor], image: Tensor) -> Tensor:
    """The published recipe's U-Net; ``weights`` holds weight, bias, weight, bias, ... in the order of use."""
    pairs = iter(zip(weights[::2], weights[1::2], strict=True))

    def double(x: Tensor) -> Tensor:
        for _ in range(2):
            x = F.relu(F.conv2d(x, *next(pairs), padding=1))
        return x

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    a = double(image)
    b = double(F.max_pool2d(a, 2))
    c = double(F.max_pool2d(b, 2))
    d = double(F.max_pool2d(c, 2))
    y = double(torch.cat([up(d), c], 1))
    y = double(torch.cat([up(y), b], 1))
    y = double(torch.cat([up(y), a], 1))
    return F.conv2d(y, *next(pairs))


def test_classic_has_the_parameters_of_the_published_recipe() -> None:
    assert parameter_count(UNet()) == 7_781_761


def test_same_function_as_the_published_recipe() -> None:
    torch.manual_seed(0)
    net, image = UNet(SMALL), torch.randn(2, 1, 32, 48)
    torch.testing.assert_close(net(image), oracle(list(net.parameters()), image))


def test_classic_is_the_same_function_too() -> None:
    torch.manual_seed(0)
    net, image = UNet(), torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(image), oracle(list(net.parameters()), image))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (1, 9), (8, 31)])
@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance"])
def test_any_size_and_norm(size: tuple[int, int], norm: str) -> None:
    net = UNet(UNetConfig(widths=(4, 6, 8), norm=norm)).eval()  # type: ignore[arg-type]
    image = torch.randn(2, 1, *size)
    logits = net(image)
    assert logits.shape == (2, 1, *size)
    assert torch.isfinite(logits).all()


def test_a_size_that_does_not_divide_is_the_padded_one_cropped() -> None:
    net, image = UNet(SMALL), torch.randn(1, 1, 30, 27)
    padded = torch.cat([image, image[..., -1:].expand(-1, -1, -1, 5)], 3)
    padded = torch.cat([padded, padded[..., -1:, :].expand(-1, -1, 2, -1)], 2)
    with torch.no_grad():
        torch.testing.assert_close(net(image), net(padded)[..., :30, :27])


def test_depth_follows_the_widths() -> None:
    net = UNet(UNetConfig(widths=(4, 8, 16, 32, 64)))
    assert [len(net.encoder), len(net.decoder)] == [5, 4]
    first_up = next(iter(net.decoder[0].children()))
    assert isinstance(first_up, torch.nn.Conv2d) and first_up.in_channels == 64 + 32
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in net.modules())


def test_two_channels_last_is_the_same_function() -> None:
    net = UNet(UNetConfig(in_channels=2, widths=(4, 6, 8), norm="batch")).eval()
    image = torch.randn(2, 2, 16, 16)
    with torch.no_grad():
        expected = net(image)
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = net(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("skip", ["concat", "add"])
def test_the_graph_is_captured_whole(skip: Literal["concat", "add"]) -> None:
    """No branch depends on the data, so that ``torch.compile`` needs no break."""
    net, image = UNet(replace(SMALL, skip=skip)).eval(), torch.randn(1, 1, 30, 32)
    program = torch.export.export(net, (image,), strict=False)
    torch.testing.assert_close(program.module()(image), net(image))


@pytest.mark.parametrize("size", [(64, 64), (50, 37)])
def test_a_network_on_patches_keeps_the_size_and_every_pixel(size: tuple[int, int]) -> None:
    net = UNet(UNetConfig(widths=(4, 8), patch=2))
    image = torch.randn(2, 1, *size)
    assert net(image).shape == (2, 1, *size)
    changed = image.clone()
    changed[..., 11, 8] += 1.0
    where = (net(changed) - net(image)).abs().amax((0, 1)).nonzero()
    assert where[:, 0].min() <= 11 <= where[:, 0].max() and where[:, 1].min() <= 8 <= where[:, 1].max()


def test_a_patch_of_two_takes_a_quarter_of_the_operations() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for patch in (1, 2):
        net, counter = UNet(UNetConfig(widths=(16, 32), patch=patch)), FlopCounterMode(display=False)
        with counter:
            net(torch.zeros(1, 1, 64, 64))
        counts.append(counter.get_total_flops())
    assert 0.2 < counts[1] / counts[0] < 0.3


def test_a_window_stretches_its_range_and_clips_the_rest() -> None:
    net = UNet(UNetConfig(widths=(4,), window_hu=(-1000.0, 400.0)))
    seen = net._windowed(torch.tensor([-2000.0, -1000.0, -300.0, 400.0, 3000.0]) / 3071.0)
    torch.testing.assert_close(seen, torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0]), rtol=0, atol=1e-6)


def test_the_prior_is_what_an_untrained_network_answers() -> None:
    net = UNet(UNetConfig(widths=(4, 8), prior=0.01))
    with torch.no_grad():
        net.head.weight.zero_()
    torch.testing.assert_close(net(torch.randn(1, 1, 8, 8)).sigmoid(), torch.full((1, 1, 8, 8), 0.01))


@pytest.mark.parametrize("skip", ["concat", "add"])
def test_coarser_predictions_are_trained_too_and_do_not_touch_the_finest(skip: Literal["concat", "add"]) -> None:
    torch.manual_seed(0)
    net = UNet(UNetConfig(widths=(4, 6, 8, 10), deep=2, prior=0.01, skip=skip))
    image = torch.randn(2, 1, 30, 27)
    levels = net.levels(image)
    assert [tuple(level.shape) for level in levels] == [(2, 1, 30, 27), (2, 1, 15, 14), (2, 1, 8, 7)]
    torch.testing.assert_close(levels[0], net(image))
    sum(level.sum() for level in levels).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert [head.in_channels for head in net.deep_heads] == [6, 8]


def test_coarser_predictions_of_squares_of_pixels() -> None:
    net = UNet(UNetConfig(widths=(4, 6, 8), deep=1, patch=2))
    assert [level.shape[-1] for level in net.levels(torch.randn(1, 1, 32, 32))] == [32, 16]


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_skips_that_are_added(norm: str) -> None:
    torch.manual_seed(0)
    net = UNet(UNetConfig(widths=(4, 6, 8), norm=norm, skip="add"))  # type: ignore[arg-type]
    net(torch.randn(4, 1, 24, 32) * 3.0 + 1.0)  # a normalisation has then seen something
    net.eval()
    image = torch.randn(2, 1, 24, 32)

    def up(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    a = net.encoder[0](image)
    b = net.encoder[1](F.max_pool2d(a, 2))
    c = net.encoder[2](F.max_pool2d(b, 2))
    # To narrow after enlarging is the same: both are linear, one over channels and one over places.
    y = net.decoder[0](net.narrow[0](up(c)) + b)
    y = net.decoder[1](net.narrow[1](up(y)) + a)
    torch.testing.assert_close(net(image), net.head(y))
    assert [sum(isinstance(layer, torch.nn.Conv2d) for layer in step.modules()) for step in net.decoder] == [1, 1]
    net(image).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_skips_that_are_added_halve_the_work_of_strong() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for skip in ("concat", "add"):
        config = replace(RECIPES["strong"].unet, skip=skip)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            UNet(config)(torch.zeros(1, 1, 64, 64))
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.55 * counts[0]
