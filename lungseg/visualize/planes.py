"""A scan with its masks in three planes: a static picture, and the viewer of the field for a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lungseg.errors import UsageError

from .colours import PREDICTION_HEX, TRUTH_HEX
from .frames import check_volumes
from .picture import Picture
from .windows import Window, to_grey, window_hu

if TYPE_CHECKING:
    from ipyniivue import NiiVue

_NAMES = ("axial, front up", "coronal, head up", "sagittal, front left")


def three_planes(
    las: np.ndarray,
    mask: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    spacing_mm: tuple[float, float, float],
    title: str = "",
    window: Window = "lung",
) -> Picture:
    """The scan in three planes through the slices of most tumour, and all of it seen from the front.

    The fourth panel is a projection, as a radiograph: the mean of the scan and the shadow of each mask along the way
    from front to back.

    Args:
        las: HU ``[L, A, S]``.
        mask: predicted tumour on the same grid; or None.
        truth: true tumour, likewise.
        spacing_mm: voxel size along these axes.
        title: of the figure.
        window: HU range to show.

    Raises:
        DataError: an array is not three-dimensional or a mask has another shape.
    """
    check_volumes(las, mask, truth)
    at = _middle(las.shape, truth, mask)
    low, high = window_hu(window)
    figure = Picture(figsize=(9.6, 3.0), dpi=80, layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(1, 4)
    for axes, across in zip(panels, (2, 1, 0), strict=False):
        shown = tuple(slice(None) if axis != across else at[axis] for axis in range(3))
        cut = [None if part is None else part[shown] for part in (truth, mask)]
        sizes = [size for axis, size in enumerate(spacing_mm) if axis != across]
        _panel(axes, las[shown], cut, sizes, window, rising=across != 0)
        axes.set_title(f"{_NAMES[2 - across]}", fontsize=8, pad=3)
    shadows = [None if part is None else (part != 0).any(axis=1) for part in (truth, mask)]
    mean = np.clip(las, low, high).mean(axis=1, dtype=np.float32)
    _panel(
        panels[3],
        mean,
        shadows,
        [spacing_mm[0], spacing_mm[2]],
        (float(mean.min()), float(mean.max()) + 1),
        rising=True,
    )
    panels[3].set_title("seen from the front", fontsize=8, pad=3)
    for text, colour, part in (("truth", TRUTH_HEX, truth), ("prediction", PREDICTION_HEX, mask)):
        if part is not None:
            panels[3].plot([], [], color=colour, label=text)
    if panels[3].lines:
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def volume_viewer(
    scan: str | Path, mask: str | Path | None = None, truth: str | Path | None = None, *, height: int = 420
) -> NiiVue:
    """NiiVue in a notebook: the scan in three planes and in 3D, masks over it (https://niivue.com).

    Everything is drawn by the browser, from the files' own bytes; nothing is sent anywhere.

    Args:
        scan: a NIfTI file.
        mask: predicted tumour, in orange; or None.
        truth: true tumour, in blue; or None.
        height: pixels.

    Raises:
        UsageError: a file is missing, or ipyniivue is not installed.
    """
    files = [("gray", scan, 1.0), ("blue", truth, 0.5), ("warm", mask, 0.5)]
    for _, file, _ in files:
        if file is not None and not Path(file).is_file():
            raise UsageError.of("missing-file", "there is no such file", file=file)
    try:
        from ipyniivue import NiiVue, ShowRender, SliceType, Volume
    except ImportError as cause:
        mend = "Install it: pip install ipyniivue"
        raise UsageError.of("no-ipyniivue", "the viewer for notebooks is not installed", mend=mend) from cause
    low, high = window_hu("lung")
    viewer = NiiVue(height=height)
    viewer.opts.multiplanar_show_render = ShowRender.ALWAYS
    volumes: list[Any] = []
    for colormap, file, opacity in files:
        if file is not None:
            ends = (low, high) if colormap == "gray" else (0.0, 1.0)
            volumes.append(
                Volume(path=Path(file), colormap=colormap, opacity=opacity, cal_min=ends[0], cal_max=ends[1])
            )
    viewer.load_volumes(volumes)
    viewer.set_slice_type(SliceType.MULTIPLANAR)
    return viewer


def _middle(shape: tuple[int, ...], *masks: np.ndarray | None) -> tuple[int, int, int]:
    """The slice of most tumour along each axis, of the first mask that has any; else the middle."""
    for mask in masks:
        if mask is not None and mask.any():
            most = [int(np.count_nonzero(mask, axis=axes).argmax()) for axes in ((1, 2), (0, 2), (0, 1))]
            return most[0], most[1], most[2]
    return shape[0] // 2, shape[1] // 2, shape[2] // 2


def _panel(
    axes: Any,
    plane: np.ndarray,
    masks: list[np.ndarray | None],
    spacing_mm: list[float],
    window: Window,
    *,
    rising: bool,
) -> None:
    """A plane ``[across, up]`` with outlines; ``rising`` is False where the first axis is to grow to the left."""
    ends = (0.0, plane.shape[0] * spacing_mm[0], 0.0, plane.shape[1] * spacing_mm[1])
    way = 1 if rising else -1
    axes.imshow(to_grey(plane[::way].T, window), cmap="gray", vmin=0, vmax=255, origin="lower", extent=ends)
    for part, colour, style in zip(masks, (TRUTH_HEX, PREDICTION_HEX), ("solid", "dashed"), strict=True):
        if part is not None and part.any():
            shown = (part != 0)[::way].T.astype(float)
            axes.contour(shown, [0.5], colors=colour, linewidths=1.2, linestyles=style, extent=ends)
    axes.set_axis_off()
