"""The colours of truth and prediction, and the one palette of every animation."""

from __future__ import annotations

import numpy as np

# Sky blue and vermillion of Okabe and Ito's palette, which stay apart under the common kinds of colour blindness
# (M. Okabe, K. Ito, "Color Universal Design", 2008).
TRUTH = (86, 180, 233)
PREDICTION = (213, 94, 0)

TRUTH_HEX = "#{:02x}{:02x}{:02x}".format(*TRUTH)
PREDICTION_HEX = "#{:02x}{:02x}{:02x}".format(*PREDICTION)

# A frame of an animation is uint8 indices into one fixed palette, so that a GIF needs no search for colours: indices
# 0..253 are the greys of that value, the last two the colours.
BRIGHTEST_INDEX = 253
TRUTH_INDEX = 254
PREDICTION_INDEX = 255


def _palette() -> np.ndarray:
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    table[TRUTH_INDEX] = TRUTH
    table[PREDICTION_INDEX] = PREDICTION
    table.setflags(write=False)
    return table


PALETTE = _palette()
"""RGB of each index, ``uint8 [256, 3]``; ``PALETTE[frame]`` turns a frame into an RGB picture."""
