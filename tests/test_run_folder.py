"""The record of a run (`run_folder`): what decides it, how it ended; and when it may go on (`going_on`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lungseg.checkpoint import FOLDER, save_checkpoint
from lungseg.errors import DataError, IntegrityError, UsageError
from lungseg.going_on import newest_checkpoint, refuse_other, refuse_started
from lungseg.manifest import Manifest
from lungseg.run_folder import (
    RunResult,
    begin,
    data_digest,
    describe,
    finish,
    finished,
    processed_folder,
    read_config,
)
from lungseg.splits import make_split

from .test_checkpoint import checkpoint_of
from .training import TINY, write_slices

MACHINE = {"device": "cpu", "threads": 2}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_slices(tmp_path / "processed")


@pytest.fixture
def run(tmp_path: Path, manifest: Manifest) -> Path:
    """A run that has begun."""
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    begin(run, config_of(manifest), make_split(manifest.labelled), manifest.root, MACHINE)
    return run


def config_of(manifest: Manifest, recipe=TINY, **split) -> dict:
    options = {"max_minutes": 0, "limit_batches": 0, "deterministic": False}
    return describe(recipe, make_split(manifest.labelled, **split), manifest, **options)


def test_the_config_says_what_decides_the_run(run: Path, manifest: Manifest) -> None:
    config = read_config(run)
    assert config["processed"] == "../../processed" and processed_folder(run).resolve() == manifest.root.resolve()
    assert config["recipe"]["batch_size"] == TINY.batch_size and config["data"]["settings"]["size"] == 32
    assert config["data"]["slices"] == 4 * len(make_split(manifest.labelled).train)
    assert config["machine"] == MACHINE and config["finished"] is None


def test_a_relative_way_is_from_the_run_wherever_one_stands(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    begin(Path("run"), config_of(manifest), make_split(manifest.labelled), Path("processed"), MACHINE)
    assert read_config("run")["processed"] == "../processed"
    (tmp_path / "link").symlink_to(tmp_path / "processed")
    begin(Path("run"), config_of(manifest), make_split(manifest.labelled), Path("link"), MACHINE)
    assert read_config("run")["processed"] == "../processed"


def test_the_end_is_recorded_and_read_back(run: Path) -> None:
    assert finished(run) is None
    result = RunResult(run, 3, 2, 0.5, "epochs", 0.1)
    finish(run, result)
    assert finished(run) == result
    assert str(result) == (
        "3 epochs in 0.1 minutes; best Dice of the inner validation patients 0.500 in epoch 2\n"
        f"{run / 'checkpoints' / 'best.ckpt'}"
    )
    assert "(ended by time)" in str(RunResult(run, 3, 2, None, "time", 0.1))


def test_a_run_says_whether_it_can_go_on(run: Path) -> None:
    with pytest.raises(UsageError, match=r"unfinished.*--resume"):
        refuse_started(run)
    finish(run, RunResult(run, 3, 2, 0.5, "epochs", 0.1))
    with pytest.raises(UsageError, match="already, finished") as caught:
        refuse_started(run)
    assert "--resume" not in str(caught.value)
    refuse_started(run.parent / "another")


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"format": 2, "recipe": {}}', '{"format": 1}', '{"format": NaN}'])
def test_a_damaged_config_is_refused(run: Path, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json"):
        read_config(run)


@pytest.mark.parametrize(
    "change",
    [
        {"data": None}, {"data": 5}, {"data": {"digest": "0"}}, {"data": {"settings": {}, "digest": 5}}, {"fold": None},
        {"fold": "0"}, {"n_folds": "five"}, {"n_folds": 10**400}, {"max_minutes": "x"}, {"limit_batches": [1]},
        {"earlier_machines": 5}, {"processed": "a\0b"},
    ],
)  # fmt: skip
def test_beyond_the_list_a_config_with_a_wrong_value_is_named(run: Path, change: dict) -> None:
    path = run / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError, match=r"config\.json: is no config\.json of this version .*train again"):
        read_config(run)


def test_checkpoints_of_a_run_without_its_config_are_never_written_over(run: Path) -> None:
    (run / FOLDER).mkdir()
    refuse_started(run.parent / "another")
    (run / "config.json").unlink()
    refuse_started(run)  # a kill leaves it so, before there is a checkpoint
    save_checkpoint(checkpoint_of(), run / FOLDER / "best.ckpt")
    with pytest.raises(UsageError, match=r"one: holds checkpoints, but no config\.json"):
        refuse_started(run)


def test_a_run_of_a_later_version_is_no_damaged_one(run: Path) -> None:
    path = run / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2, "lungseg": "9.0"}))
    with pytest.raises(UsageError, match=r"later version of lungseg .*version 9\.0"):
        read_config(run)


def test_slices_that_were_moved_away_are_said_with_the_way_to_them(run: Path, manifest: Manifest) -> None:
    manifest.root.rename(manifest.root.with_name("elsewhere"))
    with pytest.raises(
        DataError, match=r"one: the slices .* are not there .*\.\./\.\./processed.* Move run and slices"
    ):
        processed_folder(run)


def test_no_run_is_said_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`lungseg train`"):
        read_config(tmp_path)


def test_the_same_settings_go_on_on_another_machine_and_version(run: Path, manifest: Manifest) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "lungseg": "0.0.1", "machine": {"device": "cuda"}}))
    refuse_other(run, config_of(manifest), make_split(manifest.labelled))


def test_row_36_a_run_that_goes_on_with_another_torch_is_warned_of_and_says_so(
    run: Path, manifest: Manifest, capsys
) -> None:
    config, split = config_of(manifest), make_split(manifest.labelled)
    whole = (run / "config.json").read_bytes()
    begin(run, config, split, manifest.root, MACHINE)
    assert (run / "config.json").read_bytes() == whole and capsys.readouterr().err == ""
    for torch in ("2.12", "2.13", "2.13"):
        begin(run, config, split, manifest.root, {**MACHINE, "torch": torch})
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "torch 2.12 after None" in said[0] and "torch 2.13 after 2.12" in said[1]
    read = read_config(run)
    assert read["machine"]["torch"] == "2.13"
    assert read["earlier_machines"] == [MACHINE, {**MACHINE, "torch": "2.12"}]
    refuse_other(run, config, split)


def test_a_run_of_before_a_setting_existed_goes_on_with_its_default(run: Path, manifest: Manifest) -> None:
    config, split = config_of(manifest), make_split(manifest.labelled)
    record = json.loads((run / "config.json").read_text())
    for name in ("average", "test_mirror", "test_zooms", "draw_by"):
        del record["recipe"][name]
    del record["recipe"]["unet"]["deep"], record["recipe"]["unet"]["skip"]
    del record["recipe"]["augmentation"]["contrast"]
    (run / "config.json").write_text(json.dumps(record))
    refuse_other(run, config, split)
    with pytest.raises(UsageError, match=r"other settings: recipe\.average \(expected recipe\.average 0\.0"):
        refuse_other(run, config_of(manifest, TINY.but(average=0.9)), split)


def test_every_setting_that_differs_is_named_with_both_values(run: Path, manifest: Manifest) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_other(
            run, config_of(manifest, TINY.but(epochs=9, seed=4), fold=2), make_split(manifest.labelled, fold=2)
        )
    problem = caught.value.problem
    assert problem.code == "other-settings" and caught.value.exit_code == 2
    for name in ("recipe.epochs", "recipe.seed", "fold", "held_out patients", "data.digest"):
        assert name in problem.what
    assert "recipe.epochs 3" in problem.expected and "recipe.epochs 9" in problem.found


def test_the_datas_digest_is_of_the_hashes_of_these_cases(manifest: Manifest, tmp_path: Path) -> None:
    cases = ["lung_002", "lung_001"]
    digest = data_digest(manifest, cases)
    assert digest == data_digest(manifest, cases[::-1]) != data_digest(manifest, ["lung_001"])
    assert data_digest(write_slices(tmp_path / "same"), cases) == digest
    assert data_digest(write_slices(tmp_path / "more", 7), cases) == digest


def test_the_checkpoint_to_go_on_from_is_last_then_best_then_none(run: Path) -> None:
    folder = run / FOLDER
    folder.mkdir()
    assert newest_checkpoint(run) is None
    state = {"epoch": 0, "loops": {}, "lr_schedulers": [], "optimizer_states": [], "pytorch-lightning_version": "2"}
    save_checkpoint({**checkpoint_of(), **state}, folder / "best.ckpt")
    assert newest_checkpoint(run) == folder / "best.ckpt"
    save_checkpoint(checkpoint_of(), folder / "last.ckpt")
    with pytest.raises(IntegrityError, match=r"last\.ckpt: holds weights, but .* no epoch, loops.*delete last\.ckpt"):
        newest_checkpoint(run)
    save_checkpoint({**checkpoint_of(), **state}, folder / "last.ckpt")
    assert newest_checkpoint(run) == folder / "last.ckpt"
    (folder / "last.ckpt").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"delete last\.ckpt.*best\.ckpt"):
        newest_checkpoint(run)
    (folder / "best.ckpt").unlink()
    with pytest.raises(IntegrityError) as caught:
        newest_checkpoint(run)
    assert "delete" not in str(caught.value)
