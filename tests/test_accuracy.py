"""The comparison with other systems: counts, folds by patient, records and tables, on values worked out by hand."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungseg.config import to_dict
from lungseg.dataset import LungDataset
from lungseg.inference import Segmenter
from lungseg.manifest import Manifest
from lungseg.metrics import dice
from lungseg.neighbours import Neighbours
from lungseg.tuning import CaseCounts

from .known_network import write_run
from .processed import write_processed
from .volumes import tree_bytes

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import ablation
import accuracy_neighbours as stacks
import accuracy_nnunet as nnunet
import accuracy_recipe as recipe
import accuracy_score as score
import accuracy_settings as settings
import accuracy_tables as tables
import accuracy_views as views

RNG = np.random.default_rng(0)


def record(system: str, fold: int, cases: list[score.CaseCounts], seed: int = 0) -> score.FoldRecord:
    seconds = {"prepare": 10.0, "train": 120.0, "predict": 50.0, "total": 180.0}
    return score.FoldRecord(system, fold, seed, tuple(cases), seconds, {"gpu": "none", "torch": "0"}, {"epochs": 1})


def counted(dices: dict[str, tuple[int, int, int]]) -> list[score.CaseCounts]:
    return [score.CaseCounts(case, *values, slices=3) for case, values in dices.items()]


def test_counts_of_slices_sum_up_to_the_dice_of_the_patient() -> None:
    truth, found = RNG.random((2, 5, 8, 9)) > 0.6
    cases = score.by_patient(("a", score.counts(true, mask)) for true, mask in zip(truth, found, strict=True))
    assert len(cases) == 1 and cases[0].slices == 5
    assert cases[0].truth_pixels == truth.sum()
    assert cases[0].dice == pytest.approx(dice(truth, found))


def test_slices_of_several_patients_do_not_mix() -> None:
    found = score.by_patient([("b", (1, 0, 0)), ("a", (0, 2, 4)), ("b", (3, 1, 0))])
    assert [(c.case, c.tp, c.fp, c.fn, c.slices) for c in found] == [("a", 0, 2, 4, 1), ("b", 4, 1, 0, 2)]
    assert [c.missed for c in found] == [True, False]


def test_no_tumour_is_no_miss_and_dice_of_two_empty_masks_is_one() -> None:
    case = score.CaseCounts("a", 0, 0, 0, 2)
    assert case.dice == 1.0 and not case.missed


def test_masks_of_other_grids_are_refused() -> None:
    with pytest.raises(SystemExit, match="one grid"):
        score.counts(np.zeros((4, 4)), np.zeros((4, 5)))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = record("recipe", 2, counted({"a": (3, 1, 2), "b": (0, 5, 7)}), seed=1)
    path = score.write_record(tmp_path, written)
    assert path.relative_to(tmp_path).as_posix() == "recipe/fold2-seed1.json"
    assert score.read_record(path) == written


def test_records_of_other_truths_or_twice_the_same_are_refused(tmp_path: Path) -> None:
    score.write_record(tmp_path / "1", record("recipe", 0, counted({"a": (3, 1, 2)})))
    score.write_record(tmp_path / "2", record("strong", 0, counted({"a": (3, 1, 1)})))
    with pytest.raises(SystemExit, match="pixels and slices"):
        score.read_records([tmp_path / "1", tmp_path / "2"])
    with pytest.raises(SystemExit, match="twice"):
        score.read_records([tmp_path / "1", tmp_path / "1"])


def test_a_fold_holds_out_whom_the_file_of_the_tree_says(tmp_path: Path) -> None:
    splits = [{"train": ["c", "b"], "val": ["a"]}, {"train": ["a", "b"], "val": ["b"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    assert score.held_out(tmp_path, 0) == (["b", "c"], ["a"])
    with pytest.raises(SystemExit, match="holds out"):
        score.held_out(tmp_path, 1)
    with pytest.raises(SystemExit, match="no fold 2"):
        score.held_out(tmp_path, 2)
    with pytest.raises(SystemExit, match="held out"):
        score.check_patients(counted({"a": (1, 0, 0), "b": (1, 0, 0)}), ["a"])


def test_folds_of_slices_never_part_a_patient() -> None:
    patients = [{"train": ["lung_1"], "val": ["lung_2"]}, {"train": ["lung_2"], "val": ["lung_1"]}]
    folds = nnunet.slice_splits(patients, {"lung_1": 2, "lung_2": 1})
    assert folds[0] == {"train": ["lung_1_z0000", "lung_1_z0001"], "val": ["lung_2_z0000"]}
    for fold in folds:
        assert not {nnunet.patient_of(name) for name in fold["train"]} & {
            nnunet.patient_of(name) for name in fold["val"]
        }


def test_a_slice_knows_its_patient() -> None:
    assert nnunet.patient_of(nnunet.slice_name("lung_014", 7)) == "lung_014"
    with pytest.raises(SystemExit, match="no name of a slice"):
        nnunet.patient_of("lung_014")


def test_png_keeps_every_hounsfield_unit(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    hu = RNG.integers(-1024, 3072, (6, 5, 3)).astype(np.int16)
    label = (RNG.random(hu.shape) > 0.5).astype(np.uint8)
    raw = tmp_path / "raw"
    for folder in (tmp_path / "imagesTr", tmp_path / "labelsTr", raw / "imagesTr", raw / "labelsTr"):
        folder.mkdir(parents=True)
    for folder, array in (("imagesTr", hu), ("labelsTr", label)):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / folder / "a.nii.gz")
    assert nnunet._write_slices(tmp_path / "imagesTr" / "a.nii.gz", tmp_path, raw) == ("a", 3)
    for z in range(3):
        levels = nnunet._png(raw / "imagesTr" / f"a_z000{z}_0000.png")
        assert np.array_equal(levels.astype(int) - nnunet.OFFSET_HU, hu[:, :, z]) and levels.min() > 0
        assert np.array_equal(nnunet._png(raw / "labelsTr" / f"a_z000{z}.png"), label[:, :, z])


def test_nnunets_log_tells_seconds_and_whether_it_was_done() -> None:
    log = (
        "2026-01-01 10:00:00.500000: do_dummy_2d_data_aug: False \n"
        "2026-01-01 10:01:00.000000: Epoch time: 41.25 s \n2026-01-01 10:02:00.500000: Training done. \n"
        "2026-01-01 10:03:00.000000: predicting a \n"
    )
    assert nnunet.parse_log(log) == {"epoch_s": [41.25], "until_trained_s": 120.0}
    with pytest.raises(SystemExit, match="training was done"):
        nnunet.parse_log(log.replace("done", "going on"))


def test_the_recipes_own_dice_must_be_ours() -> None:
    cases = counted({"lung_1": (1, 1, 1), "lung_2": (0, 1, 1)})
    names = recipe.patients_of({"order": ["lung_9.nii.gz", "lung_2.nii.gz", "lung_1.nii.gz"]})
    assert recipe.check_its_own_dice(cases, {"1": 0.0, "2": 0.5}, names) == 0.0
    with pytest.raises(SystemExit, match="differ"):
        recipe.check_its_own_dice(cases, {"1": 0.0, "2": 0.6}, names)
    with pytest.raises(SystemExit, match="differ"):
        recipe.check_its_own_dice(cases, {"1": 0.0, "2": float("nan")}, names)


def test_the_smallest_quarter_is_by_rank_and_rounded_up() -> None:
    sizes = {f"p{number}": 100 - number for number in range(6)}
    assert tables.smallest_quarter(sizes) == ["p5", "p4"]
    assert len(tables.smallest_quarter({str(number): number for number in range(46)})) == 12


@pytest.fixture
def collected(tmp_path: Path) -> dict[str, Any]:
    """Two systems, two patients a fold; `strong` finds more, with two seeds in fold 0."""
    truth = {"a": 10, "b": 100, "c": 1000, "d": 500}

    def cases(names: str, share: float) -> list[score.CaseCounts]:
        return counted({name: (int(truth[name] * share), 0, truth[name] - int(truth[name] * share)) for name in names})

    for found in (
        record("recipe", 0, cases("ab", 0.0)), record("recipe", 1, cases("cd", 0.5)),
        record("strong", 0, cases("ab", 0.5)), record("strong", 0, cases("ab", 1.0), seed=1),
        record("strong", 1, cases("cd", 1.0)), record("small_net", 0, cases("ab", 0.5)),
    ):  # fmt: skip
        score.write_record(tmp_path, found)
    return tables.collect([tmp_path], "strong")


def test_a_patient_of_several_seeds_counts_once_with_its_mean(collected: dict[str, Any]) -> None:
    half, whole = 2 / 3, 1.0  # Dice where half of the tumour is found
    strong = collected["systems"]["strong"]
    assert strong["patients"] == 4 and strong["seeds"] == [0, 1]
    assert strong["dice_mean"] == pytest.approx(((half + whole) / 2 * 2 + 2 * whole) / 4, abs=1e-5)
    assert collected["systems"]["recipe"]["missed"] == 2
    assert strong["minutes_a_fold"] == 3.0 and strong["training_minutes_a_fold"] == 2.0
    assert collected["smallest_quarter"] == ["a"]


def test_differences_are_of_the_same_patients(collected: dict[str, Any]) -> None:
    apart = {entry["minus"]: entry for entry in collected["differences"]}
    dices = {row["case"]: row for row in collected["cases"]}
    expected = np.mean([dices[case]["strong"] - dices[case]["recipe"] for case in "abcd"])
    assert apart["recipe"]["all"]["difference"] == pytest.approx(expected, abs=1e-5)
    assert apart["recipe"]["all"]["better"] == 4
    assert apart["small_net"]["all"]["patients"] == 2  # only the fold that both have
    assert apart["recipe"]["smallest_quarter"]["patients"] == 1


def test_tables_show_what_was_found_and_what_was_not(collected: dict[str, Any]) -> None:
    found = tables.tables(collected, {"accuracy_ablation": {}})
    assert "| `recipe` | 0.333" in found["accuracy_systems"] and "| 2 of 4 |" in found["accuracy_systems"]
    assert "| `classic` | not measured yet |" in found["accuracy_systems"]
    assert "84 % of the slices" in found["accuracy_systems"]
    assert "`small_net`" in found["accuracy_systems"] and "`base` | not measured yet" in found["accuracy_ablation"]
    rows = tables.tables({}, {"accuracy_ablation": collected})["accuracy_ablation"].splitlines()
    # The base first; a row says what the change brings, on the patients that it was tried on.
    assert rows[2].startswith("| `base` |") and rows[3].startswith("| `recipe` | 0.333")
    brought = next(entry for entry in collected["differences"] if entry["minus"] == "recipe")["all"]["difference"]
    assert f"| {-brought:+.3f} (" in rows[3]
    assert all("not measured yet" in table for table in tables.tables({}, {"accuracy_ablation": {}}).values())


def test_the_page_has_a_place_for_each_table() -> None:
    text = tables.PAGE.read_text("utf-8")
    for name in tables.tables({}):
        assert text.count(f"<!-- figures: {name} -->") == text.count(f"<!-- end: {name} -->") == 1
    both = [page.read_text("utf-8").count("<!-- figures: accuracy_cpu -->") for page in (tables.PAGE, tables.README)]
    assert both == [1, 1]


def test_a_fold_takes_the_setting_of_the_others(tmp_path: Path) -> None:
    """Two thresholds: the low one is right for `a` and `c`, the high one for `b`; no patient chooses its own."""
    counted_at = {  # case: (tp, fp, fn) at each
        "a": [(10, 0, 0), (1, 0, 9)],
        "b": [(10, 190, 0), (10, 0, 0)],
        "c": [(10, 0, 0), (2, 0, 8)],
    }
    for fold, case in enumerate("abc"):
        score.write_record(tmp_path, record("strong", fold, counted({case: counted_at[case][1]})))
        path = tmp_path / f"runs/strong/fold{fold}-seed0/settings.json"
        path.parent.mkdir(parents=True)
        overlap, found = (
            [[[f(*at)]] for at in counted_at[case]] for f in (lambda tp, _, __: tp, lambda tp, fp, _: tp + fp)
        )
        settings.write(path, [CaseCounts(case, 10, np.array(overlap), np.array(found), (0.1, 0.5), (0.0,), (0.0,))])
    found = tables.collect([tmp_path], "strong")
    chosen = {row["case"]: row["strong, settings of the other folds"] for row in found["cases"]}
    # Of `b` and `c` the mean is highest at the high threshold, of `a` and `b` too; of `a` and `c` at the low one.
    assert chosen["a"] == pytest.approx(2 / 11, abs=1e-5) and chosen["c"] == pytest.approx(4 / 12, abs=1e-5)
    assert chosen["b"] == pytest.approx(20 / 210, abs=1e-5)
    for fold in (0, 1):
        (tmp_path / f"runs/strong/fold{fold}-seed0/settings.json").unlink()
    assert set(tables.collect([tmp_path], "strong")["systems"]) == {"strong"}  # one fold alone has no others


def test_settings_are_counted_and_read_again(tmp_path: Path) -> None:
    truth, probability = np.zeros((4, 9, 9), np.uint8), np.zeros((4, 9, 9), np.float32)
    truth[0, :3, :3], probability[0, :3, :4] = 1, 0.9  # 12 found, 9 of them true
    probability[3, 6:, 6:] = 0.3  # 9 more at a low threshold, a quarter as heavy
    settings.write(tmp_path / "settings.json", [settings.counted("a", truth, probability)])
    (one,) = settings.read(tmp_path / "settings.json")
    assert one.overlap.shape == one.found.shape == (len(one.thresholds), 1, len(one.smallest_shares))
    low, half, all_of_them, heavier = (one.thresholds.index(0.25), one.thresholds.index(0.5),
                                       one.smallest_shares.index(0.0), one.smallest_shares.index(0.5))  # fmt: skip
    assert one.truth == 9 and (one.overlap == 9).sum() == one.overlap.size - np.count_nonzero(one.overlap == 0)
    assert [one.found[at] for at in ((half, 0, all_of_them), (low, 0, all_of_them), (low, 0, heavier))] == [12, 21, 12]
    record_of = settings.at_setting(record("strong", 0, counted({"a": (0, 0, 9)})), [one], [one])
    assert record_of.cases == (score.CaseCounts("a", 9, 3, 0, 3),)


def test_of_a_set_of_slices_the_longest_run_with_tumour_is_kept(tmp_path: Path) -> None:
    manifest = write_processed(tmp_path / "sets", {"a": [0, 9, 9, 9, 9, 0, 9, 9], "b": [9, 0, 9]})
    places = {"a": [3, 10, 11, 13, 14, 15, 16, 17], "b": [4, 5, 6]}
    lines = [f"{case},{place},1.0" for case, at in places.items() for place in at]
    (tmp_path / "slices.csv").write_text("\n".join(["case,slice,slice_mm", *lines]))
    assert stacks.longest_run(manifest.record("a"), places["a"]) == [1, 2]  # as long as the others, and first
    assert stacks.longest_run(manifest.record("a"), [3, 10, 11, 12, 13, 15, 16, 17]) == [1, 2, 3, 4]
    with pytest.raises(SystemExit, match="another set"):
        stacks.longest_run(manifest.record("a"), [1, 2])
    wide = [f"{case},{10 * (case == 'b') + k},2.0" for case, count in (("a", 8), ("b", 3)) for k in range(count)]
    (tmp_path / "slices.csv").write_text("\n".join(["case,slice,slice_mm", *wide]))
    stacks.make(tmp_path / "sets", tmp_path / "slices.csv", tmp_path / "out")
    made = Manifest.read(tmp_path / "out")
    assert list(made.cases) == ["a"] and made.record("a").slices == (1, 2, 3, 4) and not made.slice_sets
    data = LungDataset(made, ["a"], neighbours=Neighbours(1, 2.0))
    whole = LungDataset(manifest, ["a"])
    assert torch.equal(data[1][0], torch.cat([whole[index][0] for index in (1, 2, 3)]))


def test_a_run_with_other_views_is_the_same_network(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", write_processed(tmp_path / "slices", {f"lung_{n:03d}": [0, 3] for n in range(4)}))
    before = tree_bytes(run)
    views.with_views(run, tmp_path / "new", {"test_mirror": True, "test_zooms": [1.25]})
    own, other = (Segmenter.load(folder, checkpoint="last", device="cpu") for folder in (run, tmp_path / "new"))
    assert (own.mirror, own.zooms, other.mirror, other.zooms) == (False, (), True, (1.25,))
    assert all(torch.equal(value, own.net.state_dict()[name]) for name, value in other.net.state_dict().items())
    assert json.loads((tmp_path / "new/config.json").read_text())["recipe"]["test_zooms"] == [1.25]
    assert tree_bytes(run) == before


def test_records_of_another_recipe_are_not_taken_for_done(tmp_path: Path) -> None:
    args = argparse.Namespace(out=tmp_path, base={})
    job = ablation.Job("strong", 0, 0, None)
    done = replace(
        record("strong", 0, counted({"a": (1, 1, 1)})), settings={"recipe": to_dict(ablation.recipe_of(job, args))}
    )
    score.write_record(tmp_path, done)
    ablation.refuse_other_recipes([job, ablation.Job("BCE alone", 0, 0, None)], args)
    with pytest.raises(SystemExit, match="another recipe than `strong` now is"):
        ablation.refuse_other_recipes([job], argparse.Namespace(out=tmp_path, base={"tumour_share": 0.8}))
