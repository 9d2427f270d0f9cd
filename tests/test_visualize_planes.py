"""Three planes through the tumour, and NiiVue's widget around the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lungseg.errors import DataError, UsageError
from lungseg.visualize import three_planes, volume_viewer

from .volumes import chest_like, write_volume

MM = (1.0, 2.0, 4.0)


def picture(**masks: np.ndarray) -> np.ndarray:
    las = chest_like((40, 30, 16))
    figure = three_planes(las, spacing_mm=MM, title="a case", **masks)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def pixels(shown: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(shown - colour).max(axis=2) < 40).sum())


def test_outlines_are_drawn_in_their_colours() -> None:
    mask = np.zeros((40, 30, 16), np.uint8)
    mask[8:16, 10:18, 5:9] = 1
    blue, orange = (86, 180, 233), (213, 94, 0)
    plain, both = picture(), picture(mask=mask, truth=np.roll(mask, 8, axis=0))
    assert pixels(plain, blue) == pixels(plain, orange) == 0
    assert pixels(both, blue) > 60 and pixels(both, orange) > 40
    assert pixels(picture(truth=mask), orange) == 0


def test_planes_go_through_the_tumour_and_keep_true_proportions() -> None:
    las, mask = np.full((40, 30, 16), -900, np.int16), np.zeros((40, 30, 16), np.uint8)
    mask[30, 20, 12] = 1
    las[30, 20, 12] = 200
    figure = three_planes(las, mask, spacing_mm=MM)
    for axes, (across, up) in zip(figure.axes[:3], ((40, 60), (40, 64), (60, 64)), strict=True):
        (image,) = axes.images
        assert image.get_extent() == [0, across, 0, up] and image.get_array().max() == 255
    # L and the front grow to the right and up in the axial plane; in the sagittal one the front is on the left.
    axial, _, sagittal = (axes.images[0].get_array() for axes in figure.axes[:3])
    assert np.argwhere(axial == 255).tolist() == [[20, 30]] and np.argwhere(sagittal == 255).tolist() == [[12, 9]]


def test_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        three_planes(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), spacing_mm=MM)


def test_the_widget_holds_scan_and_masks(tmp_path: Path) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz", chest_like((16, 12, 8)))
    mask = write_volume(tmp_path / "mask.nii.gz", np.ones((16, 12, 8), np.uint8))
    viewer = volume_viewer(scan, mask=mask)
    assert [volume.path for volume in viewer.volumes] == [scan, mask]
    assert [volume.opacity for volume in viewer.volumes] == [1.0, 0.5]
    assert (viewer.volumes[0].cal_min, viewer.volumes[0].cal_max) == (-1350.0, 150.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.nii"):
        volume_viewer(tmp_path / "nothing.nii")
