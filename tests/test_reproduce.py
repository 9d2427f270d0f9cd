"""The whole way on a tiny tree: what lies there in the end, going on where it was stopped, and what is refused."""

from __future__ import annotations

import csv
import hashlib
import html
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lungseg.cli import main
from lungseg.config import RECIPES
from lungseg.errors import NOTICE, LungsegError, MachineError, UsageError
from lungseg.folder_lock import folder_lock
from lungseg.probe import NetworkRates
from lungseg.published import AIMS, PublishedCase, PublishedTable
from lungseg.reproduce import reproduce
from lungseg.reproduce_plan import plan_reproduction
from lungseg.reproduction import NOBODY, PLAIN, TUNED, Reproduction
from lungseg.splits import k_fold

from .training import TINY
from .volumes import tree_bytes, write_tree

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = TINY.but(epochs=1, inner_val=0.0, augment="none")
NAMES = [f"lung_{number:03d}" for number in range(1, 7)]
FOLD_OF = {case: number for number, fold in enumerate(k_fold(NAMES)) for case in fold.val}
# The labels of `write_tree` have 36 voxels.  Of lung_006 the published one has another number: it is somebody else.
PUBLISHED = PublishedTable(
    source="a table",
    licence="a licence",
    citation="an author",
    columns={"dice_a": "method A", "dice_b": "method B"},
    cases={
        name: PublishedCase(FOLD_OF[name], 37 if name == "lung_006" else 36, {"dice_a": 0.5, "dice_b": 0.01})
        for name in NAMES
    },
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("reproduce") / "tree", cases=6, test_cases=2)


def started(tree: Path, out: Path, **options) -> Reproduction:
    given = {"source": tree, "recipe": SMALL, "device": "cpu", "skip_slices": 2, "size": 32, "workers": 1}
    return reproduce(out, **{**given, "published": PUBLISHED, "probe_s": 0.0, **options})


@pytest.fixture(scope="module")
def done(tree: Path) -> Reproduction:
    """A finished reproduction beside the tree, that no test changes."""
    before = tree_bytes(tree)
    result = started(tree, tree.parent / "done")
    assert tree_bytes(tree) == before
    return result


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "comparison.csv", newline="") as file:
        return list(csv.DictReader(file))


# What it leaves


def test_every_patient_is_scored_in_nnunets_folds_beside_the_published_ones(done: Reproduction) -> None:
    assert [score.case for score in done.evaluation.cases] == NAMES and done.exit_code == 0
    rows = rows_of(done.out)
    assert [row["case"] for row in rows] == NAMES[:5]  # lung_006 has another label than the published patient
    dice = {score.case: score.dice for score in done.evaluation.cases}
    for row in rows:
        assert row["fold"] == row["published_fold"] == str(FOLD_OF[row["case"]])
        assert float(row["dice"]) == pytest.approx(dice[row["case"]], abs=1e-6)
        assert (row["dice_a"], row["tumour_voxels"]) == ("0.5", "36") and 0 <= float(row["tuned_dice"]) <= 1


def test_the_figures_are_written_as_plain_values(done: Reproduction) -> None:
    found = json.loads((done.out / "reproduce.json").read_text())
    assert found["notice"] == NOTICE and found["recipe"] == "tiny" and found["folds_scored"] == [0, 1, 2, 3, 4]
    assert set(found["scores"]) == {PLAIN, TUNED} and found["scores"][PLAIN]["patients"] == 6
    assert [(one["ours"], one["comparison"]["column"]) for one in found["published"]] == [
        (PLAIN, "dice_a"), (TUNED, "dice_a"), (PLAIN, "dice_b"), (TUNED, "dice_b")
    ]  # fmt: skip
    mean = np.mean([score.dice for score in done.evaluation.cases[:5]])
    assert found["published"][0]["comparison"]["difference"] == pytest.approx(mean - 0.5, abs=1e-5)
    assert found["published"][2]["missed"][1] == 5
    assert not found["whole"] and len(found["verdicts"]) == len(AIMS)
    assert all("not judged here" in verdict for verdict in found["verdicts"])
    assert json.loads((done.out / "verify.json").read_text())["errors"] == 0


def test_the_page_has_the_published_methods_with_numbers_and_plots(done: Reproduction) -> None:
    page = done.report.read_text("utf-8")
    assert page.count("Patient by patient against method") >= 2 and 'href="#against"' in page
    assert "method A" in page and "an author" in page and "Only 5 of the 6 published patients" in page
    first = done.compared.against[0].comparison
    low, high = first.interval
    assert f"{first.difference:+.3f} ({low:+.3f} to {high:+.3f})" in page
    assert "Against published methods" not in (done.out / "run" / "evaluation" / "report.html").read_text("utf-8")


def test_test_scans_are_packed_for_the_challenge_on_their_own_grids(done: Reproduction, tree: Path) -> None:
    with zipfile.ZipFile(done.submission) as pack:
        assert pack.namelist() == ["Task06_Lung/lung_007.nii.gz", "Task06_Lung/lung_008.nii.gz"]
        for name in pack.namelist():
            path = done.out / "predictions" / Path(name).name
            assert pack.read(name) == path.read_bytes()
            scan, mask = nib.load(tree / "imagesTs" / path.name), nib.load(path)
            assert mask.shape == scan.shape and set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
            np.testing.assert_array_equal(mask.affine, scan.affine)


