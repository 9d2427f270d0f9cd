"""Outlines as paths: filled again they are the mask."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

from lungseg.report.contour import outline_path

STEP = re.compile(r"M(-?\d+) (-?\d+)|([hv])(-?\d+)|(z)")


def loops(path: str) -> list[list[tuple[int, int]]]:
    """The corners of each closed outline."""
    assert "".join(match.group() for match in STEP.finditer(path)) == path
    found: list[list[tuple[int, int]]] = []
    for x, y, way, length, end in STEP.findall(path):
        if x:
            found.append([(int(x), int(y))])
        elif not end:
            (column, row), step = found[-1][-1], int(length)
            found[-1].append((column + step, row) if way == "h" else (column, row + step))
    return found


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """The even-odd filling, by counting for each pixel's centre the vertical edges on its right."""
    crossings = np.zeros(shape, int)
    for corners in loops(path):
        for (x, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            assert x == x1 or y0 == y1
            if x == x1:
                crossings[min(y0, y1) : max(y0, y1), :x] += 1
    return crossings % 2


def test_by_hand() -> None:
    assert outline_path(np.array([[0, 1, 1], [0, 0, 0]])) == "M1 0h2v1h-2z"
    assert outline_path(np.zeros((3, 3))) == ""
    assert outline_path(np.ones((1, 1)), origin=(7, -2)) == "M7 -2h1v1h-1z"


@pytest.mark.parametrize("seed", range(20))
def test_filled_again_it_is_the_mask(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(1, 24, 2).tolist())
    mask = generator.random(shape) < generator.uniform(0.1, 0.9)
    np.testing.assert_array_equal(filled(outline_path(mask), shape), mask)


def test_there_are_as_many_outlines_as_opencv_finds() -> None:
    """Of round bodies with a hole, which touch no other body at a corner."""
    mask = np.zeros((64, 64), np.uint8)
    cv2.circle(mask, (20, 20), 12, 1, -1)
    cv2.circle(mask, (20, 20), 5, 0, -1)
    cv2.circle(mask, (50, 45), 8, 1, -1)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    assert len(loops(outline_path(mask))) == len(contours) == 3


def test_a_tumour_takes_few_bytes() -> None:
    y, x = np.ogrid[:512, :512]
    assert len(outline_path((y - 200) ** 2 + (x - 300) ** 2 < 40**2)) < 1000
