"""Animations that celluloid records from a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.animation import ArtistAnimation
from PIL import Image, ImageSequence

from lungseg.errors import NOTICE, DataError, UsageError
from lungseg.visualize import PREDICTION, TRUTH, record


def images(n: int = 3) -> np.ndarray:
    """Preprocessed slices, each of another grey."""
    return np.stack([np.full((32, 32), -0.3 + 0.05 * i, np.float32) for i in range(n)])


def masks(n: int = 3) -> np.ndarray:
    areas = np.zeros((n, 32, 32), np.uint8)
    areas[1:, 8:24, 8:24] = 1
    return areas


def frames_of(path: Path) -> np.ndarray:
    """RGB ``[frame, row, column, 3]``."""
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]).astype(int)


def count(frame: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((frame == colour).all(axis=-1).sum())


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_one_frame_a_slice_with_its_time(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    animation = record(images(), masks(), masks(), out, fps=5, width=2)
    assert isinstance(animation, ArtistAnimation)
    with Image.open(out) as image:
        assert image.n_frames == 3
        image.seek(1)
        image.load()
        assert image.info["duration"] == 200
    assert list(tmp_path.iterdir()) == [out]


def test_frames_differ_and_show_both_outlines(tmp_path: Path) -> None:
    record(images(), masks(), masks(), tmp_path / "a.gif", width=2)
    frames = frames_of(tmp_path / "a.gif")
    middle = frames[:, 80:120, 80:120].mean(axis=(1, 2, 3))
    assert np.all(np.diff(middle) > 5)
    # The legend below has both colours in every frame, the slice in those with tumour.
    for colour in (TRUTH, PREDICTION):
        legend, *drawn = (count(frame, colour) for frame in frames)
        assert all(pixels > legend + 20 for pixels in drawn)


def test_few_colours_keep_the_file_small(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(-0.2, 0.05, (2, 64, 64)).astype(np.float32)
    record(noisy, masks=np.zeros((2, 64, 64)), out=tmp_path / "a.gif", width=2)
    assert len(np.unique(frames_of(tmp_path / "a.gif").reshape(-1, 3), axis=0)) <= 35


def test_at_most_n_frames_evenly_with_their_labels(tmp_path: Path) -> None:
    labels = [f"slice {z}" for z in range(9)]
    animation = record(images(9), labels=labels, n=3, width=2, out=tmp_path / "a.gif")
    shown = [
        text.get_text()
        for artists in animation._framedata  # type: ignore[attr-defined]
        for text in artists
        if hasattr(text, "get_text") and text.get_text().startswith("slice")
    ]
    assert shown == ["slice 0", "slice 4", "slice 8"]


def test_the_notice_stands_above_the_slice(tmp_path: Path) -> None:
    animation = record(images(2), out=tmp_path / "a.gif", width=2)
    (axes,) = animation._fig.axes  # type: ignore[attr-defined]
    assert axes.get_title() == NOTICE


def test_the_notice_fits_the_picture(tmp_path: Path) -> None:
    for width in (2.0, 3.6, 6.0):
        animation = record(images(2), out=tmp_path / "a.gif", width=width)
        figure = animation._fig  # type: ignore[attr-defined]
        figure.canvas.draw()
        box = figure.axes[0].title.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width


def test_a_notebook_can_show_it() -> None:
    html = record(images(2), width=2).to_jshtml()
    assert html.count("data:image/png;base64") == 2


def test_same_slices_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        record(images(), masks(), out=tmp_path / f"{name}.gif", width=2)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"images": []}, DataError),
        ({"images": images(), "masks": masks(2)}, DataError),
        ({"images": images(), "truths": masks()[:, :5]}, DataError),
        ({"images": images(), "fps": 0}, UsageError),
        ({"images": images(), "n": 0}, UsageError),
        ({"images": images(), "window": "bone"}, UsageError),
        ({"images": images(), "out": "a.mp4"}, UsageError),
    ],
)
def test_what_can_not_be_meant_is_refused(arguments: dict, error: type) -> None:
    with pytest.raises(error):
        record(**arguments)
