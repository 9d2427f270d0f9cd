"""Montage, side by side, and what every figure shares."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from lungseg.errors import DataError, UsageError
from lungseg.visualize import PREDICTION, TRUTH, montage, side_by_side
from lungseg.visualize.picture import Picture


def images(n: int = 3) -> np.ndarray:
    """Preprocessed slices ``float16 [n, 32, 32]``: lung in the middle of soft tissue."""
    slices = np.full((n, 32, 32), 40 / 3071, np.float16)
    slices[:, 8:24, 8:24] = -850 / 3071
    return slices


def masks(n: int = 3, shift: int = 0) -> np.ndarray:
    """``uint8 [n, 32, 32]``, tumour in all but the first."""
    areas = np.zeros((n, 32, 32), np.uint8)
    areas[1:, 10 + shift : 16 + shift, 12:20] = 1
    return areas


def rendered(figure: Picture) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)  # type: ignore[attr-defined]


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of about this colour."""
    return int((np.abs(pixels - np.array(colour)).sum(axis=-1) < 30).sum())


def legend_of(figure: Picture) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_montage_has_a_panel_a_slice_with_its_label() -> None:
    figure = montage(images(5), labels=list("abcde"), columns=2, title="five")
    assert isinstance(figure, Picture) and len(figure.axes) == 5
    assert [axes.get_title() for axes in figure.axes] == list("abcde")
    assert figure.texts[0].get_text() == "five" and legend_of(figure) == []
    assert len({round(axes.get_position().x0, 3) for axes in figure.axes}) == 2


def test_montage_takes_as_many_as_asked_for_evenly() -> None:
    assert [axes.get_title() for axes in montage(images(9), n=3).axes] == ["0", "4", "8"]


def test_montage_draws_only_the_outlines_it_is_given() -> None:
    pixels = {
        (bool(mask), bool(truth)): rendered(montage(images(), masks() if mask else None, masks() if truth else None))
        for mask in (0, 1)
        for truth in (0, 1)
    }
    for (mask, truth), shown in pixels.items():
        assert (near(shown, PREDICTION) > 20) == mask and (near(shown, TRUTH) > 20) == truth


def test_both_are_seen_where_they_agree_and_named_in_the_legend() -> None:
    figure = montage(images(), masks(), masks())
    shown = rendered(figure)
    assert near(shown, PREDICTION) > 50 and near(shown, TRUTH) > 50
    assert legend_of(figure) == ["truth", "prediction"]
    assert [to_hex(line.get_color()) for line in figure.legends[0].get_lines()] == [
        to_hex(np.array(colour) / 255) for colour in (TRUTH, PREDICTION)
    ]


def test_an_empty_mask_draws_nothing() -> None:
    figure = montage(images(1), masks(1), masks(1))
    assert len(figure.axes[0].collections) == 0


def test_row_0_is_on_top_and_column_0_on_the_left() -> None:
    image = np.full((32, 32), -1000 / 3071, np.float32)
    image[:8, :16] = 1000 / 3071
    figure = montage([image], labels=[""])
    axes = figure.axes[0]
    box = axes.get_window_extent()
    top, bottom = (round(figure.bbox.height - y) for y in (box.y1, box.y0))
    # Two pixels less on each side: the edge of the panel is blended with the sheet.
    shown = rendered(figure)[top + 2 : bottom - 2, round(box.x0) + 2 : round(box.x1) - 2]
    rows, columns = shown.shape[:2]
    bright = shown[..., 0] > 200
    assert bright[: rows // 5, : columns * 2 // 5].all()
    assert not bright[rows // 3 :].any() and not bright[:, columns * 3 // 5 :].any()


def test_outline_reaching_the_edge_is_closed() -> None:
    whole = np.ones((1, 32, 32), np.uint8)
    figure = montage(images(1), truths=whole)
    (contour,) = figure.axes[0].collections
    (path,) = contour.get_paths()
    np.testing.assert_array_equal(path.vertices[0], path.vertices[-1])


def test_hu_and_preprocessed_give_the_same_picture() -> None:
    hu = images().astype(np.float32) * 3071
    np.testing.assert_array_equal(rendered(montage(images())), rendered(montage(hu, unit="hu")))


def test_tensors_with_a_channel_are_taken() -> None:
    tensors = torch.from_numpy(images().astype(np.float32))[:, None].requires_grad_()
    areas = torch.from_numpy(masks())[:, None]
    np.testing.assert_array_equal(rendered(montage(tensors, areas)), rendered(montage(images(), masks())))  # type: ignore[arg-type]


def test_side_by_side_has_four_panels_and_fills_the_masks() -> None:
    figure = side_by_side(images()[1], masks()[1], masks(shift=3)[1])
    assert [axes.get_title() for axes in figure.axes] == ["image", "truth", "prediction", "both"]
    shown = rendered(figure)
    assert near(shown, TRUTH) > 800 and near(shown, PREDICTION) > 800
    assert legend_of(figure) == ["truth", "prediction"]


def test_side_by_side_shows_the_tumours_and_a_margin() -> None:
    figure = side_by_side(images()[1], masks()[1], masks(shift=3)[1], margin=2)
    for axes in figure.axes:
        # Rows 10 to 18 and columns 12 to 19 are tumour.
        assert axes.get_ylim() == (20.5, 7.5) and axes.get_xlim() == (9.5, 21.5)
    whole = side_by_side(images()[0], masks()[0], masks()[0], margin=2)
    assert whole.axes[0].get_xlim() == (-0.5, 31.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"images": images(0)}, "no slice to show"),
        ({"images": images(), "masks": masks(2)}, "masks for each image .expected 3; found 2"),
        ({"images": images(), "truths": masks(4)}, "truths"),
        ({"images": images(), "labels": ["a"]}, "labels"),
        ({"images": images(), "masks": masks()[:, 1:]}, "differ in shape"),
        ({"images": [np.zeros((2, 4, 4))]}, "is no slice"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        montage(**arguments)


@pytest.mark.parametrize("options", [{"n": 0}, {"columns": 0}, {"window": "bone"}, {"unit": "kelvin"}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(UsageError):
        montage(images(), **options)


def test_side_by_side_refuses_a_mask_of_another_shape() -> None:
    with pytest.raises(DataError, match="differ in shape"):
        side_by_side(images()[0], masks()[0][1:], masks()[0])


def test_a_file_is_written_in_one_step_with_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in "ab":
        montage(images(), masks()).write(tmp_path / f"{name}.png")
    one, other = (tmp_path / f"{name}.png" for name in "ab")
    assert one.read_bytes() == other.read_bytes() and sorted(tmp_path.iterdir()) == [one, other]
    with Image.open(one) as image:
        assert not any("time" in key.lower() or "date" in key.lower() for key in image.info)


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.gif"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.pdf or \.svg"):
        montage(images()).write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_gets_a_small_png_of_it_without_pyplot() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    noisy = np.random.default_rng(0).normal(-0.2, 0.1, (4, 64, 64))
    figure = montage(noisy)
    png = figure._repr_png_()
    full = io.BytesIO()
    figure.savefig(full, format="png", bbox_inches="tight")
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) < 0.6 * len(full.getvalue())
    shown, meant = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in (png, full.getvalue())
    )
    assert shown.shape == meant.shape and np.abs(shown - meant).max() <= 5
    assert plt.get_fignums() == before
