"""From files on disk to an animation: what is in it, how large it is, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lungseg.errors import DataError, UsageError
from lungseg.visualize import PREDICTION, TRUTH, animate

from .volumes import affine_of, chest_like, write_volume

SHAPE = (32, 32, 12)
CODES = "LPS"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "lung_001.nii.gz", chest_like(SHAPE), affine_of(CODES, (0.7, 0.7, 2.5)))


def label(tmp_path: Path, name: str, box: tuple[slice, slice, slice], **changes: object) -> Path:
    mask = np.zeros(SHAPE, np.uint8)
    mask[box] = 1
    given = {"path": tmp_path / name, "array": mask, "affine": affine_of(CODES, (0.7, 0.7, 2.5))}
    return write_volume(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    # Towards the patient's right (the file's first axis grows to the left) and back, near the head.
    return label(tmp_path, "truth.nii.gz", np.s_[6:12, 18:24, 8:10])


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    # Towards the patient's left and front, near the feet.
    return label(tmp_path, "mask.nii.gz", np.s_[20:26, 6:12, 1:3])


def frames_of(out: Path) -> np.ndarray:
    """RGB ``[frame, row, column, 3]`` as a player shows them."""
    with Image.open(out) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def where(frames: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(frame, row, column) of every pixel of a colour above the caption, ``[N, 3]``."""
    return np.argwhere((frames[:, : frames.shape[2]] == colour).all(axis=-1))


def test_truth_and_prediction_lie_where_they_are_in_the_patient(
    tmp_path: Path, scan: Path, truth: Path, mask: Path
) -> None:
    frames = frames_of(animate(scan, tmp_path / "a.gif", mask=mask, truth=truth, show_progress=False))
    assert len(frames) == SHAPE[2]
    blue, orange = where(frames, TRUTH), where(frames, PREDICTION)
    assert set(blue[:, 0]) == {8, 9} and set(orange[:, 0]) == {1, 2}
    # 384 / 32 = 12 pixels a voxel; the file's axes grow to the left (columns) and to the back (rows).
    assert abs(blue[:, 2].mean() - 9 * 12) < 4 and abs(blue[:, 1].mean() - 21 * 12) < 4
    assert abs(orange[:, 2].mean() - 23 * 12) < 4 and abs(orange[:, 1].mean() - 9 * 12) < 4


def test_the_same_patient_stored_in_another_way_gives_the_same_bytes(tmp_path: Path, scan: Path, truth: Path) -> None:
    import nibabel as nib
    from nibabel import orientations

    def stored_as(path: Path, codes: str) -> Path:
        image = nib.load(path)
        to = orientations.ornt_transform(nib.io_orientation(image.affine), orientations.axcodes2ornt(tuple(codes)))
        (tmp_path / codes).mkdir(exist_ok=True)
        nib.save(image.as_reoriented(to), tmp_path / codes / path.name)
        return tmp_path / codes / path.name

    first = animate(scan, tmp_path / "a.gif", truth=truth, show_progress=False).read_bytes()
    for codes in ("RAS", "SLA", "IPR"):
        out = animate(stored_as(scan, codes), tmp_path / "b.gif", truth=stored_as(truth, codes), show_progress=False)
        assert out.read_bytes() == first


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_limit_of_bytes_is_kept_by_giving_up_detail(tmp_path: Path, scan: Path, suffix: str) -> None:
    free = animate(scan, tmp_path / f"free{suffix}", show_progress=False)
    limit = int(free.stat().st_size * 0.7)
    tight = animate(scan, tmp_path / f"tight{suffix}", max_bytes=limit, show_progress=False)
    assert tight.stat().st_size <= limit < free.stat().st_size <= 5_000_000
    assert len(frames_of(tight)) == len(frames_of(free)) == SHAPE[2]


