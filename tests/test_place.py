"""Object stores by their addresses: the same results as in a folder, each object whole or not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from lungseg.cli import main
from lungseg.errors import DataError, MachineError, UsageError
from lungseg.executor import run_cases
from lungseg.files import atomic_path
from lungseg.manifest import Manifest
from lungseg.nifti import read_scan
from lungseg.place import is_remote, local, place
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.records import read_json, write_json
from lungseg.score import score
from lungseg.tree import read_tree
from lungseg.verify import verify

from .known_network import write_run
from .volumes import tree_bytes, write_damaged_tree


@pytest.fixture
def store() -> Iterator[str]:
    """An empty store in memory; its address."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield "memory://bucket"
    system.store.clear()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_damaged_tree(tmp_path_factory.mktemp("scans") / "root", cases=4)


def upload(root: Path, address: str) -> None:
    for name, data in tree_bytes(root).items():
        fsspec.filesystem("memory").pipe_file(f"{address}/{name}", data)


def objects(address: str) -> dict[str, bytes]:
    """Every object below an address, as :func:`tree_bytes` says it of a folder."""
    system = fsspec.filesystem("memory")
    top = system._strip_protocol(address)
    return {name[len(top) + 1 :]: system.cat_file(name) for name in system.find(top)}


def test_names_are_told_from_addresses(tmp_path: Path) -> None:
    assert not any(map(is_remote, ("a/b", "/a", "C:\\scans", "C://scans", ".", str(tmp_path))))
    assert all(map(is_remote, ("s3://bucket/a", "memory://a", "gs://b")))
    assert place("a/b") == Path("a/b") and place(tmp_path) is tmp_path
    assert place(f"file://{tmp_path}") == tmp_path and not is_remote(place(f"file://{tmp_path}"))
    remote = place("memory://bucket/a")
    assert is_remote(remote) and str(remote / "b.nii.gz") == "memory://bucket/a/b.nii.gz"
    with pytest.raises(UsageError, match="store's client"):
        place("nope://bucket")


def test_an_object_is_written_whole_or_not_at_all(store: str) -> None:
    write_json(f"{store}/a.json", {"a": 1})
    assert read_json(f"{store}/a.json") == {"a": 1}
    with pytest.raises(ZeroDivisionError), atomic_path(f"{store}/a.json") as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert objects(store) == {"a.json": b'{\n "a": 1\n}\n'}
    with pytest.raises(UsageError, match="no such file"):
        read_json(f"{store}/b.json")


def test_a_scan_is_read_from_a_store_and_its_faults_are_named(store: str, root: Path) -> None:
    upload(root, store)
    here, there = read_scan(root / "imagesTr/lung_001.nii.gz"), read_scan(f"{store}/imagesTr/lung_001.nii.gz")
    assert (there.bytes, there.hash, there.name) == (here.bytes, here.hash, here.name)
    assert (there.voxels == here.voxels).all()
    with pytest.raises(DataError, match=r"memory://bucket/imagesTr/lung_003.nii.gz: the gzip stream is cut off"):
        read_scan(f"{store}/imagesTr/lung_003.nii.gz")
    with pytest.raises(UsageError, match="no such file"):
        read_scan(f"{store}/imagesTr/lung_009.nii.gz")


def test_verify_and_score_say_the_same_of_a_store(store: str, root: Path) -> None:
    upload(root, store)
    assert verify(store, workers=1).as_dict() == verify(root, workers=1).as_dict()
    labels = score(f"{store}/labelsTr", f"{store}/labelsTr", workers=1)
    assert labels.cases == score(root / "labelsTr", root / "labelsTr", workers=1).cases
    assert [case.name for case in read_tree(store).cases] == [case.name for case in read_tree(root).cases]
    with pytest.raises(UsageError, match="no such folder"):
        verify("memory://elsewhere")


