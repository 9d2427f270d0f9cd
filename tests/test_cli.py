"""The command: every subcommand on tiny inputs, exit codes, one-line errors, signals, pipes and odd names."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import nibabel as nib
import numpy as np
import pytest

from lungseg.cli import main
from lungseg.command_parser import build_parser
from lungseg.config import RECIPES, UNetConfig
from lungseg.errors import DataError, IntegrityError, MachineError, TrainingError, UsageError
from lungseg.folder_lock import folder_lock

from .volumes import affine_of, chest_like, tree_bytes, write_tree, write_volume

posix = pytest.mark.skipif(os.name != "posix", reason="signals and names of POSIX")
TINY = replace(RECIPES["demo"], unet=UNetConfig(widths=(4, 8), norm="batch"), epochs=1, batch_size=4)


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def start(*words: str | Path, **options) -> subprocess.Popen[str]:
    """The command in a process of its own, which a test may signal."""
    command = [sys.executable, "-m", "lungseg.cli", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, text=True, encoding="utf-8", errors="surrogateescape", **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out or "", err or ""


def one_line(text: str, command: str) -> str:
    """The only line of a text, which has to name the command and hold no traceback."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith(f"lungseg {command}: ") and "Traceback" not in text
    return lines[0]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tree, its slices and a finished run, all made by the commands; not to be changed by a test."""
    root = tmp_path_factory.mktemp("cli")
    write_tree(root / "tree", shape=(24, 20, 10))
    assert run("preprocess", root / "tree", root / "processed", "--size", 32, "--skip-slices", 0, "--workers", 1) == 0
    with mock.patch.dict(RECIPES, demo=TINY):
        code = run("train", root / "processed", root / "run", "--recipe", "demo", "--n-folds", 3, "--device", "cpu")
    assert code == 0
    return root


# What the commands do


def test_sample_writes_a_tree_that_verify_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tmp_path / "sample"
    size = ("--cases", 1, "--test-cases", 1, "--shape", 40, 36, 16, "--seed", 7)
    assert run("sample", tree, *size, "--workers", 1) == 0
    assert "1 labelled and 1 unlabelled" in capsys.readouterr().out
    names = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.nii.gz"))
    assert names == [
        "imagesTr/lung_001.nii.gz",
        "imagesTs/lung_002.nii.gz",
        "labelsTr/lung_001.nii.gz",
    ]
    assert nib.load(tree / names[0]).shape == (40, 36, 16)
    before = tree_bytes(tree)
    assert run("verify", tree, "--workers", 1) == 0
    assert tree_bytes(tree) == before


def test_verify_prints_a_table_and_writes_json(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", place / "tree", "--json", tmp_path / "v.json", "--workers", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 cases: 0 errors, 0 warnings"
    assert json.loads((tmp_path / "v.json").read_text())["cases"] == [f"lung_{n:03d}" for n in (1, 2, 3, 4)]


def test_preprocess_writes_the_manifest_and_takes_a_rerun_as_done(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(place / "processed", tmp_path / "processed")
    before = tree_bytes(out)
    assert run("preprocess", place / "tree", out, "--size", 32, "--skip-slices", 0, "--workers", 1) == 0
    assert "4 cases (4 were there already)" in capsys.readouterr().out
    assert tree_bytes(out) == before and "manifest.json" in before
    assert run("preprocess", place / "tree", out, "--size", 16, "--skip-slices", 0) == 2
    assert "--rebuild" in one_line(capsys.readouterr().err, "preprocess")
    assert run("preprocess", place / "tree", out, "--size", 16, "--skip-slices", "auto", "--rebuild") in (0, 3)


def test_train_leaves_a_run_and_resumes_with_the_recorded_settings(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {path.relative_to(place / "run").as_posix() for path in (place / "run").rglob("*") if path.is_file()}
    assert names >= {"config.json", "splits.json", "metrics.csv", "curves.png"}
    assert names >= {f"checkpoints/{name}.ckpt{more}" for name in ("best", "last") for more in ("", ".sha256")}
    assert run("train", place / "processed", place / "run") == 2
    assert "finished" in one_line(capsys.readouterr().err, "train")
    assert run("train", place / "processed", place / "run", "--resume") == 0
    assert run("train", place / "processed", place / "run", "--resume", "--fold", 1) == 2
    assert "other settings" in one_line(capsys.readouterr().err, "train")


def test_evaluate_scores_the_held_out_patients(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", place / "run", "--device", "cpu") == 0
    from_slices = capsys.readouterr().out
    held_out = json.loads((place / "run" / "splits.json").read_text())["held_out"]
    assert len(held_out) == 1 and held_out[0] in from_slices
    assert (place / "run" / "evaluation" / "cases.csv").exists()
    assert run("evaluate", place / "run", "--scans", place / "tree", "--device", "cpu") == 0
    assert capsys.readouterr().out == from_slices
    assert json.loads((place / "run" / "evaluation" / "summary.json").read_text())["read_from"] == "scans"


def test_predict_puts_a_mask_on_the_grid_of_the_scan(place: Path, tmp_path: Path) -> None:
    affine = affine_of("LPS", (0.9, 0.8, 2.0))
    scan = write_volume(tmp_path / "in" / "anna.nii.gz", chest_like((22, 26, 9)), affine)
    out = tmp_path / "out" / "mask.nii.gz"
    before = tree_bytes(scan.parent)
    assert run("predict", place / "run", scan, out, "--device", "cpu", "--threshold", 0.2) == 0
    mask = nib.load(out)
    assert mask.shape == (22, 26, 9) and mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, affine, atol=1e-5)
    record = json.loads((tmp_path / "out" / "mask.json").read_text())
    assert record["settings"]["threshold"] == 0.2 and "not for clinical use" in record["notice"]
    assert tree_bytes(scan.parent) == before


def test_predict_a_folder_then_score_it(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks, truth = tmp_path / "masks", place / "tree" / "labelsTr"
    assert run("predict", place / "run", place / "tree", masks, "--device", "cpu", "--checkpoint", "last") == 0
    assert sorted(path.name for path in masks.glob("*.nii.gz")) == [f"lung_{n:03d}.nii.gz" for n in (1, 2, 3, 4)]
    capsys.readouterr()
    measures = tmp_path / "s.json", tmp_path / "s.csv"
    assert run("score", masks, truth, "--json", measures[0], "--csv", measures[1], "--workers", 1) == 0
    assert "lung_004.nii.gz: has no label" in capsys.readouterr().out
    assert len(measures[1].read_text().splitlines()) == 4
    assert json.loads(measures[0].read_text())


def test_crossval_then_predict_with_the_ensemble(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("crossval", place / "processed", tmp_path / "run", "--n-folds", 3, "--device", "cpu", "--recipe", "demo")
    with mock.patch.dict(RECIPES, demo=TINY):
        assert run(*words, "--folds", "0,2") == 0
        assert "folds that are not trained yet, whose patients are missing here: 1" in capsys.readouterr().out
        assert run(*words) == 0
    out = capsys.readouterr().out
    assert all(f"lung_{number:03d}" in out for number in (1, 2, 3)) and "predict uses 3 folds" in out
    assert {path.name for path in (tmp_path / "run" / "folds").iterdir()} == {"0", "1", "2"}
    assert run("evaluate", tmp_path / "run", "--device", "cpu") == 0
    assert capsys.readouterr().out == out
    scan, mask = place / "tree" / "imagesTs" / "lung_004.nii.gz", tmp_path / "mask.nii.gz"
    assert (
        run("predict", tmp_path / "run", scan, mask, "--device", "cpu", "--smallest-ml", 0.5, "--smallest-share", 1)
        == 0
    )
    record = json.loads((tmp_path / "mask.json").read_text())
    assert len(record["model"]["folds"]) == 3 and record["settings"]["smallest_ml"] == 0.5
    assert record["settings"]["smallest_share"] == 1.0
    capsys.readouterr()
    assert run(*words, "--epochs", 7) == 2
    assert "recipe.epochs" in one_line(capsys.readouterr().err, "crossval")
    assert run("export", tmp_path / "run", tmp_path / "w.safetensors") == 2
    assert "folds" in one_line(capsys.readouterr().err, "export")


def test_score_of_two_files_is_the_dice_worked_out_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = np.zeros((2, 6, 5, 4), np.uint8)
    truth[1:4, 1:4, 1:3] = 1  # 18 voxels
    found[2:5, 1:4, 1:3] = 1  # 18, of which 12 are in the truth
    write_volume(tmp_path / "found.nii.gz", found)
    write_volume(tmp_path / "truth.nii.gz", truth)
    assert run("score", tmp_path / "found.nii.gz", tmp_path / "truth.nii.gz", "--csv", tmp_path / "s.csv") == 0
    assert f"{2 * 12 / 36:.3f}" in capsys.readouterr().out


def test_a_missing_prediction_is_named_and_no_mean_is_given(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = place / "tree" / "labelsTr"
    masks = shutil.copytree(truth, tmp_path / "masks")
    (masks / "lung_002.nii.gz").unlink()
    assert run("score", masks, truth, "--workers", 1) == 3
    said = capsys.readouterr().out
    assert "lung_002.nii.gz: there is no prediction" in said and "mean Dice" not in said


@pytest.mark.parametrize("window", ["lung", "mediastinum", "-1000,400", "0,80"])
def test_animate_writes_a_gif(place: Path, tmp_path: Path, window: str, capsys: pytest.CaptureFixture[str]) -> None:
    scan, label = (place / "tree" / folder / "lung_001.nii.gz" for folder in ("imagesTr", "labelsTr"))
    out = tmp_path / "a.gif"
    marks = ("--truth", label, "--mask", label, "--every", 2, "--fps", 5)
    assert run("animate", scan, out, *marks, "--window", window) == 0
    assert out.read_bytes()[:6] == b"GIF89a"
    assert str(out) in capsys.readouterr().out


def test_download_unpacks_an_archive_on_disk(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import hashlib
    import tarfile

    archive = tmp_path / "Task06_Lung.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(place / "tree", "Task06_Lung", filter=lambda item: None if item.name.endswith(".lock") else item)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert run("download", tmp_path / "data", "--source", archive, "--sha256", digest) == 0
    root = tmp_path / "data" / "Task06_Lung"
    assert f"lungseg verify {root}" in capsys.readouterr().out
    assert (root / "imagesTr/lung_001.nii.gz").read_bytes() == (place / "tree/imagesTr/lung_001.nii.gz").read_bytes()
    assert run("download", tmp_path / "other", "--source", archive) == 4
    assert not (tmp_path / "other" / "Task06_Lung").exists()


@pytest.mark.parametrize(("words", "out"), [((), "demo"), (("my demo",), "my demo")])
def test_demo_prints_its_summary(
    words: tuple[str, ...], out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The whole demo takes minutes; `make demo` runs it.
    stand_in = SimpleNamespace(demo=lambda where: f"everything is in {where}")
    monkeypatch.setitem(sys.modules, "lungseg.demo", stand_in)
    assert run("demo", *words) == 0
    assert capsys.readouterr().out == f"everything is in {out}\n"


# The options that were promised, with their defaults


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sample OUT", {"cases": 12, "test_cases": 2, "shape": (256, 256, 64), "seed": 0, "workers": None}),
        ("download OUT --source kaggle:OWNER/NAME", {"source": "kaggle:OWNER/NAME"}),
        ("download OUT", {"source": "aws"}),
        ("verify ROOT --json FILE", {"json": "FILE"}),
        ("preprocess ROOT OUT", {"size": 256, "skip_slices": "30"}),
        ("preprocess ROOT OUT --skip-slices 12.5mm --workers 3", {"skip_slices": "12.5mm", "workers": 3}),
        ("train P RUN --fold 2 --loss dice_bce --epochs 4", {"fold": 2, "loss": "dice_bce", "epochs": 4}),
        (
            "train P RUN --max-minutes 1.5 --augment imgaug --splits FILE --inner-val 0",
            {"max_minutes": 1.5, "augment": "imgaug", "splits": "FILE", "inner_val": 0.0},
        ),
        ("train P RUN --recipe classic --resume", {"recipe": "classic", "resume": True}),
        ("evaluate RUN --scans ROOT", {"scans": "ROOT", "threshold": 0.5}),
        ("score P L --json FILE --csv FILE", {"json": "FILE", "csv": "FILE"}),
        ("predict RUN SCAN OUT.nii.gz --threshold 0.3", {"threshold": 0.3}),
        (
            "animate SCAN OUT.gif --mask M --truth L --every 2 --fps 5",
            {"mask": "M", "truth": "L", "every": 2, "fps": 5},
        ),
        ("animate SCAN OUT.gif", {"window": "lung"}),
        ("reproduce OUT", {"source": "aws", "recipe": "strong", "folds": "all", "skip_slices": "30", "plan": False}),
        (
            "reproduce OUT --plan --source TREE --recipe demo --epochs 2 --folds 0,1 --splits FILE --skip-slices 0",
            {"plan": True, "source": "TREE", "recipe": "demo", "epochs": 2, "folds": "0,1", "splits": "FILE"},
        ),
        ("demo", {"out": "demo"}),
    ],
)
def test_promised_options(line: str, expected: dict[str, object]) -> None:
    found = vars(build_parser().parse_args(line.split()))
    assert {name: found[name] for name in expected} == expected


# Exit codes and the form of errors


@pytest.mark.parametrize(
    "line",
    [
        "",
        "segment",
        "verify",
        "verify ROOT --quick",
        "train P RUN --recipe best",
        "train P RUN --loss mse",
        "train P RUN --epochs 0",
        "train P RUN --inner-val 1",
        "train P RUN --max-minutes nan",
        "sample OUT --cases none",
        "sample OUT --shape 10 10",
        "evaluate RUN --threshold 1.2",
        "reproduce",
        "reproduce OUT --recipe best",
        "animate S O.gif --fps 0",
    ],
)
def test_row_48_usage_that_can_not_be_meant_is_one_line_and_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == ""
    assert re.fullmatch(r"lungseg( \w+)?: .*See `lungseg( \w+)? --help`\.\n", said.err)


@pytest.mark.parametrize(
    "line",
    [
        "verify MISSING",
        "preprocess MISSING OUT",
        "train MISSING RUN",
        "evaluate MISSING",
        "score MISSING MISSING",
        "predict MISSING SCAN.nii.gz OUT.nii.gz",
        "animate MISSING.nii.gz OUT.gif",
        "animate MISSING.nii.gz OUT.gif --window bone",
        "animate MISSING.nii.gz OUT.gif --window 400,-1000",
        "download OUT --source MISSING.tar",
        "download OUT --source http://example.org/a.tar",
        "preprocess . OUT --skip-slices some",
    ],
)
def test_row_48_missing_paths_and_unusable_values_are_2(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = line.split()
    assert main(words) == 2
    said = one_line(capsys.readouterr().err, words[0])
    if "MISSING" in words[1] and "--window" not in words:
        assert "MISSING" in said


def test_a_bad_scan_is_3_and_the_good_ones_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = write_tree(tmp_path / "tree")
    broken = tree / "imagesTr" / "lung_002.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-200])
    assert run("verify", tree, "--workers", 1) == 3
    assert "lung_002.nii.gz" in capsys.readouterr().out
    assert run("preprocess", tree, tmp_path / "p", "--size", 16, "--skip-slices", 0, "--workers", 1) == 3
    said = capsys.readouterr()
    assert "3 cases, 2 labelled" in said.out and "Traceback" not in said.err
    assert sorted(json.loads((tmp_path / "p" / "manifest.json").read_text())["cases"]) == [
        "lung_001",
        "lung_003",
        "lung_004",
    ]


def test_a_changed_checkpoint_is_4(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = shutil.copytree(place / "run", tmp_path / "run")
    best = changed / "checkpoints" / "best.ckpt"
    data = bytearray(best.read_bytes())
    data[len(data) // 2] ^= 1
    best.write_bytes(data)
    scan = place / "tree" / "imagesTs" / "lung_004.nii.gz"
    assert run("predict", changed, scan, tmp_path / "m.nii.gz", "--device", "cpu") == 4
    assert "best.ckpt" in one_line(capsys.readouterr().err, "predict")
    assert not (tmp_path / "m.nii.gz").exists()


def test_a_folder_that_another_process_writes_is_5(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder_lock(tmp_path / "out", stage="test"):
        assert run("preprocess", place / "tree", tmp_path / "out", "--size", 32, "--skip-slices", 0) == 5
    assert "another lungseg process" in one_line(capsys.readouterr().err, "preprocess")


ERRORS = [
    (UsageError.of("x", "is wrong"), 2),
    (DataError.of("x", "is wrong"), 3),
    (IntegrityError.of("x", "is wrong"), 4),
    (MachineError.of("x", "is wrong"), 5),
    (TrainingError.of("x", "is wrong"), 1),
    (OSError(28, "No space left on device", "file"), 5),
    (FileNotFoundError(2, "No such file", "file"), 2),
    (MemoryError(), 5),
    (ZeroDivisionError("a\nfault"), 1),
    (KeyboardInterrupt(), 130),
]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Lets ``lungseg demo`` fail with an error of choice."""

    def fail_with(error: BaseException) -> None:
        def demo(out: str) -> None:
            raise error

        monkeypatch.setitem(sys.modules, "lungseg.demo", SimpleNamespace(demo=demo))

    return fail_with


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_kind_of_error_has_its_code_and_one_line(
    error: BaseException, code: int, failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)
    assert run("demo") == code
    one_line(capsys.readouterr().err, "demo")


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_debug_shows_the_traceback_and_keeps_the_code(
    error: BaseException, code: int, failing: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)
    assert run("demo", "--debug") == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback") and lines[-1].startswith("lungseg demo: ")


