"""Kept probabilities: exact at the thresholds they are kept for, small, and made again where they are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lungseg.geometry import SliceGrid
from lungseg.inference import MaskVolume
from lungseg.probability_map import LEAST, MapVolume, level_above, levels_of, read_map, write_map

FACTS = {"weights": "a", "slices": "b"}


@pytest.mark.parametrize("threshold", [4 / 256, 1 / 16, 0.25, 0.5, 127 / 256, 15 / 16, 255 / 256])
def test_a_level_says_exactly_whether_the_probability_is_above(threshold: float) -> None:
    near = np.float32(threshold) + np.array([-1e-3, -1e-7, 0, 1e-7, 1e-3], np.float32)
    p = np.concatenate([near, np.random.default_rng(0).random(10_000, np.float32), [0.0, 1.0]]).astype(np.float32)
    p = np.clip(p, 0, 1)
    np.testing.assert_array_equal(levels_of(p) >= level_above(threshold), p > threshold)


@pytest.mark.parametrize("threshold", [0.3, 0.0, 3 / 256, 1.0])
def test_other_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="1/256"):
        level_above(threshold)


def test_the_map_gives_the_mask_that_predict_makes() -> None:
    shape, generator = (40, 32, 5), np.random.default_rng(1)
    grid = SliceGrid.of(shape, (0.7, 0.9, 2.5), 24)
    kept, masks = MapVolume(shape, grid), {t: MaskVolume(shape, grid, t) for t in (0.125, 0.5, 0.75)}
    for z in (1, 2, 4):
        probability = generator.random((24, 24), np.float32)
        kept.put(z, probability)
        for volume in masks.values():
            volume.put(z, probability)
    for threshold, volume in masks.items():
        np.testing.assert_array_equal(kept.levels >= level_above(threshold), volume.mask > 0)


def spotted() -> np.ndarray:
    levels = np.zeros((30, 20, 10), np.uint8, order="F")
    levels[4:9, 5:7, 3] = np.arange(100, 110).reshape(5, 2)
    return levels


def test_what_is_written_is_read_again_and_is_small(tmp_path: Path) -> None:
    levels = np.zeros((512, 512, 60), np.uint8, order="F")
    levels[100:130, 200:240, 20:25] = 77
    write_map(tmp_path, "p 1", levels, FACTS, {"soft": [1.5]})
    found = read_map(tmp_path, "p 1", FACTS)
    assert found is not None
    np.testing.assert_array_equal(found[0], levels)
    assert found[1] == {"soft": [1.5]}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3000


def test_an_empty_map_is_kept_too(tmp_path: Path) -> None:
    write_map(tmp_path, "p", np.zeros((4, 5, 6), np.uint8), FACTS, {})
    found = read_map(tmp_path, "p", FACTS)
    assert found is not None and found[0].shape == (4, 5, 6) and not found[0].any()


def test_low_probabilities_are_kept_as_none() -> None:
    assert levels_of(np.array([0.0, 0.01, (LEAST + 0.5) / 256])).tolist() == [0, 0, LEAST]


def test_what_is_not_whole_or_of_something_else_is_not_taken(tmp_path: Path) -> None:
    write_map(tmp_path, "p", spotted(), FACTS, {})
    assert read_map(tmp_path, "p", {**FACTS, "weights": "other"}) is None
    assert read_map(tmp_path, "other", FACTS) is None
    data, record = ((tmp_path / f"p.{kind}").read_bytes() for kind in ("npz", "json"))
    for broken in (data[:-1], b"", data[:50] + bytes([data[50] ^ 1]) + data[51:]):
        (tmp_path / "p.npz").write_bytes(broken)
        assert read_map(tmp_path, "p", FACTS) is None
    (tmp_path / "p.npz").write_bytes(data)
    for broken in (b"[]", b"{", record.replace(b'"box"', b'"bax"'), record.replace(b"30", b'"x"')):
        (tmp_path / "p.json").write_bytes(broken)
        assert read_map(tmp_path, "p", FACTS) is None
    (tmp_path / "p.json").write_bytes(record)
    assert read_map(tmp_path, "p", FACTS) is not None


@pytest.mark.parametrize("change", [{"box": None}, {"shape": [4, 5, 7]}, {"sums": {"soft": [9]}}, {"seal": ""}])
def test_a_record_that_was_changed_is_no_map(tmp_path: Path, change: dict) -> None:
    levels = np.zeros((4, 5, 6), np.uint8)
    levels[1, 2, 3] = 7
    write_map(tmp_path, "p", levels, FACTS, {"soft": [1.5]})
    record = json.loads((tmp_path / "p.json").read_text())
    (tmp_path / "p.json").write_text(json.dumps({**record, **change}))
    assert read_map(tmp_path, "p", FACTS) is None
    (tmp_path / "p.json").write_text(json.dumps(record))
    assert read_map(tmp_path, "p", FACTS) is not None