def test_preprocess_from_store_to_store_writes_the_same_objects(store: str, root: Path, tmp_path: Path) -> None:
    upload(root, f"{store}/scans")
    one = preprocess(root, tmp_path / "one", size=16, skip_slices=2, workers=1)
    out = f"{store}/out"
    many = preprocess(f"{store}/scans", out, size=16, skip_slices=2, workers=1)
    wanted = tree_bytes(tmp_path / "one")
    assert many.exit_code == one.exit_code == 3 and objects(out) == wanted
    assert Manifest.read(out).cases == one.manifest.cases

    system = fsspec.filesystem("memory")
    system.rm_file(f"{out}/lung_001/images/004.npy")
    system.pipe_file(f"{out}/lung_002/case.json", b"damaged")
    system.pipe_file(f"{out}/lung_002/images/999.npy", b"stale")
    again = preprocess(f"{store}/scans", out, size=16, skip_slices=2, workers=1)
    assert set(again.manifest.cases) - set(again.reused) == {"lung_001", "lung_002"}
    assert objects(out) == wanted
    with pytest.raises(UsageError, match="other settings"):
        preprocess(f"{store}/scans", out, size=32, skip_slices=2, workers=1)
    with pytest.raises(UsageError, match="one in the other"):
        preprocess(f"{store}/scans", f"{store}/scans/out", size=16)


def test_a_case_that_fails_later_is_taken_out_of_the_store(store: str, root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "copy")
    out = f"{store}/out"
    preprocess(copy, out, size=16, skip_slices=2, workers=1)
    bad = copy / "imagesTr/lung_004.nii.gz"
    bad.write_bytes(bad.read_bytes()[:-9])
    preprocess(copy, out, size=16, skip_slices=2, workers=1)
    preprocess(copy, tmp_path / "fresh", size=16, skip_slices=2, workers=1)
    assert objects(out) == tree_bytes(tmp_path / "fresh")


def test_a_kill_between_two_objects_leaves_no_record(store: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, count = place(store).fs, 0  # type: ignore[attr-defined]
    put = system.pipe_file

    def put_some(path: str, value: bytes, **options: object) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        put(path, value, **options)

    monkeypatch.setattr(system, "pipe_file", put_some)
    with pytest.raises(KeyboardInterrupt):
        preprocess(root, f"{store}/out", size=16, skip_slices=2, workers=1)
    names = list(objects(f"{store}/out"))
    assert len(names) == 4 and not [name for name in names if name.endswith(".json")]


@pytest.mark.usefixtures("one_thread")
def test_predict_from_store_to_store_writes_the_same_objects(store: str, root: Path, tmp_path: Path) -> None:
    upload(root, f"{store}/scans")
    manifest = preprocess(root, tmp_path / "slices", size=32, skip_slices=2, workers=1).manifest
    run = write_run(tmp_path / "run", manifest)
    predict(run, root, tmp_path / "one", device="cpu", report=True)
    words = ["--device", "cpu", "--report"]
    assert main(["predict", str(run), f"{store}/scans", f"{store}/masks", *words]) == 3
    assert objects(f"{store}/masks") == tree_bytes(tmp_path / "one")
    before = objects(f"{store}/masks")
    assert main(["predict", str(run), f"{store}/scans/imagesTr/lung_001.nii.gz", f"{store}/one.nii.gz", *words]) == 0
    assert objects(store)["one.nii.gz"] == before["lung_001.nii.gz"]


def test_a_stores_own_errors_are_of_the_machine_and_fail_a_case_alone() -> None:
    gone = type("EndpointConnectionError", (Exception,), {"__module__": "botocore.exceptions"})

    def work(name: str) -> str:
        if name == "b":
            raise gone("Could not connect")
        return name

    done = {outcome.case: outcome for outcome in run_cases(work, {"a": "a", "b": "b"}, workers=1)}
    assert done["a"].result == "a"
    error = done["b"].error
    assert type(error) is MachineError and "Could not connect" in str(error) and error.problem.case == "b"


def test_a_store_that_does_not_answer_is_named_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, path: str, **_: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", refuse)
    with pytest.raises(MachineError, match=r"memory://bucket/a: the store refuses.*Access Denied"):
        place("memory://bucket/a")


def test_what_has_to_be_of_this_machine_is_no_address(tmp_path: Path) -> None:
    assert local(str(tmp_path)) == local(tmp_path) == tmp_path
    for name in ("s3://bucket/run", place("memory://bucket/run")):
        with pytest.raises(UsageError, match="which this can not be"):
            local(name)
