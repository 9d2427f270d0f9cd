"""The diagram says what the module is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lungseg.config import UNetConfig
from lungseg.errors import UsageError
from lungseg.unet import UNet
from lungseg.visualize import block_shapes, unet_diagram
from lungseg.visualize.picture import Picture


def small(**changes: object) -> UNet:
    return UNet(UNetConfig(widths=(4, 8), **changes))  # type: ignore[arg-type]


def words(figure: Picture) -> list[str]:
    """Every text of the figure."""
    return [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]


def test_sizes_are_those_of_a_forward_pass() -> None:
    blocks = {block.name: (block.input, block.output) for block in block_shapes(small(), 32)}
    assert blocks == {
        "encoder.0": ((1, 32, 32), (4, 32, 32)),
        "encoder.1": ((4, 16, 16), (8, 16, 16)),
        "decoder.0": ((12, 32, 32), (4, 32, 32)),  # 8 from below and 4 over the skip connection
        "head": ((4, 32, 32), (1, 32, 32)),
        "network": ((1, 32, 32), (1, 32, 32)),
    }


def test_title_tells_the_parameters_of_the_module() -> None:
    model = small()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert any(f"{count:,} parameters" in text for text in words(unet_diagram(model, 32)))


def test_classic_has_the_known_number_of_parameters() -> None:
    figure = unet_diagram(UNet(), input_size=32)
    assert any("7,781,761 parameters" in text for text in words(figure))
    assert {"64 × 32 × 32", "512 × 4 × 4"} <= set(words(figure))


def test_skips_that_are_added_are_drawn_so() -> None:
    model = small(skip="add")
    blocks = {block.name: (block.input, block.output) for block in block_shapes(model, 32)}
    assert blocks["decoder.0"] == ((4, 32, 32), (4, 32, 32))  # 8 from below were narrowed to 4, and 4 added
    legend = unet_diagram(model, 32).axes[0].get_legend()
    assert {text.get_text() for text in legend.get_texts()} >= {"1x1 convolution, upsampling", "skip connection: add"}
    assert "a block: Conv2d, ReLU, Conv2d, ReLU, on the way up Conv2d, ReLU;" in legend.get_title().get_text()


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 16), (2, 4, 8, 16, 32)])
def test_a_box_a_block_and_an_arrow_a_step(widths: tuple[int, ...]) -> None:
    from matplotlib.patches import FancyArrowPatch, Rectangle

    patches = unet_diagram(UNet(UNetConfig(widths=widths)), input_size=32).axes[0].patches
    steps = len(widths) - 1
    assert sum(isinstance(patch, Rectangle) for patch in patches) == 2 * steps + 2
    # A pooling, an upsampling and a skip connection a step; into the first block and into the head.
    assert sum(isinstance(patch, FancyArrowPatch) for patch in patches) == 3 * steps + 2


@pytest.mark.parametrize("config", [UNetConfig(), UNetConfig(norm="batch"), UNetConfig(norm="batch", skip="add")])
def test_all_that_is_drawn_lies_on_the_sheet(config: UNetConfig) -> None:
    figure = unet_diagram(UNet(config), input_size=32)
    figure.canvas.draw()
    legend = figure.axes[0].get_legend()
    for text in (*figure.texts, *figure.axes[0].texts, *legend.get_texts(), legend.get_title()):
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = small(norm="batch").train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unet_diagram(model, 32)
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_file_is_written_where_asked(tmp_path: Path) -> None:
    unet_diagram(small(), 32, tmp_path / "unet.png")
    assert (tmp_path / "unet.png").stat().st_size > 1000
    with pytest.raises(UsageError, match=r"\.png"):
        unet_diagram(small(), 32, tmp_path / "unet.bmp")
