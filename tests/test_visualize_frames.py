"""The frames of an animation: which way up, which colour where, what the caption says."""

from __future__ import annotations

from collections.abc import Iterator

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations

from lungseg.errors import NOTICE, DataError, UsageError
from lungseg.geometry import to_las
from lungseg.visualize import PALETTE, PREDICTION, TRUTH, Detail, render_frames
from lungseg.visualize.caption import Caption
from lungseg.visualize.colours import BRIGHTEST_INDEX, PREDICTION_INDEX, TRUTH_INDEX
from lungseg.visualize.frames import picture_size, tumour_slices
from lungseg.visualize.outlines import inner_outline, outer_outline, resized_mask

from .volumes import ALL_ORIENTATIONS, affine_of

SMALL = Detail(width=96)
SPACING_MM = (0.7, 0.7, 2.5)


def water(shape: tuple[int, int, int] = (32, 32, 4)) -> np.ndarray:
    """int16 L-A-S scan that is mid-grey in the lung window."""
    return np.full(shape, -600, np.int16)


def block(shape: tuple[int, int, int] = (32, 32, 4)) -> np.ndarray:
    """A tumour of 8 x 8 voxels in slice 2, left of and behind the middle."""
    mask = np.zeros(shape, np.uint8)
    mask[18:26, 4:12, 2] = 1
    return mask


def picture(frame: np.ndarray, side: int = 96) -> np.ndarray:
    """The frame without its caption."""
    return frame[:side]


def only(frames: Iterator[np.ndarray]) -> np.ndarray:
    (frame,) = frames
    return frame


@pytest.mark.parametrize("codes", ALL_ORIENTATIONS)
def test_front_is_up_and_the_right_is_left_in_every_orientation(codes: str) -> None:
    # nibabel brings the same patient to each orientation: bone at the front, right, head end; air elsewhere.
    patient = np.full((24, 24, 6), -1000, np.int16)  # R-A-S: axes grow to the patient's right, front and head
    patient[14:18, 18:22, 5] = 400
    there = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(tuple(codes)))
    stored = orientations.apply_orientation(patient, there)
    affine = affine_of(codes, (1.0, 1.0, 1.0))
    canonical = nib.as_closest_canonical(nib.Nifti1Image(stored, affine))
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), patient)
    las, _, _ = to_las(stored, affine)
    shown = [picture(frame)[:, 14:] for frame in render_frames(las, None, None, (1, 1, 1), detail=SMALL)]  # without R
    rows, columns = np.nonzero(shown[5] >= 200)
    # Four pixels a voxel: the bone is 2 to 6 voxels from the front edge, 6 to 10 from the right one.
    assert rows.min() >= 8 and rows.max() < 24 and columns.min() + 14 >= 24 and columns.max() + 14 < 40
    assert rows.size > 150 and all((frame < 200).all() for frame in shown[:5])


def test_the_mark_of_the_right_side_is_on_the_left() -> None:
    frame = picture(only(render_frames(np.full((32, 32, 1), -1000, np.int16), None, None, SPACING_MM, detail=SMALL)))
    rows, columns = np.nonzero(frame == BRIGHTEST_INDEX)
    assert 0 < columns.max() < 14 and abs(rows.mean() - 48) < 4


def test_truth_runs_around_its_tumour_and_prediction_inside() -> None:
    frame = picture(only(render_frames(water(), block(), block(), SPACING_MM, slices=[2], detail=SMALL)))
    # Three pixels a voxel: columns 18..25 of the patient's left, rows from the front: 31 - 11 = 20 to 27.
    inside = np.zeros((96, 96), bool)
    inside[60:84, 54:78] = True
    assert not (inside & (frame == TRUTH_INDEX)).any() and not (~inside & (frame == PREDICTION_INDEX)).any()
    assert (frame[58:60, 52:80] == TRUTH_INDEX).all() and (frame[60:84, 52:54] == TRUTH_INDEX).all()
    assert (frame[60, 54:78] == PREDICTION_INDEX).all() and (frame[60:84, 77] == PREDICTION_INDEX).all()
    assert (frame[60:62, 62:70] == PREDICTION_INDEX).all()  # two pixels, as the block is thick
    assert not np.isin(frame[64:80, 58:74], (TRUTH_INDEX, PREDICTION_INDEX)).any()
    np.testing.assert_array_equal(PALETTE[[TRUTH_INDEX, PREDICTION_INDEX]], [TRUTH, PREDICTION])


