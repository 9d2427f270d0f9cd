"""A patient's slices for the page: aligned with their outlines, the tumour's always among them, within the budget."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lungseg.errors import DataError
from lungseg.geometry import slice_of
from lungseg.report.case_file import read_case, write_case
from lungseg.report.contour import outline_path
from lungseg.report.pictures import Look, render

from .reports import ELSEWHERE, SHAPE, SIZE, SKIPPED, TUMOUR, box, view


def grey(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))


def test_a_case_file_holds_what_was_written(tmp_path: Path) -> None:
    findings = write_case(tmp_path / "p.json", view(ELSEWHERE, TUMOUR))
    read, pictures = read_case(tmp_path / "p.json")
    assert read == findings
    assert [part.z for part in pictures.slices] == list(range(SKIPPED, SHAPE[2])) and pictures.depth == SHAPE[2]
    assert [key.label for key in pictures.keys] == ["largest true tumour", "largest false positive"]
    by_z = {part.z: part for part in pictures.slices}
    assert by_z[10].truth and not by_z[10].found and by_z[15].found and not by_z[15].truth


def test_pictures_show_the_tumour_where_its_outline_runs(tmp_path: Path) -> None:
    write_case(tmp_path / "p.json", view(box(), TUMOUR))
    pictures = read_case(tmp_path / "p.json")[1]
    part = next(part for part in pictures.slices if part.z == 11)
    lung, mediastinum = map(grey, part.grey)
    assert lung.shape == (SIZE, SIZE)
    # The middle of the tumour, (35, 20) along L and A of 48 x 40, on the padded picture.
    width, height = pictures.side
    row, column = (SHAPE[1] - 20 + (height - SHAPE[1]) // 2) / height, (35 + (width - SHAPE[0]) // 2) / width
    at = int(row * SIZE), int(column * SIZE)
    assert lung[at] > 200 and mediastinum[at] > 100 and lung[at[0], int(at[1] * 0.9)] < 120
    mask = np.pad(slice_of(TUMOUR, 11), view(TUMOUR).grid.pad)
    assert part.truth == outline_path(mask)


def test_key_images_have_the_tumour_in_their_middle(tmp_path: Path) -> None:
    write_case(tmp_path / "p.json", view(box(), TUMOUR))
    (key,) = read_case(tmp_path / "p.json")[1].keys
    picture = grey(key.grey)
    assert picture.shape[0] == picture.shape[1]
    middle = picture.shape[0] // 2
    assert picture[middle, middle] > 200 and key.z == 10
    assert key.box[2] * 2 < view(TUMOUR).grid.padded[1]


def test_a_tumour_in_skipped_slices_is_shown_without_a_picture(tmp_path: Path) -> None:
    write_case(tmp_path / "p.json", view(box(), box((33, 37), (18, 22), (0, 2))))
    pictures = read_case(tmp_path / "p.json")[1]
    assert [part.z for part in pictures.slices][:3] == [0, 1, SKIPPED]
    assert pictures.slices[0].grey == ("", "") and pictures.slices[0].truth
    assert pictures.keys[0].grey == "" and pictures.keys[0].truth


@pytest.mark.parametrize("budget", [200_000, 90_000])
def test_within_the_budget_and_the_tumour_is_kept(budget: int) -> None:
    """Noise, which hardly packs, in five times as many slices as there is room for."""
    shape, generator = (64, 64, 120), np.random.default_rng(0)
    truth = np.zeros(shape, np.uint8)
    truth[20:30, 20:30, 70:73] = 1
    seen = view(TUMOUR)
    grid = seen.grid.of(shape, (1.0, 1.0, 1.0), 64)
    noise = (generator.normal(-0.2, 0.1, (64, 64))).astype(np.float16)
    pictures = render(lambda z: np.roll(noise, z), range(120), truth, np.zeros_like(truth), grid, [], budget=budget)
    shown = [part.z for part in pictures.slices]
    assert sum(len(text) for part in pictures.slices for text in part.grey) <= budget
    assert set(shown) & {70, 71, 72} and shown == sorted(set(shown)) and len(shown) < 120


def test_without_a_truth_each_find_has_a_key_image(tmp_path: Path) -> None:
    write_case(tmp_path / "p.json", view(TUMOUR | ELSEWHERE))
    findings, pictures = read_case(tmp_path / "p.json")
    assert [key.z for key in pictures.keys] == [spot.slice for spot in findings.found] == [15, 10]
    assert not pictures.labelled and not any(part.truth for part in pictures.slices)


def test_a_scan_without_finds_shows_its_middle(tmp_path: Path) -> None:
    write_case(tmp_path / "p.json", view(box()))
    (key,) = read_case(tmp_path / "p.json")[1].keys
    assert key.label == "middle of the scan" and SKIPPED < key.z < SHAPE[2]


@pytest.mark.parametrize("text", ["{}", '{"format": 99}', "[1]", "nothing", '{"format": 1, "findings": {}}'])
def test_another_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(DataError, match=r"p\.json"):
        read_case(tmp_path / "p.json")


def test_values_that_were_changed_are_refused(tmp_path: Path) -> None:
    write_case(tmp_path / "p.json", view(TUMOUR, TUMOUR))
    content = json.loads((tmp_path / "p.json").read_text())
    content["pictures"]["keys"][0][0] = "another label"
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"p\.json: holds no pictures .*other values than were written"):
        read_case(tmp_path / "p.json")


def test_a_look_without_a_box_shows_all() -> None:
    seen = view(TUMOUR)
    pictures = render(seen.image, seen.shown, None, seen.found, seen.grid, [Look("all", 12)])
    assert grey(pictures.keys[0].grey).shape == (SIZE, SIZE)