def test_the_closing_summary_says_what_was_found_and_where(done: Reproduction) -> None:
    text = str(done)
    assert max(len(line) for line in text.splitlines() if str(done.out) not in line) <= 120
    assert text.endswith(NOTICE) and text.count(NOTICE) == 1
    assert f"against method A; ours: {PLAIN}" in text and "of 5, worse in" in text and "aim 0.685" in text
    for path in (done.report, done.submission, done.out / "comparison.csv", done.out / "reproduce.json"):
        assert str(path) in text


def test_patients_who_only_share_their_names_with_published_ones_are_not_compared(
    done: Reproduction, tree: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(done.out, tmp_path / "out")
    again = started(tree, out, published=None)  # the package's own figures
    assert again.compared.against == () and NOBODY in str(again)
    assert not (out / "comparison.csv").exists() and NOBODY in html.unescape(again.report.read_text("utf-8"))


def test_all_patients_whole_in_their_folds_are_judged_by_the_aims(
    tree: Path, done: Reproduction, tmp_path: Path
) -> None:
    whole = PublishedTable(
        "s", "l", "c", {"dice_a": "A"}, {n: PublishedCase(FOLD_OF[n], 36, {"dice_a": 0.5}) for n in NAMES}
    )
    again = started(tree, shutil.copytree(done.out, tmp_path / "out"), published=whole)
    assert again.compared.whole and len(rows_of(again.out)) == 6
    mean = again.evaluation.summary["dice_mean"]
    assert f"{mean:.3f} {'reached' if mean >= 0.685 else 'missed'} by {PLAIN}" in again.verdicts[0]


# Going on


def test_a_second_call_trains_nothing_again_and_says_the_same(done: Reproduction, tree: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done.out, tmp_path / "out")
    weights = sorted(out.glob("run/folds/*/checkpoints/best.ckpt"))
    stamps = [path.stat().st_mtime_ns for path in weights]
    masks = [path.stat().st_mtime_ns for path in sorted(out.glob("predictions/*"))]
    again = started(tree, out)
    assert len(weights) == 5 and [path.stat().st_mtime_ns for path in weights] == stamps
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("predictions/*"))] == masks
    assert (out / "comparison.csv").read_bytes() == (done.out / "comparison.csv").read_bytes()
    assert again.compared == done.compared