def test_outlines_stand_only_where_there_is_tumour() -> None:
    frames = list(render_frames(water(), block(), block(), SPACING_MM, detail=SMALL))
    coloured = [bool(np.isin(picture(frame), (TRUTH_INDEX, PREDICTION_INDEX)).any()) for frame in frames]
    assert coloured == [False, False, True, False]
    assert tumour_slices(block(), None).tolist() == coloured and tumour_slices(None, None) is None


@pytest.mark.parametrize("width", [64, 96, 200])
def test_a_single_voxel_is_seen_at_any_size(width: int) -> None:
    mask = np.zeros((128, 128, 1), np.uint8)
    for x, y in ((0, 0), (127, 127), (77, 50)):
        mask[:] = 0
        mask[x, y] = 1
        frame = only(render_frames(water(mask.shape), mask, mask, SPACING_MM, slices=[0], detail=Detail(width)))
        assert (picture(frame, width) == TRUTH_INDEX).any() and (picture(frame, width) == PREDICTION_INDEX).any()


def test_proportions_are_those_of_the_patient() -> None:
    assert picture_size((100, 50), (1.0, 2.0), 384) == (384, 384)
    assert picture_size((512, 256), (0.7, 0.7), 384) == (192, 384)
    # A flat scan keeps its width, and what is left beside a narrow one is black.
    frame = only(render_frames(water((16, 64, 1)), None, None, (1, 1, 3), detail=SMALL))
    assert frame.shape[1] == 96 and not picture(frame)[:, :36].any() and not picture(frame)[:, 60:].any()
    assert picture(frame)[:, 36:60].all(axis=1).any()


@pytest.mark.parametrize("levels", [12, 32, 128])
def test_greys_are_no_more_than_asked_for(levels: int) -> None:
    ramp = np.linspace(-1350, 150, 96 * 96).astype(np.int16).reshape(96, 96).T[..., None]
    frame = only(render_frames(ramp, None, None, SPACING_MM, detail=Detail(96, levels)))
    greys = np.unique(picture(frame)[:, 12:])
    assert len(greys) == levels and greys[0] == 0 and greys[-1] == BRIGHTEST_INDEX


def test_blur_takes_noise_away() -> None:
    noisy = np.random.default_rng(0).normal(-600, 200, (96, 96, 1)).astype(np.int16)
    plain, blurred = (
        picture(only(render_frames(noisy, None, None, SPACING_MM, detail=Detail(96, 64, blur)))).astype(float)
        for blur in (0.0, 1.2)
    )
    assert blurred[:, 14:].std() < 0.5 * plain[:, 14:].std()


def test_a_slice_is_drawn_when_it_is_asked_for() -> None:
    drawn: list[int] = []

    class Volume(np.ndarray):
        """Counts the slices that are read."""

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            drawn.append(key[2])
            return super().__getitem__(key)

    frames = render_frames(water((32, 32, 500)).view(Volume), None, None, SPACING_MM, detail=SMALL)
    next(frames), next(frames)
    assert drawn == [0, 1]


def caption_rows(**changes: object) -> np.ndarray:
    given = {"width": 384, "case": "lung_001", "window": "lung window", "truth": "truth", "prediction": "prediction"}
    return Caption(**{**given, **changes}).draw(3, 9)


