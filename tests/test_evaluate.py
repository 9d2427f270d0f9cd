"""Held-out patients, scored on the scans' own grids, whichever way they are read."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.cli import main
from lungseg.config import PreprocessConfig
from lungseg.errors import NOTICE, DataError, LungsegError, UsageError
from lungseg.evaluate import evaluate
from lungseg.geometry import to_las
from lungseg.held_out import native_truth
from lungseg.manifest import Manifest
from lungseg.metrics import soft_dice_pooled
from lungseg.nifti import read_label
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.score import score

from .known_network import write_run
from .slices import turned
from .volumes import chest_like, tree_bytes, write_volume

SHAPE, LAS_MM = (40, 32, 9), (0.75, 0.9, 2.5)
SKIP = 3
HELD_OUT = ("p3", "p4", "p5")


def write_patients(root: Path) -> Path:
    """Six patients in six orientations; the network sees p3's tumour whole, half of p4's, and nothing of p5's."""
    for number, codes in enumerate(("LAS", "RPI", "LPS", "SAR", "PIL", "RAS")):
        las, label = chest_like(SHAPE, number), np.zeros(SHAPE, np.uint8)
        label[8:18, 10:20, 2 + number % 2 : 7] = 1
        shown = label.copy()
        if number == 4:
            shown[:13] = 0
        if number != 5:
            las[shown > 0] = 2000
        write_volume(root / f"p{number}.nii.gz", *turned(las, codes, LAS_MM))
        write_volume(root / f"p{number}_label.nii.gz", *turned(label, codes, LAS_MM))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    preprocess(write_patients(folder / "root"), folder / "slices", size=80, skip_slices=SKIP, workers=1)
    write_run(folder / "run", Manifest.read(folder / "slices"), hu=1000.0, held_out=HELD_OUT)
    return folder