def test_row_47_a_limit_that_can_not_be_kept_is_said_and_nothing_is_written(tmp_path: Path, scan: Path) -> None:
    with pytest.raises(UsageError, match=r"animate: .*0\.001 MB or less.*a larger --every"):
        animate(scan, tmp_path / "out" / "a.gif", max_bytes=1000, show_progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_at_most_max_frames_with_the_tumour_among_them(tmp_path: Path, scan: Path, truth: Path) -> None:
    frames = frames_of(animate(scan, tmp_path / "a.gif", truth=truth, max_frames=5, show_progress=False))
    assert len(frames) == 5 and len(set(where(frames, TRUTH)[:, 0])) == 2


def test_a_hundred_frames_by_default(tmp_path: Path) -> None:
    long = write_volume(tmp_path / "long.nii.gz", np.full((16, 16, 130), -800, np.int16), affine_of("LAS"))
    assert len(frames_of(animate(long, tmp_path / "a.gif", show_progress=False))) == 100


def test_every_and_fps(tmp_path: Path, scan: Path) -> None:
    out = animate(scan, tmp_path / "a.gif", every=5, fps=4, show_progress=False)
    with Image.open(out) as image:
        assert image.n_frames == 3 and image.info["duration"] == 250


def test_window_and_case_change_the_picture(tmp_path: Path, scan: Path) -> None:
    plain, soft, own, named = (
        frames_of(animate(scan, tmp_path / f"{i}.gif", every=6, show_progress=False, **options))
        for i, options in enumerate(({}, {"window": "mediastinum"}, {"window": "-1000,400"}, {"case": "patient"}))
    )
    side = plain.shape[2]
    assert not np.array_equal(plain[:, :side], soft[:, :side])
    assert not np.array_equal(plain[:, :side], own[:, :side])
    np.testing.assert_array_equal(plain[:, :side], named[:, :side])
    assert not np.array_equal(plain[:, side:], named[:, side:])


def test_row_47_caption_says_that_there_is_no_tumour(tmp_path: Path, scan: Path, mask: Path) -> None:
    empty = label(tmp_path, "empty.nii.gz", np.s_[:0, :0, :0])
    one, other = (
        frames_of(animate(scan, tmp_path / f"{path.name}.gif", mask=path, every=99, show_progress=False))
        for path in (empty, mask)
    )
    side = one.shape[2]
    # Slice 0 is the only one shown, and neither has tumour there.
    np.testing.assert_array_equal(one[:, :side], other[:, :side])
    assert not np.array_equal(one[:, side:], other[:, side:])


@pytest.mark.parametrize("spoilt", ["shape", "place", "flip"])
@pytest.mark.parametrize("role", ["mask", "truth"])
def test_row_23_mask_on_another_grid_is_refused_by_name(tmp_path: Path, scan: Path, role: str, spoilt: str) -> None:
    changes: dict[str, object] = {
        "shape": {"array": np.zeros((32, 32, 11), np.uint8)},
        "place": {"affine": affine_of(CODES, (0.7, 0.7, 2.5), (-80, -110, 30))},
        "flip": {"affine": affine_of("RPS", (0.7, 0.7, 2.5))},
    }[spoilt]  # type: ignore[assignment]
    other = label(tmp_path, "other.nii.gz", np.s_[2:4, 2:4, 2:4], **changes)  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        animate(scan, tmp_path / "a.gif", **{role: other}, show_progress=False)  # type: ignore[arg-type]
    assert "other.nii.gz" in str(caught.value) and str(caught.value).startswith("animate: ")
    assert not (tmp_path / "a.gif").exists()


@pytest.mark.parametrize(
    "options",
    [{"window": "bone"}, {"window": (5, 1)}, {"fps": 0}, {"fps": 1000}, {"every": 0}, {"max_frames": 0}],
)
def test_options_out_of_range_are_refused(tmp_path: Path, scan: Path, options: dict) -> None:
    with pytest.raises(UsageError) as caught:
        animate(scan, tmp_path / "a.gif", show_progress=False, **options)
    assert str(caught.value).startswith("animate: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "a.gif").exists()


def test_the_suffix_is_asked_before_the_scan_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.gif or \.webp"):
        animate(tmp_path / "missing.nii.gz", tmp_path / "a.mp4")


def test_missing_and_damaged_scans_are_refused(tmp_path: Path, scan: Path) -> None:
    with pytest.raises((UsageError, DataError), match=r"missing\.nii\.gz"):
        animate(tmp_path / "missing.nii.gz", tmp_path / "a.gif")
    scan.write_bytes(scan.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"lung_001\.nii\.gz"):
        animate(scan, tmp_path / "a.gif")


def test_folders_are_made_and_old_files_replaced_in_one_step(tmp_path: Path, scan: Path) -> None:
    out = tmp_path / "a folder" / "läsion.gif"
    out.parent.mkdir()
    out.write_bytes(b"old")
    before = scan.read_bytes()
    assert animate(scan, out, show_progress=False) == out
    assert frames_of(out).shape[0] == SHAPE[2]
    assert list(out.parent.iterdir()) == [out] and scan.read_bytes() == before
    assert animate(scan, tmp_path / "x" / "y" / "a.gif", every=6, show_progress=False).exists()


def test_same_scan_gives_the_same_bytes(tmp_path: Path, scan: Path) -> None:
    one, other = (animate(scan, tmp_path / f"{name}.webp", every=4, show_progress=False) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_row_47_no_second_copy_of_a_huge_scan_is_held(tmp_path: Path) -> None:
    import tracemalloc

    shape = (128, 128, 400)
    path = write_volume(tmp_path / "a.nii.gz", np.zeros(shape, np.int16), affine_of("PSR"))
    animate(path, tmp_path / "a.gif", every=200, show_progress=False)  # imports are no part of it
    tracemalloc.start()
    try:
        animate(path, tmp_path / "a.gif", max_frames=40, show_progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.9 * 2 * np.prod(shape)


def test_row_47_a_scan_without_slices_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import struct

    from lungseg.cli import main

    from .volumes import chest_like, raw_bytes, write_raw

    data = raw_bytes(chest_like((8, 8, 4)))[:352]
    struct.pack_into("<4h", data, 40, 3, 8, 8, 0)
    path = write_raw(tmp_path / "a.nii.gz", bytes(data))
    assert main(["animate", str(path), str(tmp_path / "a.gif")]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "a.nii.gz" in said and "8 x 8 x 0" in said
    assert not (tmp_path / "a.gif").exists()


def test_row_47_a_scan_of_one_slice_and_one_without_tumour_are_shown(tmp_path: Path) -> None:
    one = write_volume(tmp_path / "one.nii.gz", np.zeros((20, 16, 1), np.int16))
    none = write_volume(tmp_path / "none.nii.gz", np.zeros((20, 16, 1), np.uint8))
    out = animate(one, tmp_path / "a.gif", mask=none, truth=none, show_progress=False)
    with Image.open(out) as image:
        assert getattr(image, "n_frames", 1) == 1
