"""The source kaggle, through a stand-in of Kaggle's client: nothing is asked of the network."""

from __future__ import annotations

import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lungseg.archive import damaged_files
from lungseg.download import download
from lungseg.errors import IntegrityError, MachineError, UsageError
from lungseg.kaggle_client import fetch_kaggle

from .malicious_tars import GOOD_FILES
from .misbehaving_server import files_below

Install = Callable[..., list[tuple[str, str]]]


def pack(path: Path, names: dict[str, bytes] = GOOD_FILES, prefix: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in names.items():
            archive.writestr(prefix + name, content)


def leave() -> None:
    """What some versions of the client do where there are no credentials."""
    print("Could not find kaggle.json")
    sys.exit(1)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a client in place that logs in and downloads as told; returns the list of what is asked of it."""

    def do(download: Callable[[Path], object] = pack, log_in: Callable[[], object] = lambda: None):  # type: ignore[no-untyped-def]
        asked: list[tuple[str, str]] = []

        class KaggleApi:
            def authenticate(self) -> None:
                log_in()

            def dataset_download_files(self, dataset: str, path: str, quiet: bool, unzip: bool) -> None:
                assert not unzip  # unpacking is not left to the client
                asked.append((dataset, path))
                print("Dataset URL: ...")
                download(Path(path) / f"{dataset.rpartition('/')[2]}.zip")

        for name in ("kaggle", "kaggle.api", "kaggle.api.kaggle_api_extended"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setattr(sys.modules["kaggle.api.kaggle_api_extended"], "KaggleApi", KaggleApi, raising=False)
        return asked

    return do


def test_the_zip_comes_where_it_is_wanted_and_standard_output_stays_clean(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = install()
    assert fetch_kaggle("some-one/lung_ct", tmp_path) == tmp_path / "lung_ct.zip"
    assert asked == [("some-one/lung_ct", str(tmp_path))]
    captured = capsys.readouterr()
    assert captured.out == "" and "Dataset URL" in captured.err


@pytest.mark.parametrize("name", ["", "lung", "a/b/c", "../b", "a/..", "a b/c", "a/b\n", "https://x/y", "-/", "ü/b"])
def test_a_name_of_another_form_is_refused_before_the_client_is_asked(
    install: Install, tmp_path: Path, name: str
) -> None:
    asked = install()
    with pytest.raises(UsageError) as caught:
        fetch_kaggle(name, tmp_path)
    assert caught.value.problem.code == "bad-source"
    assert caught.value.problem.expected == "kaggle:OWNER/NAME"
    assert asked == []


def test_a_client_that_is_not_installed_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("kaggle", "kaggle.api", "kaggle.api.kaggle_api_extended"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError) as caught:
        download(tmp_path, source="kaggle:a/b")
    assert caught.value.exit_code == 2
    assert "pip install 'lungseg[kaggle]'" in caught.value.problem.mend
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("log_in", [leave, lambda: (_ for _ in ()).throw(OSError("Could not find kaggle.json\nmore"))])
def test_missing_credentials_are_said_and_end_nothing(
    install: Install, tmp_path: Path, log_in: Callable[[], object]
) -> None:
    asked = install(log_in=log_in)
    with pytest.raises(UsageError) as caught:
        fetch_kaggle("a/b", tmp_path)
    assert caught.value.problem.code == "no-kaggle-credentials"
    assert "token" in caught.value.problem.mend and "\n" not in str(caught.value)
    assert asked == []


@pytest.mark.parametrize("error", [RuntimeError("403 Forbidden\nheaders and more"), SystemExit(1), OSError("reset")])
def test_a_client_that_fails_is_a_fault_of_the_machine(install: Install, tmp_path: Path, error: BaseException) -> None:
    def fail(_: Path) -> None:
        raise error

    install(fail)
    with pytest.raises(MachineError) as caught:
        fetch_kaggle("a/b", tmp_path)
    assert caught.value.exit_code == 5 and "\n" not in str(caught.value)
    assert caught.value.problem.found == str(error).split("\n")[0]


def test_an_interruption_is_not_taken_for_a_fault_of_the_client(install: Install, tmp_path: Path) -> None:
    def interrupt(_: Path) -> None:
        raise KeyboardInterrupt

    install(interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_kaggle("a/b", tmp_path)


def test_a_client_that_brings_nothing(install: Install, tmp_path: Path) -> None:
    install(lambda _: None)
    with pytest.raises(MachineError) as caught:
        fetch_kaggle("a/b", tmp_path)
    assert caught.value.problem.expected == "b.zip"


@pytest.mark.parametrize("prefix", ["", "data/", "a folder/b/"])
def test_the_dataset_is_unpacked_from_whatever_folder_of_the_zip(install: Install, tmp_path: Path, prefix: str) -> None:
    asked = install(lambda path: pack(path, prefix=prefix))
    root = download(tmp_path, source="kaggle:a/lung")
    assert files_below(tmp_path) == sorted([*GOOD_FILES, "Task06_Lung/.lungseg-download.json"])
    assert damaged_files(root, {"kaggle": "a/lung"}) == []
    assert download(tmp_path, source="kaggle:a/lung") == root
    assert len(asked) == 1
    with pytest.raises(UsageError, match="another archive"):
        download(tmp_path, source="kaggle:b/lung")
    with pytest.raises(UsageError, match="another archive"):
        download(tmp_path)


def test_the_zip_is_kept_where_that_is_asked_for(install: Install, tmp_path: Path) -> None:
    install()
    download(tmp_path, source="kaggle:a/lung", keep_archive=True)
    assert "lung.zip" in files_below(tmp_path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"label one", b"label own")),
        lambda path: path.write_bytes(b"<html>Please log in"),
        lambda path: pack(path, {**GOOD_FILES, "../../escaped.nii.gz": b"x"}),
        lambda path: pack(path, {"train.csv": b"x"}),
    ],
    ids=["cut off", "bad CRC", "web page", "leaves the folder", "another dataset"],
)
def test_a_zip_that_is_refused_is_not_found_again_by_the_next_call(
    install: Install, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    def bad(path: Path) -> None:
        pack(path)
        harm(path)

    install(bad)
    out = tmp_path / "a" / "b"
    with pytest.raises(IntegrityError) as caught:
        download(out, source="kaggle:a/lung")
    assert caught.value.exit_code == 4
    assert not (out / "lung.zip").exists() and not (out / "Task06_Lung/.lungseg-download.json").exists()
    assert [name for name in files_below(tmp_path) if "escaped" in name] == []
    install()
    download(out, source="kaggle:a/lung")
