"""Per-scan stages on a real cluster write what one machine writes, byte for byte, with a bad scan among the good."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from lungseg.cli import main
from lungseg.cluster import cluster_executor
from lungseg.crossval import crossval
from lungseg.dask_executor import DaskExecutor, _seen_here
from lungseg.ensemble import load_segmenter
from lungseg.errors import MachineError, UsageError
from lungseg.evaluate import evaluate
from lungseg.executor import run_cases
from lungseg.files import TEMPORARY_PREFIX
from lungseg.manifest import Manifest
from lungseg.nifti import read_scan
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.score import score
from lungseg.verify import verify
from lungseg.worker_network import WorkerNetwork

from . import folder_store
from .dask_processes import DaskProcesses
from .known_network import write_run
from .training import TINY
from .volumes import tree_bytes, write_damaged_tree


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with DaskProcesses(tmp_path_factory.mktemp("dask"), nanny=False, preload="tests.folder_store") as processes:
        yield processes.address


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled scans and a test scan, one of them cut off."""
    return write_damaged_tree(tmp_path_factory.mktemp("scans") / "root", cases=6)


def test_preprocess_writes_the_same_bytes_and_a_rerun_only_what_is_missing(
    cluster: str, root: Path, tmp_path: Path
) -> None:
    one = preprocess(root, tmp_path / "one", size=16, skip_slices=2, workers=1)
    many = preprocess(root, tmp_path / "many", size=16, skip_slices=2, cluster=cluster)
    assert many.problems == one.problems and many.exit_code == one.exit_code == 3
    assert "lung_003" in many.manifest.failed and len(many.manifest.cases) == 6
    wanted = tree_bytes(tmp_path / "one")
    assert tree_bytes(tmp_path / "many") == wanted

    (tmp_path / "many/lung_002/images/004.npy").unlink()
    (tmp_path / "many/lung_004/case.json").unlink()
    (tmp_path / "many/lung_005/masks/005.npy").write_bytes(b"damaged")
    again = preprocess(root, tmp_path / "many", size=16, skip_slices=2, cluster=cluster)
    assert set(again.manifest.cases) - set(again.reused) == {"lung_002", "lung_004", "lung_005"}
    assert tree_bytes(tmp_path / "many") == wanted


def test_what_a_dead_worker_left_half_done_is_gone_when_the_run_ends(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    class Dying(ThreadPoolExecutor):
        """Leaves what a worker would that is killed while it makes a case."""

        def submit(self, function, *arguments):  # type: ignore[no-untyped-def,override]
            left = out / f"{TEMPORARY_PREFIX}dead/lung_001/images"
            left.mkdir(parents=True, exist_ok=True)
            (left / "004.npy").write_bytes(b"half")
            return super().submit(function, *arguments)

    @contextlib.contextmanager
    def dying(address: str | None, **_: object) -> Iterator[ThreadPoolExecutor]:
        with Dying(1) as executor:
            yield executor

    preprocess(root, tmp_path / "one", size=16, skip_slices=2, workers=1)
    monkeypatch.setattr(sys.modules["lungseg.preprocess"], "cluster_executor", dying)  # the package has the function
    preprocess(root, out, size=16, skip_slices=2, cluster="tcp://127.0.0.1:1")
    assert tree_bytes(out) == tree_bytes(tmp_path / "one")


def test_workers_read_from_a_store_and_write_to_one(cluster: str, root: Path, tmp_path: Path) -> None:
    preprocess(root, tmp_path / "one", size=16, skip_slices=2, workers=1)
    scans, out = (f"{folder_store.SCHEME}://{path}" for path in (root, tmp_path / "out"))
    done = preprocess(scans, out, size=16, skip_slices=2, cluster=cluster)
    assert len(done.manifest.cases) == 6 and done.reused == ()
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "one")
    (tmp_path / "out/lung_004/case.json").unlink()
    again = preprocess(scans, out, size=16, skip_slices=2, cluster=cluster)
    assert set(again.manifest.cases) - set(again.reused) == {"lung_004"}
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "one")


