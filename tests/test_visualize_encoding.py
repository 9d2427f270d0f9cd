"""Frames to files: what a player reads back is what was put in."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lungseg.errors import DataError, UsageError
from lungseg.visualize import PALETTE, PREDICTION, TRUTH, save_animation
from lungseg.visualize.colours import PREDICTION_INDEX, TRUTH_INDEX
from lungseg.visualize.encoding import frame_ms


def frames(n: int = 3, shape: tuple[int, int] = (20, 32)) -> list[np.ndarray]:
    """Different frames with every colour of the palette in them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(n)]


def test_gif_keeps_every_pixel_and_the_time(tmp_path: Path) -> None:
    given = frames()
    out = save_animation(given, tmp_path / "a.gif", fps=4)
    with Image.open(out) as image:
        shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0 and image.info["duration"] == 250
    np.testing.assert_array_equal(shown, PALETTE[np.stack(given)])


def test_webp_keeps_size_number_time_and_nearly_the_colours(tmp_path: Path) -> None:
    flat = [np.full((32, 48), index, np.uint8) for index in (0, 200, TRUTH_INDEX, PREDICTION_INDEX)]
    with Image.open(save_animation(flat, tmp_path / "a.WEBP", fps=20)) as image:
        assert image.format == "WEBP" and image.n_frames == 4 and image.size == (48, 32)
        for index, frame in enumerate(flat):
            image.seek(index)
            shown = np.asarray(image.convert("RGB")).astype(int)
            assert image.info["duration"] == 50
            assert np.abs(shown - PALETTE[frame].astype(int)).max() <= 8


def test_a_line_of_two_pixels_keeps_its_colour_in_webp(tmp_path: Path) -> None:
    # Colour is kept at half the resolution there; a poor quality would turn the line grey.
    frame = np.full((64, 64), 120, np.uint8)
    frame[30:32] = PREDICTION_INDEX
    with Image.open(save_animation([frame], tmp_path / "a.webp")) as image:
        line = np.asarray(image.convert("RGB"))[30:32, 8:-8].reshape(-1, 3).mean(axis=0)
    assert line[0] - line[2] > 0.6 * (PREDICTION[0] - PREDICTION[2])


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for suffix in (".gif", ".webp"):
        one, other = (save_animation(frames(), tmp_path / f"{name}{suffix}") for name in "ab")
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("fps", "ms"), [(0.1, 10_000), (3, 330), (10, 100), (50, 20)])
def test_a_frame_lasts_whole_hundredths_of_a_second(fps: float, ms: int) -> None:
    assert frame_ms(fps) == ms


@pytest.mark.parametrize("fps", [0, -1, 0.05, 51, float("nan"), float("inf")])
def test_fps_out_of_range_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UsageError, match="--fps is out of range"):
        save_animation(frames(), tmp_path / "a.gif", fps=fps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mp4", "a", "a.gif.png", ".gif"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.gif or \.webp"):
        save_animation(frames(), tmp_path / name)


def test_no_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frame"):
        save_animation([], tmp_path / "a.gif")


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        save_animation(frames(), tmp_path / "no" / "a.gif")
    assert "no/a.gif" in str(caught.value)


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from frames()
        raise RuntimeError("the frames ended early")

    out = tmp_path / "a.gif"
    out.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        save_animation(broken(), out)
    assert out.read_bytes() == b"old" and list(tmp_path.iterdir()) == [out]


def test_rendered_frames_are_let_go_before_the_next(tmp_path: Path) -> None:
    alive, most = [0], 0

    class Frame(np.ndarray):
        """An array that a weak reference can point at."""

    def let_go() -> None:
        alive[0] -= 1

    def many() -> Iterator[np.ndarray]:
        nonlocal most
        for index in range(30):
            frame = np.full((16, 16), index, np.uint8).view(Frame)
            weakref.finalize(frame, let_go)
            alive[0] += 1
            most = max(most, alive[0])
            yield frame
            del frame

    save_animation(many(), tmp_path / "a.gif")
    assert most <= 4


def test_truth_and_prediction_differ_for_the_colour_blind() -> None:
    # Luminance (BT.709) and blue minus yellow both differ, so that no kind of colour blindness makes them one.
    weights = np.array([0.2126, 0.7152, 0.0722])
    assert abs(weights @ (np.array(TRUTH) - PREDICTION)) > 40
    opposed = [b - (r + g) / 2 for r, g, b in (TRUTH, PREDICTION)]
    assert opposed[0] > 50 and opposed[1] < -50
