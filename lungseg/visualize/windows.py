"""From Hounsfield units to the grey values of a screen."""

from __future__ import annotations

import math

import numpy as np

from lungseg.config import HU_MAX
from lungseg.errors import UsageError

# Level -600, width 1500 for lung; level 50, width 350 for the soft tissue of the mediastinum (Radiopaedia, "Windowing
# (CT)", https://radiopaedia.org/articles/windowing-ct).
WINDOWS_HU: dict[str, tuple[float, float]] = {"lung": (-1350.0, 150.0), "mediastinum": (-125.0, 225.0)}

FARTHEST_HU = 1e6  # far beyond metal; of larger numbers, 32 bits make infinities
Window = str | tuple[float, float]
"""``"lung"``, ``"mediastinum"``, ``"LO,HI"`` or ``(LO, HI)``, HU."""


def window_hu(window: Window) -> tuple[float, float]:
    """The lowest and highest HU of a window: what is below is black, what is above is white.

    Raises:
        UsageError: it is no known name and no two rising numbers within :data:`FARTHEST_HU`.
    """
    if isinstance(window, str) and window in WINDOWS_HU:
        return WINDOWS_HU[window]
    try:
        low, high = (float(value) for value in (window.split(",") if isinstance(window, str) else window))
    except (TypeError, ValueError):
        low = high = math.nan
    if not -FARTHEST_HU <= low < high <= FARTHEST_HU:
        raise UsageError.of(
            "bad-window",
            "is no window of Hounsfield units",
            expected=f"{', '.join(WINDOWS_HU)} or LO,HI with LO below HI",
            found=str(window),
            mend="For example --window=-1000,400 (with the equals sign, as LO is negative).",
        )
    return low, high


def window_name(window: Window) -> str:
    """How a caption calls a window, such as ``lung window`` or ``-1000 to 400 HU``."""
    if isinstance(window, str) and window in WINDOWS_HU:
        return f"{window} window"
    low, high = window_hu(window)
    return f"{low:g} to {high:g} HU"


def to_hu(image: np.ndarray) -> np.ndarray:
    """HU of a preprocessed image.

    Args:
        image: any shape, HU / 3071 (:data:`lungseg.config.HU_MAX`), ``float16`` or wider.

    Returns:
        ``float32`` of the same shape, HU.
    """
    return np.asarray(image, dtype=np.float32) * np.float32(HU_MAX)


def to_grey(hu: np.ndarray, window: Window = "lung") -> np.ndarray:
    """Grey values of HU: 0 at and below the window's lower end, 255 at and above its upper end, linear between.

    Args:
        hu: any shape, finite, HU.
        window: the range to show.

    Returns:
        ``uint8`` of the same shape, 0..255, rounded to the nearest.

    Raises:
        UsageError: the window is none.
    """
    low, high = window_hu(window)
    share = (np.asarray(hu, dtype=np.float32) - np.float32(low)) * np.float32(1.0 / (high - low))
    return np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