def test_verify_and_score_say_the_same(cluster: str, root: Path) -> None:
    assert verify(root, cluster=cluster) == verify(root, workers=1)
    labels = root / "labelsTr"
    assert score(labels, labels, cluster=cluster) == score(labels, labels, workers=1)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices, a run whose network is known, and a cross-validated one."""
    folder = tmp_path_factory.mktemp("trained")
    preprocess(root, folder / "slices", size=32, skip_slices=2, workers=1)
    write_run(folder / "run", Manifest.read(folder / "slices"))
    recipe = TINY.but(epochs=1, inner_val=0.0, augment="none")
    crossval(folder / "slices", folder / "folds", recipe=recipe, n_folds=2, device="cpu")
    return folder


@pytest.mark.usefixtures("one_thread")
def test_predict_writes_the_same_masks_records_and_pages(
    cluster: str, root: Path, trained: Path, tmp_path: Path
) -> None:
    one = predict(trained / "run", root, tmp_path / "one", device="cpu", report=True)
    many = predict(trained / "run", root, tmp_path / "many", device="cpu", report=True, cluster=cluster)
    assert many.problems == one.problems and many.exit_code == one.exit_code == 3
    assert [done.case for done in many.predictions] == [done.case for done in one.predictions]
    assert tree_bytes(tmp_path / "many") == tree_bytes(tmp_path / "one") and len(many.predictions) == 6
    with pytest.raises(UsageError, match="single scan"):
        scan = root / "imagesTr/lung_001.nii.gz"
        predict(trained / "run", scan, tmp_path / "mask.nii.gz", device="cpu", cluster=cluster)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["run", "folds"])
def test_evaluate_writes_the_same_scores_and_report(cluster: str, trained: Path, name: str) -> None:
    run = trained / name
    evaluate(run, device="cpu")
    wanted = tree_bytes(run)
    for path in run.rglob("evaluation/*.*"):
        path.unlink()
    for path in run.rglob("out_of_fold/*.np*"):
        path.unlink()
    assert tree_bytes(run) != wanted
    evaluate(run, device="cpu", cluster=cluster)
    assert tree_bytes(run) == wanted


@pytest.mark.usefixtures("one_thread")
def test_evaluate_reads_scans_again_on_the_workers(cluster: str, root: Path, trained: Path) -> None:
    one = evaluate(trained / "run", device="cpu", scans=root, report=False)
    assert evaluate(trained / "run", device="cpu", scans=root, report=False, cluster=cluster).cases == one.cases


def test_a_worker_that_finds_other_weights_says_so(trained: Path) -> None:
    segmenter, _ = load_segmenter(trained / "run", device="cpu")
    right = WorkerNetwork.of(segmenter, trained / "run", device="cpu")
    assert right.load() is right.load()
    with pytest.raises(MachineError, match="other weights"):
        replace(right, model=right.model.replace("sha256", "sha")).load()


def test_the_command_line_takes_the_address(
    cluster: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(root), "--json", str(tmp_path / "found.json"), "--cluster", cluster]) == 3
    assert "lung_003" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["errors"] == 1


def test_without_dask_the_extra_is_named(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["verify", str(root), "--cluster", "tcp://127.0.0.1:1"]) == 2
    assert "pip install lungseg[cluster]" in capsys.readouterr().err


def test_relative_folders_are_found_where_the_command_was_given(
    cluster: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(root, tmp_path / "one", size=16, skip_slices=2, workers=1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(root.parent)
    out = Path("..") / tmp_path.relative_to(root.parents[1]) / "here/out"
    done = preprocess(root.name, out, size=16, skip_slices=2, cluster=cluster)
    assert all(problem.file.startswith(f"{root.name}/") for problem in done.problems)
    assert tree_bytes(tmp_path / "here/out") == tree_bytes(tmp_path / "one")


def test_a_folder_that_workers_do_not_see_is_said(
    cluster: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "a.nii.gz"
    with cluster_executor(cluster) as executor:
        (done,) = run_cases(read_scan, {"a": missing}, executor=executor)
    assert done.error is not None and done.error.problem.code == "missing-file"  # for nobody is it there
    assert not isinstance(done.error, MachineError)
    missing.touch()  # what the worker answered of a file that this machine has
    unseen = _seen_here(done).error
    assert type(unseen) is MachineError and "a worker does not see it" in str(unseen) and "same path" in str(unseen)
    monkeypatch.chdir(tmp_path)
    executor = DaskExecutor(cluster, folder=str(tmp_path / "gone"))
    with pytest.raises(MachineError, match=r"gone: a worker does not see it.*same path"):
        list(run_cases(read_scan, {"a": Path("a.nii.gz")}, executor=executor))
    executor.shutdown()