@pytest.mark.parametrize(
    "changes", [{"case": ""}, {"window": ""}, {"truth": None}, {"prediction": None}, {"truth": "truth: no tumour"}]
)
def test_caption_shows_each_of_its_parts(changes: dict[str, object]) -> None:
    assert not np.array_equal(caption_rows(), caption_rows(**changes))


def test_caption_names_the_slice() -> None:
    caption = Caption(384, "lung_001", "lung window", None, None)
    assert not np.array_equal(caption.draw(3, 9), caption.draw(4, 9))
    np.testing.assert_array_equal(caption.draw(3, 9), caption.draw(3, 9))


@pytest.mark.parametrize("width", [192, 256, 384])
def test_caption_holds_the_whole_notice(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    caption = Caption(width, "lung_001", "lung window", None, None)
    lines = caption._wrapped(NOTICE, width - 12)
    assert " ".join(lines) == NOTICE and all(caption._font.getlength(line) <= width - 12 for line in lines)
    below = caption.draw(0, 9)[2 * caption._line :]
    ink = [(below[i * caption._line : (i + 1) * caption._line] > 100).sum() for i in range(len(lines))]
    assert min(ink) > 20
    monkeypatch.setattr("lungseg.visualize.caption.NOTICE", "")
    assert Caption(width, "lung_001", "lung window", None, None).height < caption.height


def test_frames_carry_the_caption_in_the_colours_of_the_legend() -> None:
    for mask, truth, wanted in (
        (block(), None, {PREDICTION_INDEX}),
        (None, block(), {TRUTH_INDEX}),
        (None, None, set()),
    ):
        frame = next(render_frames(water(), mask, truth, SPACING_MM, detail=Detail(192)))
        assert set(np.unique(frame[192:])) & {TRUTH_INDEX, PREDICTION_INDEX} == wanted


@pytest.mark.parametrize("case", ["x" * 200, "lung\n001", "läsion 肺", "\udcff"])
def test_odd_names_fit_the_caption(case: str) -> None:
    assert caption_rows(case=case).shape == caption_rows().shape
    # The slice's number on the right stays free.
    np.testing.assert_array_equal(caption_rows(case=case)[:18, 320:], caption_rows()[:18, 320:])


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 0), (0, 32, 4), (4, 4, 4, 1)])
def test_scan_without_slices_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="no slice to show"):
        next(render_frames(np.zeros(shape, np.int16), None, None, SPACING_MM))


def test_mask_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(DataError, match=r"expected \(32, 32, 4\); found \(32, 32, 5\)"):
        next(render_frames(water(), np.zeros((32, 32, 5), np.uint8), None, SPACING_MM))


def test_unknown_window_is_refused() -> None:
    with pytest.raises(UsageError, match="bone"):
        next(render_frames(water(), None, None, SPACING_MM, window="bone"))


def test_outline_is_thin_where_the_tumour_is_small_and_never_covers_it() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:12, 5:12] = 1
    mask[20:50, 20:50] = 1
    rim = inner_outline(mask)
    assert rim[5:12, 5:12].sum() == 7 * 7 - 5 * 5
    # Corners of a square are not thick, so some of the second ring may be missing there.
    assert 30 * 30 - 28 * 28 < rim[20:50, 20:50].sum() <= 30 * 30 - 26 * 26
    assert rim[35, 20:24].tolist() == [True, True, False, False]
    assert not (rim & (mask == 0)).any() and not (outer_outline(mask) & (mask == 1)).any()


def test_outline_is_closed_at_the_edge_of_the_picture() -> None:
    assert inner_outline(np.ones((6, 6), np.uint8)).sum() == 36 - 16


def test_shrinking_keeps_thin_parts_of_a_mask() -> None:
    line = np.zeros((512, 512), np.uint8)
    line[:, 301] = 1
    small = resized_mask(line, (192, 192))
    assert small.any(axis=1).all() and set(np.unique(small)) == {0, 1}