def test_the_main_thread_is_not_needed(place: Path) -> None:
    import threading

    codes = []
    thread = threading.Thread(target=lambda: codes.append(run("verify", place / "tree", "--workers", 1)))
    thread.start()
    thread.join()
    assert codes == [0]


# Signals and pipes, in a real process


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """Takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        yield server


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_row_48_a_waiting_download_ends_on_a_signal(
    number: signal.Signals, code: int, silent_server: socket.socket, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{silent_server.getsockname()[1]}/Task06_Lung.tar"
    process = start("download", tmp_path / "out", "--source", address, "--sha256", "0" * 64)
    with silent_server.accept()[0]:
        process.send_signal(number)
        returned, out, err = finish(process)
    assert (returned, out) == (code, "")
    assert "the same command goes on" in one_line(err.splitlines()[-1], "download")
    assert "Traceback" not in err


@posix
@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_row_48_work_on_several_processes_ends_on_a_signal(
    number: signal.Signals, code: int, whole_group: bool, tmp_path: Path
) -> None:
    # A terminal sends Ctrl-C to the whole group, `kill` to one process.
    out = tmp_path / "sample"
    big = ("--cases", 40, "--shape", 192, 192, 64, "--workers", 2)
    process = start("sample", out, *big, start_new_session=True)
    while not (out / "imagesTs").exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)  # workers are being started
    started = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    returned, _, err = finish(process)
    assert returned == code
    assert time.monotonic() - started < 10
    assert "Traceback" not in err and "Exception" not in err
    assert "the same command goes on" in err.splitlines()[-1]
    # `finish` returns when nobody holds standard error any more, so no worker is left either.
    assert not (out / "dataset.json").exists()


@posix
@pytest.mark.parametrize("words", [("--help",), ("verify", "--workers", "1", "TREE")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_row_48_a_closed_pipe_is_no_error(words: tuple[str, ...], unbuffered: str, place: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = tuple(str(place / "tree") if word == "TREE" else word for word in words)
    process = start(*words, stdout=writing, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    os.close(writing)
    returned, _, err = finish(process)
    assert returned == 0
    assert "Traceback" not in err and "BrokenPipe" not in err


def test_a_terminal_that_lacks_a_letter_gets_an_escape(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "Lungenöl 肺", cases=1, test_cases=0)
    (tree / "labelsTr" / "lung_001.nii.gz").unlink()
    process = start("verify", tree, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    returned, out, err = finish(process)
    assert returned == 3 and "Traceback" not in err
    assert (out + err).isascii()


def test_the_installed_command_is_the_same(place: Path) -> None:
    command = Path(sys.executable).with_name("lungseg" + (".exe" if os.name == "nt" else ""))
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    done = subprocess.run([command, "verify", "missing"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    one_line(done.stderr, "verify")


# Odd names


ODD_NAMES = [
    "with spaces",
    "肺 CT ñ",
    "-leading dash",
    "--debug",
    "new\nline",
    "tab\tand\x1b[31mcolour",
    "[a]*?{b}",
    "$HOME",
]


@posix
@pytest.mark.parametrize("name", ODD_NAMES)
def test_row_49_odd_names_work_and_are_escaped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_volume(tmp_path / name / f"{name}.nii.gz", chest_like((20, 20, 6)))
    label = np.zeros((20, 20, 6), np.uint8)
    label[8:12, 8:12, 2:4] = 1
    write_volume(tmp_path / name / f"{name}_label.nii.gz", label)
    assert run("verify", "--workers", 1, "--json", "v.json", "--", name) == 0
    assert json.loads(Path("v.json").read_text())["cases"] == [name]
    assert run("preprocess", "--size", 16, "--skip-slices", 0, "--workers", 1, "--", name, f"{name} out") == 0
    assert json.loads((tmp_path / f"{name} out" / "manifest.json").read_text())["cases"].keys() == {name}
    scan, gif = f"{name}/{name}.nii.gz", f"{name}.gif"
    assert run("animate", "--", scan, gif) == 0
    assert Path(gif).exists()
    assert run("animate", "--", scan, f"{name}.txt") == 2
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).splitlines())
    assert "\x1b" not in said.out + said.err
    assert len([line for line in said.out.splitlines() if line.endswith(".gif")]) == 1


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no names that are no UTF-8")
def test_row_49_a_name_that_is_no_text_works(place: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    shutil.copytree(place / "tree", tmp_path / name)
    returned, out, err = finish(start("verify", tmp_path / name, "--workers", 1))
    assert returned == 0, err
    assert "4 cases: 0 errors" in out


@posix
def test_row_49_an_unknown_argument_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "root", "--new\nline\x1b[31m"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\x1b" not in said
