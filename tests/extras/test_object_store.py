"""An S3 store over HTTPS: the same trees, byte for byte, as on a disk (``make test-stream``).

The store is moto's server, reached as S3 would be by s3fs and LitData.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("s3fs", reason="needs s3fs")
pytest.importorskip("moto.server", reason="needs moto[server]")
pytest.importorskip("boto3", reason="needs boto3")

from lungseg import preprocess_case
from lungseg.cli import main
from lungseg.manifest import Manifest
from lungseg.predict import predict
from lungseg.preprocess import preprocess
from lungseg.records import read_json
from lungseg.score import score
from lungseg.verify import verify
from tests.dask_processes import DaskProcesses
from tests.extras.s3_server import BUCKET, Store, s3_server
from tests.known_network import write_run
from tests.volumes import tree_bytes, write_damaged_tree

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with s3_server(tmp_path_factory.mktemp("server")) as store:
        yield store


@pytest.fixture(scope="module")
def cluster(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with DaskProcesses(tmp_path_factory.mktemp("dask"), nanny=False) as processes:
        yield processes.address


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five labelled scans and a test scan, one of them cut off."""
    return write_damaged_tree(tmp_path_factory.mktemp("scans") / "root", cases=5)


@pytest.fixture(scope="module")
def remote(store: Store, root: Path) -> str:
    return store.upload(root, "root")


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_slices_are_those_of_a_disk_and_a_rerun_makes_what_is_missing(
    store: Store, cluster: str, root: Path, remote: str, tmp_path: Path, where: str
) -> None:
    options: dict[str, Any] = {"size": 16, "skip_slices": 2}
    there = {"cluster": cluster} if where == "cluster" else {"workers": 1}
    one = preprocess(root, tmp_path / "one", **options, workers=1)
    wanted = tree_bytes(tmp_path / "one")
    out = f"s3://{BUCKET}/out-{where}"
    done = preprocess(remote, out, **options, **there)
    assert done.exit_code == one.exit_code == 3 and "lung_003" in done.manifest.failed and done.reused == ()
    assert store.tree(f"out-{where}") == wanted
    again = preprocess(remote, out, **options, **there)
    assert len(again.reused) == len(again.manifest.cases) == 5
    store.remove(f"out-{where}/lung_004/case.json")
    store.remove(f"out-{where}/lung_002/images/004.npy")
    store.put(f"out-{where}/lung_005/masks/005.npy", b"damaged")
    again = preprocess(remote, out, **options, **there)
    assert set(again.manifest.cases) - set(again.reused) == {"lung_002", "lung_004", "lung_005"}
    assert store.tree(f"out-{where}") == wanted
    assert store.tree("root") == tree_bytes(root)  # the data is as it was


def test_verify_says_the_same(store: Store, cluster: str, root: Path, remote: str, tmp_path: Path) -> None:
    wanted = verify(root, workers=1)
    report = f"s3://{BUCKET}/reports/found.json"
    found = verify(remote, cluster=cluster, json_file=report)
    assert found.cases == wanted.cases and found.errors == wanted.errors == 1
    assert [(p.code, p.case) for p in found.problems] == [(p.code, p.case) for p in wanted.problems]
    assert read_json(report)["errors"] == 1


