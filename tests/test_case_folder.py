"""A case's folder: the tumour's box."""

from __future__ import annotations

import numpy as np

from lungseg.case_folder import bounding_box


def test_bounding_box() -> None:
    mask = np.zeros((5, 6, 7), np.uint8)
    assert bounding_box(mask) is None
    mask[1, 2, 6] = mask[3, 0, 4] = 1
    assert bounding_box(mask) == ((1, 4), (0, 3), (4, 7))
