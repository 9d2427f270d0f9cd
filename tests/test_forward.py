"""The quick forward pass gives what the network gives, and falls back to it."""

from __future__ import annotations

import pytest
import torch

from lungseg import forward
from lungseg.config import UNetConfig
from lungseg.forward import ConvReLU, forward_of
from lungseg.unet import UNet

CPU = torch.device("cpu")


def net_of(norm: str, patch: int = 1, skip: str = "concat") -> UNet:
    """A small network whose normalisation has seen something."""
    torch.manual_seed(0)
    window = (-1000.0, 400.0)
    net = UNet(UNetConfig(widths=(8, 16, 24), norm=norm, patch=patch, window_hu=window, skip=skip))  # type: ignore[arg-type]
    with torch.no_grad():
        for _ in range(3):
            net.train()(images() * 1.5)
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight *= 2.0  # as drawn, the input would hardly show in the output
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0)
                module.bias.uniform_(-0.5, 0.5)
    return net.eval()


def images() -> torch.Tensor:
    return torch.rand(3, 1, 36, 44, generator=torch.Generator().manual_seed(1)) - 0.3


def relative_error(found: torch.Tensor, reference: torch.Tensor) -> float:
    return float((found - reference).norm() / reference.norm())


@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance"])
@pytest.mark.parametrize(("patch", "skip"), [(1, "concat"), (2, "concat"), (1, "add"), (2, "add")])
def test_bf16_is_near_float32(norm: str, patch: int, skip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "fast_at_bf16", lambda device: True)
    net = net_of(norm, patch, skip)
    with torch.inference_mode():
        reference = net.double()(images().double()).float()
    net.float()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = forward_of(net, CPU, "bf16")(images())
    assert found.dtype == torch.float32 and found.shape == reference.shape
    # bf16 keeps eight bits; the errors of some ten layers add up as a random walk.
    assert relative_error(found, reference) < 0.05
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_float32_is_the_network_itself() -> None:
    net = net_of("batch").to(memory_format=torch.channels_last)
    with torch.inference_mode():
        reference = net(images().contiguous(memory_format=torch.channels_last))
    assert torch.equal(forward_of(net, CPU, "32")(images()), reference)


def test_the_fused_operation_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "fast_at_bf16", lambda device: True)
    net, made = net_of("none"), []
    if not forward._can_fuse(net):
        pytest.skip("this processor has no convolutions in bf16")
    monkeypatch.setattr(forward, "_fused", lambda net: made.append(net) or net)
    forward_of(net, CPU)(images())
    assert made == [net]


def test_without_the_fused_operation_the_network_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "fast_at_bf16", lambda device: True)
    net, made = net_of("none"), []
    monkeypatch.setattr(forward, "_fused", lambda net: made.append(net) or net)

    def other_arguments(self: ConvReLU, x: torch.Tensor) -> torch.Tensor:
        raise TypeError("takes other arguments")

    monkeypatch.setattr(ConvReLU, "forward", other_arguments)
    found = forward_of(net, CPU, "bf16")(images())
    assert made == []
    with torch.inference_mode():
        assert relative_error(found, net(images())) < 0.05
