"""HU to the greys of a screen."""

from __future__ import annotations

import numpy as np
import pytest

from lungseg.errors import UsageError
from lungseg.visualize import WINDOWS_HU, to_grey, to_hu, window_hu
from lungseg.visualize.windows import window_name


@pytest.mark.parametrize(
    ("window", "level", "width"), [("lung", -600, 1500), ("mediastinum", 50, 350), ("-1000,400", -300, 1400)]
)
def test_window_is_level_and_half_a_width_to_each_side(window: str, level: float, width: float) -> None:
    assert window_hu(window) == (level - width / 2, level + width / 2)


def test_window_may_be_two_numbers() -> None:
    assert window_hu((-1000, 400)) == window_hu("-1000,400")


@pytest.mark.parametrize(
    "window", ["bone", "", "1", "5,5", "9,-9", "1,2,3", "nan,4", "0,inf", "-1e308,1e308", (1, 2, 3), (4, 3), 7]
)
def test_no_window_is_refused(window: object) -> None:
    with pytest.raises(UsageError, match="no window of Hounsfield units"):
        window_hu(window)  # type: ignore[arg-type]


def test_greys_run_from_black_to_white_and_are_clipped_beyond() -> None:
    grey = to_grey(np.array([-3000, -1350, -600, 150, 3000], np.int16), "lung")
    assert grey.dtype == np.uint8
    assert grey.tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("window", [*WINDOWS_HU, (-1000.0, 400.0)])
def test_grey_never_falls_where_hu_rises(window: str) -> None:
    grey = to_grey(np.arange(-1500, 3072), window).astype(int)
    assert (np.diff(grey) >= 0).all() and len(set(grey)) > 250


def test_preprocessed_values_go_back_to_hu() -> None:
    hu = np.array([-1000, 40, 3071], np.float32)
    np.testing.assert_allclose(to_hu((hu / 3071).astype(np.float16)), hu, rtol=1e-3)


def test_caption_tells_a_named_and_an_own_window() -> None:
    assert window_name("lung") == "lung window"
    assert window_name("-1000,400") == window_name((-1000, 400)) == "-1000 to 400 HU"