def test_masks_records_pages_and_scores_are_those_of_a_disk(
    store: Store, cluster: str, root: Path, remote: str, tmp_path: Path
) -> None:
    preprocess(root, tmp_path / "slices", size=32, skip_slices=2, workers=1)
    write_run(tmp_path / "run", Manifest.read(tmp_path / "slices"))
    one = predict(tmp_path / "run", root, tmp_path / "masks", device="cpu", report=True)
    many = predict(tmp_path / "run", remote, f"s3://{BUCKET}/masks", device="cpu", report=True, cluster=cluster)
    assert [done.case for done in many.predictions] == [done.case for done in one.predictions]
    masks = tree_bytes(tmp_path / "masks")
    assert store.tree("masks") == masks
    records = {"json_file": tmp_path / "s.json", "csv_file": tmp_path / "s.csv"}
    wanted = score(tmp_path / "masks", root / "labelsTr", workers=1, **records)
    there = {"json_file": f"s3://{BUCKET}/reports/s.json", "csv_file": f"s3://{BUCKET}/reports/s.csv"}
    found = score(f"s3://{BUCKET}/masks", f"{remote}/labelsTr", cluster=cluster, **there)
    assert found.cases == wanted.cases and found.summary == wanted.summary
    for name in ("s.json", "s.csv"):
        assert store.read(f"reports/{name}") == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({}, 2, "no such bucket"),
        ({"AWS_ENDPOINT_URL": "https://127.0.0.1:9"}, 5, "could not connect to the endpoint"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 5, "credentials"),
    ],
)
def test_a_store_that_refuses_is_said_in_one_line(
    store: Store, root: Path, environment: dict[str, str], code: int, said: str
) -> None:
    words = [sys.executable, "-m", "lungseg.cli", "preprocess", str(root), "s3://nothing/out"]
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 and "s3://nothing/out: " in done.stderr and said in done.stderr.lower()


def test_a_store_that_is_gone_in_the_middle_fails_the_cases_that_it_has(
    store: Store, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import EndpointConnectionError

    def gone(path: Path, *_: object) -> None:
        if "lung_002" in str(path):
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")
        return read(path, *_)

    read = preprocess_case.read_scan
    monkeypatch.setattr(preprocess_case, "read_scan", gone)
    done = preprocess(remote, tmp_path / "out", size=16, skip_slices=2, workers=1)
    assert done.exit_code == 5 and set(done.manifest.failed) == {"lung_002", "lung_003"}


def test_what_wants_a_file_system_says_so(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "slices").mkdir()
    for words in (["train", str(tmp_path / "slices")], ["evaluate"], ["sample"]):
        assert main([*words, f"s3://{BUCKET}/run"]) == 2
        assert f"s3://{BUCKET}/run: is an address of a store" in capsys.readouterr().err
    assert not Path("s3:").exists()


def test_nothing_of_an_older_run_stays_where_workers_have_looked_before(
    store: Store, cluster: str, root: Path, remote: str, tmp_path: Path
) -> None:
    out = f"s3://{BUCKET}/again"
    for skip in (2, 5, 0):
        preprocess(remote, out, size=16, skip_slices=skip, rebuild=True, cluster=cluster)
        preprocess(root, tmp_path / f"skip-{skip}", size=16, skip_slices=skip, workers=1)
        assert store.tree("again") == tree_bytes(tmp_path / f"skip-{skip}"), skip


def test_a_run_streams_from_the_store_and_goes_on(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("litdata", reason="needs the extra lungseg[stream]")
    from lungseg.shard import shard
    from lungseg.train import train
    from tests.processed import write_processed
    from tests.training import TINY, same_weights

    cases = {f"lung_{number:03d}": [0] * 18 + [60 + number, 90] for number in range(1, 7)}
    write_processed(tmp_path / "processed", cases)
    shard(tmp_path / "processed", tmp_path / "shards")
    address = f"s3://{BUCKET}/shards"
    done = shard(store.upload(tmp_path / "processed", "processed"), address)
    assert store.tree("shards") == tree_bytes(tmp_path / "shards") and shard(tmp_path / "processed", address) == done
    recipe = TINY.but(epochs=2, schedule="one_cycle", optimizer="adamw", batch_size=16)
    here = train(tmp_path / "shards", tmp_path / "here", recipe=recipe, device="cpu")
    there = train(address, tmp_path / "there", recipe=recipe, device="cpu")
    assert same_weights(here.last, there.last)
    calls = iter(range(1000))
    with pytest.MonkeyPatch().context() as patched:

        def stop(*_: object) -> None:
            if next(calls) == 7:
                raise KeyboardInterrupt

        patched.setattr("lungseg.callbacks.NonFiniteGuard.on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(address, tmp_path / "cut", recipe=recipe, device="cpu")
    assert same_weights(train(address, tmp_path / "cut", device="cpu", resume=True).last, here.last)