def interrupting(function: Callable, calls: int) -> Callable:
    """The function, which is interrupted when it is called for the last time of so many."""
    left = iter(range(calls - 1))

    def interrupted(*args, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return function(*args, **options)

    return interrupted


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        ("reproduce", "preprocess", 1),
        ("crossval", "train", 3),
        ("crossval", "score_folds", 1),
        ("reproduce", "compare_with_published", 1),
        ("reproduce", "predict", 1),
        ("reproduce", "write_submission", 1),
        ("reproduce", "write_whole_report", 1),
    ],
)
def test_stopped_anywhere_it_goes_on_to_the_same_end(
    module: str, name: str, calls: int, done: Reproduction, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    if name != "preprocess" and calls == 1:  # what was finished before the stage that is interrupted
        shutil.copytree(
            done.out, out, ignore=shutil.ignore_patterns("report*", "*.csv", "submission.zip", "reproduce.json")
        )
    stage = import_module(f"lungseg.{module}")
    with monkeypatch.context() as patch:
        patch.setattr(stage, name, interrupting(getattr(stage, name), calls))
        with pytest.raises(KeyboardInterrupt):
            started(tree, out)
    assert not (out / "reproduce.json").exists()
    started(tree, out)
    for file in ("comparison.csv", "submission.zip"):
        assert (out / file).read_bytes() == (done.out / file).read_bytes()


def test_folds_can_be_trained_one_call_after_another(done: Reproduction, tree: Path, tmp_path: Path) -> None:
    some = started(tree, tmp_path / "out", folds="0,3")
    assert some.evaluation.summary["folds_scored"] == [0, 3] and not some.compared.whole
    assert {row["fold"] for row in rows_of(some.out)} <= {"0", "3"}
    every = started(tree, tmp_path / "out", folds="1,2,4")
    assert every.evaluation.summary["folds_scored"] == [0, 1, 2, 3, 4]
    assert (every.out / "comparison.csv").read_bytes() == (done.out / "comparison.csv").read_bytes()


def test_from_an_archive_on_disk(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "Task06_Lung.tar", "w") as tar:
        tar.add(tree, "Task06_Lung")
    digest = hashlib.sha256((tmp_path / "Task06_Lung.tar").read_bytes()).hexdigest()
    monkeypatch.setattr(
        import_module("lungseg.reproduce"), "require_free_space", lambda *_, **__: None
    )  # the real set needs 18 GB
    result = started(tmp_path / "Task06_Lung.tar", tmp_path / "out", sha256=digest, folds="0,1")
    assert tree_bytes(tmp_path / "out" / "data" / "Task06_Lung").items() >= tree_bytes(tree).items()
    assert result.submission is not None and (tmp_path / "Task06_Lung.tar").exists()


def test_a_bad_scan_is_named_and_the_others_are_done(tree: Path, tmp_path: Path, capsys) -> None:
    bad = shutil.copytree(tree, tmp_path / "tree")
    (bad / "imagesTs" / "lung_007.nii.gz").write_bytes(b"\x1f\x8bnothing")
    result = started(bad, tmp_path / "out", folds="0,1")
    assert result.exit_code == 3 and result.submission is None and not (result.out / "submission.zip").exists()
    assert "lung_007" in str(result) and (result.out / "predictions" / "lung_008.nii.gz").exists()
    assert "lung_007.nii.gz" in capsys.readouterr().err


def test_a_tree_without_test_scans_is_no_fault(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", cases=6, test_cases=0)
    (tree / "imagesTs").mkdir()
    result = started(tree, tmp_path / "out", folds="0,1")
    assert result.submission is None and result.exit_code == 0 and "for the challenge" not in str(result)


# What it says before, and what it refuses


def test_the_plan_writes_nothing_and_says_time_disk_and_memory(tree: Path, tmp_path: Path) -> None:
    plan = plan_reproduction(
        tmp_path / "out", source=tree, recipe=SMALL, device="cpu", skip_slices=2, size=32, probe_s=0
    )
    text = str(plan)
    assert not (tmp_path / "out").exists() and text.endswith(NOTICE)
    assert "folds 0, 1, 2, 3, 4 of 0 to 4" in text and "5 x" in text and "predict 2 test scans" in text
    assert "GB of disk" in text and "free here:" in text and "download" not in text
    far = plan_reproduction(tmp_path / "out", recipe=SMALL, device="cpu", size=32, probe_s=0)
    assert far.source is None and "download and unpack 9.16 GB" in str(far) and far.needed_bytes > 18e9


def test_what_is_trained_already_is_not_counted_again(done: Reproduction, tree: Path) -> None:
    plan = plan_reproduction(done.out, source=tree, recipe=SMALL, device="cpu", skip_slices=2, size=32, probe_s=0)
    (training,) = [step for step in plan.cost.steps if step.what == "train"]
    assert training.seconds == 0 and plan.taken_bytes > 0


def refused(kind: type[LungsegError], code: str, tree: Path, out: Path, **options) -> str:
    with pytest.raises(kind) as caught:
        started(tree, out, **options)
    assert caught.value.problem.code == code and "\n" not in str(caught.value)
    return str(caught.value)


def test_what_can_not_be_meant_is_refused_before_anything_is_written(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(UsageError, "out-in-root", tree, tree / "out")
    refused(UsageError, "out-in-root", tree, tree.parent)
    refused(UsageError, "no-such-source", tree, out, source=tmp_path / "nothing")
    refused(UsageError, "no-such-fold", tree, out, folds="0,5")
    refused(UsageError, "bad-setting", tree, out, epochs=0)
    refused(UsageError, "bad-setting", tree, out, max_minutes=-1.0)
    refused(UsageError, "unknown-device", tree, out, device="tpu")
    refused(UsageError, "bad-skip", tree, out, skip_slices="some")
    assert "strongest" in refused(UsageError, "unknown-recipe", tree, out, recipe="strongest")
    assert not out.exists() and not (tree / "out").exists()


def test_other_settings_than_it_was_begun_with_are_refused_by_name(done: Reproduction, tree: Path) -> None:
    before = tree_bytes(done.out)
    assert "skip_slices" in refused(UsageError, "other-settings", tree, done.out, skip_slices=3)
    assert "epochs" in refused(UsageError, "other-settings", tree, done.out, epochs=2)
    assert tree_bytes(done.out) == before


def test_a_full_disk_and_a_second_writer_are_refused(tree: Path, tmp_path: Path, monkeypatch) -> None:
    with folder_lock(tmp_path / "out", stage="test"):
        refused(MachineError, "locked", tree, tmp_path / "out")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "GB" in refused(MachineError, "disk-space", tree, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_command(tree: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(RECIPES, "demo", SMALL)
    rates = NetworkRates("cpu", 1.0, 0.1, 100)
    monkeypatch.setattr(import_module("lungseg.reproduce_plan"), "probe", lambda *_, **__: rates)
    words = ["reproduce", str(tmp_path / "out"), "--source", str(tree), "--recipe", "demo", "--device", "cpu"]
    words += ["--size", "32", "--skip-slices", "2", "--folds", "0,1", "--workers", "1"]
    assert main([*words, "--plan"]) == 0
    assert "about" in capsys.readouterr().out and not (tmp_path / "out").exists()
    assert main(words) == 0
    assert str(tmp_path / "out" / "report.html") in capsys.readouterr().out
    assert main(["reproduce", str(tmp_path / "x"), "--source", str(tmp_path / "none.tar"), *words[4:]]) == 2