def test_only_the_held_out_patients_are_scored_and_written(folder: Path) -> None:
    evaluation = evaluate(folder / "run", device="cpu")
    assert tuple(case.case for case in evaluation.cases) == HELD_OUT and evaluation.exit_code == 0
    whole, half, missed = evaluation.cases
    assert whole.dice > 0.8 and 0.4 < half.dice < 0.8 and missed.dice == 0.0
    assert [case.missed for case in evaluation.cases] == [False, False, True]
    with open(folder / "run" / "evaluation" / "cases.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == list(HELD_OUT)
    assert [float(row["dice"]) for row in rows] == pytest.approx([case.dice for case in evaluation.cases], abs=1e-6)
    summary = json.loads((folder / "run" / "evaluation" / "summary.json").read_text())
    assert summary == evaluation.summary and summary["notice"] == NOTICE and summary["missed"] == 1
    assert summary["dice_mean"] == pytest.approx(np.mean([case.dice for case in evaluation.cases]), abs=1e-6)
    assert "not to be compared" in str(evaluation) and NOTICE in str(evaluation)


def test_the_report_names_every_patient_and_follows_the_numbers(folder: Path) -> None:
    page = folder / "run" / "evaluation" / "report.html"
    said = str(evaluate(folder / "run", device="cpu"))
    text = page.read_text("utf-8")
    assert "report.html" in said and NOTICE in text and all(case in text for case in HELD_OUT)
    assert "Missed: nothing of" in text and "1 patient failed, and why" in text
    assert "report.html" not in str(evaluate(folder / "run", device="cpu", report=False)) and not page.exists()


def test_slices_scans_and_predict_with_score_give_the_same_numbers(folder: Path, tmp_path: Path) -> None:
    from_slices = evaluate(folder / "run", device="cpu")
    from_scans = evaluate(folder / "run", scans=folder / "root", device="cpu")
    assert [case.as_dict() for case in from_scans.cases] == [case.as_dict() for case in from_slices.cases]
    assert from_scans.summary["published_recipe"] == from_slices.summary["published_recipe"]
    for case in HELD_OUT:
        predict(folder / "run", folder / "root" / f"{case}.nii.gz", tmp_path / "found" / f"{case}.nii.gz", device="cpu")
        shutil.copy(folder / "root" / f"{case}_label.nii.gz", tmp_path / f"{case}.nii.gz")
    scored = score(tmp_path / "found", tmp_path, workers=1)
    assert [case.dice for case in scored.cases] == pytest.approx([case.dice for case in from_slices.cases])
    volumes = [(case.truth_ml, case.predicted_ml) for case in from_slices.cases]
    np.testing.assert_allclose([(case.truth_ml, case.predicted_ml) for case in scored.cases], volumes, rtol=1e-5)


def test_tumour_in_skipped_slices_counts_as_not_found(folder: Path) -> None:
    whole = evaluate(folder / "run", device="cpu").cases[0]
    voxel_ml = float(np.prod(LAS_MM)) / 1000
    assert whole.truth_ml == pytest.approx(100 * 4 * voxel_ml, rel=1e-5)
    assert whole.truth_skipped_ml == 0.0
    half = evaluate(folder / "run", device="cpu").cases[1]
    assert half.truth_skipped_ml == pytest.approx(100 * 1 * voxel_ml, rel=1e-5)
    assert half.truth_ml == pytest.approx(100 * 5 * voxel_ml, rel=1e-5)


def test_the_pooled_soft_dice_is_the_published_one(folder: Path) -> None:
    """The network's probabilities are 0 or 1 here, so it is the Dice of all slices of 80 x 80 in one heap."""
    manifest = Manifest.read(folder / "slices")
    truth, found = [], []
    for case in HELD_OUT:
        for z in manifest.record(case).slices:
            image, mask = (
                np.load(manifest.root / case / kind / f"{z:03d}.npy", allow_pickle=False)
                for kind in ("images", "masks")
            )
            truth.append(mask)
            found.append(
                1 / (1 + np.exp(-np.clip(1e4 * (np.maximum(image.astype(np.float64), 0) - 1000 / 3071), -80, 80)))
            )
    expected = soft_dice_pooled(np.stack(truth), np.stack(found))
    evaluation = evaluate(folder / "run", device="cpu")
    assert evaluation.summary["published_recipe"]["soft_dice_pooled"] == pytest.approx(expected, abs=1e-5)


def test_the_native_truth_is_the_label_on_its_own_grid(folder: Path) -> None:
    manifest = Manifest.read(folder / "slices")
    for case in manifest.labelled:
        label = read_label(folder / "root" / f"{case}_label.nii.gz")
        np.testing.assert_array_equal(native_truth(manifest, case), to_las(label.voxels, label.affine)[0])


def test_every_measure_is_there(folder: Path) -> None:
    evaluation = evaluate(folder / "run", device="cpu")
    whole, half, missed = evaluation.cases
    assert whole.nsd_2mm > half.nsd_2mm > missed.nsd_2mm == 0.0
    assert whole.hd95_mm < half.hd95_mm and missed.hd95_mm is None  # nothing of it was found
    summary = evaluation.summary
    lesions = summary["lesions"]["all"]
    assert (lesions["true"], lesions["found"], lesions["false_positives"]) == (3, 2, 0)
    assert summary["worst"] == ["p5", "p4", "p3"] and summary["slice_sets"] is False
    assert [point["sensitivity"] for point in summary["froc"]] == pytest.approx([2 / 3] * 14, abs=1e-6)
    # These chests are 30 mm wide: what lies in them is smaller than a lung (tests/test_tally.py has real ones).
    assert summary["calibration"]["pixels"] == 0 and summary["calibration"]["tumour_outside_region"] == 1.0


def test_slice_sets_are_known_by_the_data(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "slices", tmp_path / "slices")
    preprocess(folder / "root", tmp_path / "slices", size=80, skip_slices=SKIP, workers=1, slice_sets=True)
    run = write_run(tmp_path / "run", Manifest.read(tmp_path / "slices"), hu=1000.0, held_out=HELD_OUT)
    whole, stacks = evaluate(folder / "run", device="cpu"), evaluate(run, device="cpu")
    assert [case.dice for case in stacks.cases] == [case.dice for case in whole.cases]
    assert stacks.summary["slice_sets"] and not {"lesions", "froc"} & set(stacks.summary)
    written = (run / "evaluation" / "cases.csv").read_text() + (run / "evaluation" / "summary.json").read_text()
    for name in ("_mm", "_ml", "lesion"):
        assert name not in written.replace("soft_dice", "")
    assert " mm" not in str(stacks) and " ml" not in str(stacks)


def test_another_run_and_a_table_are_compared_patient_by_patient(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "slices", tmp_path / "slices")
    run = write_run(tmp_path / "run", Manifest.read(tmp_path / "slices"), hu=1000.0, held_out=HELD_OUT)
    table = tmp_path / "table.csv"
    table.write_text("case,dice_a,dice_b\np3,0.5,0\np5,0.25,0\nq1,1,0\n")
    first = evaluate(run, device="cpu", compare=f"{table}:dice_a", report=False)
    comparison = first.comparison
    assert comparison.patients == 2 and comparison.only_here == ("p4",) and comparison.only_there == ("q1",)
    assert comparison.difference == pytest.approx((first.cases[0].dice - 0.5 + first.cases[2].dice - 0.25) / 2)
    written = json.loads((run / "evaluation" / "comparison.json").read_text())
    assert written["difference"] == pytest.approx(comparison.difference, abs=1e-6) and str(tmp_path) not in str(written)
    assert "against table.csv, column dice_a" in str(first)
    itself = evaluate(run, device="cpu", compare=run, report=False)
    assert itself.comparison.equal == 3 and itself.comparison.p == 1.0
    assert evaluate(run, device="cpu", compare=f"{table}:dice_b").comparison.better == 1
    assert "Against table.csv, column dice_b" in (run / "evaluation" / "report.html").read_text("utf-8")
    assert evaluate(run, device="cpu", report=False).comparison is None
    assert not (run / "evaluation" / "comparison.json").exists()  # it belonged to older numbers


def test_nothing_to_compare_is_said_before_the_work(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("case,dice\nsomebody,0.5\n")
    before = tree_bytes(folder / "run")
    with pytest.raises(UsageError, match=r"table\.csv: has no patient in common"):
        evaluate(folder / "run", device="cpu", compare=tmp_path / "table.csv")
    assert tree_bytes(folder / "run") == before


def test_a_higher_threshold_finds_less(folder: Path) -> None:
    low, high = (evaluate(folder / "run", threshold=t, device="cpu").cases[0].predicted_ml for t in (0.0, 0.99))
    assert high < low
    evaluate(folder / "run", device="cpu")


def test_row_34_a_patient_that_was_trained_on_under_another_name_is_refused(tmp_path: Path) -> None:
    root = write_patients(tmp_path / "root")
    shutil.copy(root / "p1.nii.gz", root / "p5.nii.gz")
    shutil.copy(root / "p1_label.nii.gz", root / "p5_label.nii.gz")
    preprocess(root, tmp_path / "slices", size=80, skip_slices=SKIP, workers=1)
    run = write_run(tmp_path / "run", Manifest.read(tmp_path / "slices"), hu=1000.0, held_out=HELD_OUT)
    with pytest.raises(DataError, match="p5: is the same scan as p1"):
        evaluate(run, device="cpu")


def test_weights_of_another_fold_are_refused_because_they_saw_the_patients(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(folder / "slices")
    seen = write_run(tmp_path / "other", manifest, held_out=("p0", "p1", "p2"))
    run = write_run(tmp_path / "run", manifest, held_out=HELD_OUT)
    for name in ("best.ckpt", "best.ckpt.sha256"):
        shutil.copy(seen / "checkpoints" / name, run / "checkpoints" / name)
    with pytest.raises(DataError, match="may have been trained on the patients to be scored"):
        evaluate(run, device="cpu")
    assert evaluate(run, checkpoint="last", device="cpu", report=False).exit_code == 0


def test_slices_that_were_made_anew_under_exchanged_names_are_refused(folder: Path, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "root")
    for end in (".nii.gz", "_label.nii.gz"):
        (root / f"p0{end}").rename(root / f"kept{end}")
        (root / f"p3{end}").rename(root / f"p0{end}")
        (root / f"kept{end}").rename(root / f"p3{end}")
    preprocess(root, tmp_path / "slices", size=80, skip_slices=SKIP, workers=1)
    shutil.copytree(folder / "run", tmp_path / "run")
    with pytest.raises(DataError, match="trained on other slices"):
        evaluate(tmp_path / "run", device="cpu")


def test_row_43_a_damaged_slice_is_named_and_there_is_no_mean(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "slices", tmp_path / "slices")
    run = write_run(tmp_path / "run", Manifest.read(tmp_path / "slices"), hu=1000.0, held_out=HELD_OUT)
    path = tmp_path / "slices" / "p4" / "images" / "005.npy"
    path.write_bytes(bytes(len(path.read_bytes())))
    evaluation = evaluate(run, device="cpu")
    assert evaluation.exit_code == 3 and [case.case for case in evaluation.cases] == ["p3", "p5"]
    assert evaluation.summary["dice_mean"] is None and "p4" in evaluation.summary["not_scored"]
    assert evaluation.summary["published_recipe"]["soft_dice_pooled"] is None
    assert "005.npy" in str(evaluation)


def test_row_31_slices_of_other_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    preprocess(folder / "root", tmp_path / "slices", size=64, skip_slices=SKIP, workers=1)
    assert Manifest.read(tmp_path / "slices").config == PreprocessConfig(size=64, skip_slices=str(SKIP))
    with pytest.raises(DataError, match="other settings"):
        evaluate(tmp_path / "run", device="cpu")


def test_row_43_scans_without_a_held_out_patient_name_it(folder: Path, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "root")
    (root / "p4.nii.gz").unlink()
    (root / "p4_label.nii.gz").unlink()
    evaluation = evaluate(folder / "run", scans=root, device="cpu")
    assert evaluation.exit_code == 3 and [problem.found or problem.case for problem in evaluation.problems] == ["p4"]


def test_warnings_of_scans_that_are_read_anew_are_said(folder: Path, tmp_path: Path) -> None:
    root = write_patients(tmp_path / "root")
    image = nib.load(root / "p4.nii.gz")
    write_volume(root / "p4.nii.gz", np.asanyarray(image.dataobj) + np.int16(1024), image.affine)
    evaluation = evaluate(folder / "run", scans=root, device="cpu", report=False)
    assert [(problem.case, problem.code) for problem in evaluation.problems] == [("p4", "hu-no-air")]
    assert evaluation.exit_code == 0 and evaluation.summary["dice_mean"] is not None
    assert "warning: " in str(evaluation) and evaluation.summary["not_scored"] == {}


def test_row_26_where_no_patient_can_be_scored_all_are_named(folder: Path, tmp_path: Path, capsys) -> None:
    root = write_patients(tmp_path / "root")
    for name in HELD_OUT:
        (root / f"{name}.nii.gz").write_bytes(b"")
    before = tree_bytes(folder / "run")
    assert main(["evaluate", str(folder / "run"), "--scans", str(root), "--device", "cpu"]) == 3
    said = capsys.readouterr().err.splitlines()[-3:]
    assert [line.partition(":")[0] for line in said] == ["error", "error", "lungseg evaluate"]
    assert all(f"{name}.nii.gz: is an empty file" in line for name, line in zip(HELD_OUT, said, strict=True))
    assert tree_bytes(folder / "run") == before  # with the report of the numbers that still stand there


def test_nothing_of_the_data_is_changed(folder: Path) -> None:
    before = {name: tree_bytes(folder / name) for name in ("root", "slices")}
    evaluate(folder / "run", scans=folder / "root", device="cpu")
    assert {name: tree_bytes(folder / name) for name in before} == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run"):
        evaluate(tmp_path / "nothing")
    (tmp_path / "run").mkdir()
    with pytest.raises(LungsegError, match="checkpoint"):
        evaluate(tmp_path / "run")


def test_label_grids_are_those_of_nibabel(folder: Path) -> None:
    image = nib.load(folder / "root" / "p3_label.nii.gz")
    assert nib.aff2axcodes(image.affine) == tuple("SAR")
