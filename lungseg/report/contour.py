"""The outline of a mask as an SVG path along the edges of its pixels: exact at any size, and small."""

from __future__ import annotations

import numpy as np

# Steps right, down, left and up on the grid of pixel corners, (column, row).
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outline_path(mask: np.ndarray, origin: tuple[int, int] = (0, 0)) -> str:
    """The closed outlines of a mask, holes included, as the ``d`` of an SVG path.

    Outlines follow the edges between pixels, tumour on their right hand (rows grow downwards); pixels that only touch
    at a corner belong to two outlines.  Filled by the even-odd rule, the path is the mask again.

    Args:
        mask: ``[row, column]``, tumour where it is not 0.
        origin: (column, row) of the mask's first pixel in the picture that the path is for, pixels.

    Returns:
        Commands ``M``, ``h``, ``v`` and ``z`` with whole pixels; empty where the mask is.

    Example:
        >>> outline_path(np.array([[0, 1, 1], [0, 0, 0]]))
        'M1 0h2v1h-2z'
    """
    edges = _edges(np.asarray(mask) != 0)
    parts = []
    while edges:
        # The first corner in reading order is always one where an outline turns.
        row, column = start = min(edges)
        direction = edges[start][0]
        parts.append(f"M{column + origin[0]} {row + origin[1]}")
        length = 0
        while True:
            edges[row, column].remove(direction)
            if not edges[row, column]:
                del edges[row, column]
            column, row = column + _STEPS[direction][0], row + _STEPS[direction][1]
            length += 1
            ways = edges.get((row, column), [])
            if (row, column) == start and not ways:
                break
            # Two ways lead on where pixels touch at a corner: the right turn stays with the pixel.
            turned = next(way for way in ((direction + 1) % 4, direction, (direction - 1) % 4) if way in ways)
            if turned != direction:
                parts.append(_run(direction, length))
                direction, length = turned, 0
        parts.append("z")
    return "".join(parts)


def _edges(mask: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """Directions that lead on from each corner (row, column), so that tumour lies on the right hand."""
    framed = np.pad(mask, 1)
    across = framed[1:, 1:-1].astype(np.int8) - framed[:-1, 1:-1]  # 1 where tumour begins below an edge
    down = framed[1:-1, 1:].astype(np.int8) - framed[1:-1, :-1]  # 1 where tumour begins right of an edge
    edges: dict[tuple[int, int], list[int]] = {}
    for change, sign, direction, shift in (
        (across, 1, 0, (0, 0)),
        (down, -1, 1, (0, 0)),
        (across, -1, 2, (0, 1)),
        (down, 1, 3, (1, 0)),
    ):
        rows, columns = np.nonzero(change == sign)
        for corner in zip((rows + shift[0]).tolist(), (columns + shift[1]).tolist(), strict=True):
            edges.setdefault(corner, []).append(direction)
    return edges


def _run(direction: int, length: int) -> str:
    return f"{'hv'[direction % 2]}{length if direction < 2 else -length}"
