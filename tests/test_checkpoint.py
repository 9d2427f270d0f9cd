"""Checkpoints: whole or refused, and nothing in them ever runs (rows 37 and 39 to 41)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle  # noqa: TID251 (to make what must be refused)
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lungseg.checkpoint
from lungseg.checkpoint import digest_file, load_checkpoint, load_model, save_checkpoint
from lungseg.config import Recipe, UNetConfig, to_dict
from lungseg.errors import IntegrityError, MachineError, TrainingError, UsageError
from lungseg.unet import UNet
from lungseg.weights import fit_weights, network_weights

from .malicious_checkpoints import FORMS, vouched_for

SMALL = UNetConfig(widths=(4, 8))


def checkpoint_of(seed: int = 0, unet: UNetConfig = SMALL) -> dict[str, Any]:
    torch.manual_seed(seed)
    weights = {f"net.{key}": value for key, value in UNet(unet).state_dict().items()}
    recipe = to_dict(Recipe(unet=unet))
    return {"state_dict": weights, "hyper_parameters": {"config": {"recipe": recipe, "fold": 0}}, "global_step": seed}


def write_with_digest(path: Path, data: bytes) -> Path:
    """A file that its digest vouches for, as somebody would send who wants it opened."""
    path.write_bytes(data)
    digest_file(path).write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return path


def save_with_digest(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return write_with_digest(path, path.read_bytes())


def refused(path: Path, code: str, load: Callable = load_model) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        load(path)
    assert (caught.value.exit_code, caught.value.problem.code, caught.value.problem.file) == (4, code, str(path))
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(checkpoint_of(), tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_what_is_saved_is_loaded(saved: Path) -> None:
    content, original = load_checkpoint(saved), checkpoint_of()
    assert content["hyper_parameters"] == original["hyper_parameters"]
    assert all(torch.equal(content["state_dict"][key], value) for key, value in original["state_dict"].items())


def test_a_model_is_the_network_that_was_saved(saved: Path) -> None:
    net, config = load_model(saved)
    original = UNet(SMALL)
    original.load_state_dict(network_weights(checkpoint_of()))
    image = torch.rand(1, 1, 16, 16)
    assert not net.training
    assert torch.equal(net(image), original.eval()(image))
    assert config["fold"] == 0


def test_the_best_checkpoint_of_a_run_is_taken(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for seed, name in enumerate(("best", "last")):
        save_checkpoint(checkpoint_of(seed), tmp_path / "checkpoints" / f"{name}.ckpt")
    weights = load_model(tmp_path)[0].state_dict()
    assert torch.equal(weights["head.weight"], checkpoint_of(0)["state_dict"]["net.head.weight"])


def test_loading_leaves_the_random_state_alone(saved: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_digest_file_is_one_of_sha256sum(saved: Path) -> None:
    command = ["sha256sum", "-c", digest_file(saved).name]
    assert subprocess.run(command, cwd=saved.parent, capture_output=True, check=False).returncode == 0


def test_a_missing_file_is_a_users_error(tmp_path: Path) -> None:
    for path in (tmp_path / "best.ckpt", tmp_path):
        with pytest.raises(UsageError, match="no such checkpoint"):
            load_model(path)


# Row 39


@pytest.mark.parametrize("place", [0, 0.1, 0.35, 0.6, 0.9, 0.999])
def test_row_39_one_flipped_bit(saved: Path, place: float) -> None:
    data = bytearray(saved.read_bytes())
    data[int(place * len(data))] ^= 4
    saved.write_bytes(data)
    error = refused(saved, "hash-mismatch")
    assert hashlib.sha256(data).hexdigest() in str(error) and "Copy the checkpoint" in str(error)


@pytest.mark.parametrize("kept", [0, 1, 1000, -1])
def test_row_39_truncated_or_empty(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    refused(saved, "hash-mismatch")


@pytest.mark.parametrize("text", [None, "", "sha256\n", "0123  best.ckpt\n", "\0\xff"])
def test_row_39_missing_or_useless_digest(saved: Path, text: str | None) -> None:
    if text is None:
        digest_file(saved).unlink()
    else:
        digest_file(saved).write_text(text)
    assert "best.ckpt.sha256" in str(refused(saved, "no-digest"))


@pytest.mark.parametrize("kept", [0, 5, 2000])
def test_row_39_truncated_before_its_digest_was_made(saved: Path, kept: int) -> None:
    refused(write_with_digest(saved, saved.read_bytes()[:kept]), "unsafe-checkpoint")


# Row 40


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("way", ["value", "state_dict", "whole", "bare pickle", "old format"])
def test_row_40_a_malicious_checkpoint_runs_nothing(tmp_path: Path, way: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / "best.ckpt"
    payload, content = Payload(marker), checkpoint_of()
    if way == "value":
        save_with_digest(path, {**content, "callbacks": payload})
    elif way == "state_dict":
        save_with_digest(path, {**content, "state_dict": {"net.head.weight": payload}})
    elif way == "whole":
        save_with_digest(path, payload)
    elif way == "bare pickle":
        write_with_digest(path, pickle.dumps(payload))
    else:
        torch.save({**content, "callbacks": payload}, path, _use_new_zipfile_serialization=False)
        write_with_digest(path, path.read_bytes())
    assert "nothing in it was run" in str(refused(path, "unsafe-checkpoint"))
    assert not marker.exists()
    # The payload would have worked: that it did not is not the test's mistake.
    torch.load(path, weights_only=False) if way != "bare pickle" else pickle.loads(path.read_bytes())  # noqa: S301
    assert marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMS)
def test_row_40_every_form_of_a_malicious_checkpoint(tmp_path: Path, form: str) -> None:
    runs, write = FORMS[form]
    marker, path = tmp_path / "executed", tmp_path / "best.ckpt"
    refused_somehow(vouched_for(path, write(marker)))
    assert not marker.exists()
    if runs:  # the payload would have worked: that it did not is not the test's mistake
        for load in (lambda: torch.load(path, weights_only=False), lambda: pickle.loads(path.read_bytes())):  # noqa: S301
            with contextlib.suppress(Exception):
                load()
        assert marker.exists()


def refused_somehow(path: Path) -> None:
    started = time.process_time()
    with pytest.raises(IntegrityError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and caught.value.problem.file == str(path)
    assert time.process_time() - started < 5


def test_row_40_torchs_switch_of_the_environment_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = save_with_digest(tmp_path / "best.ckpt", Payload(tmp_path / "executed"))
    refused(path, "unsafe-checkpoint")
    assert not (tmp_path / "executed").exists()


# Row 41


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_row_41_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    content = checkpoint_of()
    content["state_dict"]["net.head.weight"][0, 1] = value
    path = save_with_digest(tmp_path / "best.ckpt", content)
    assert "net.head.weight" in str(refused(path, "non-finite-weights"))


def test_row_41_another_network_is_named_by_its_keys(tmp_path: Path) -> None:
    content = checkpoint_of(unet=UNetConfig(widths=(4, 6)))
    content["hyper_parameters"]["config"]["recipe"]["unet"]["widths"] = [4, 8]
    content["state_dict"]["net.extra"] = content["state_dict"].pop("net.head.bias")
    message = str(refused(save_with_digest(tmp_path / "best.ckpt", content), "other-network"))
    assert (
        "head.bias missing" in message
        and "extra unknown" in message
        and "widths [4, 8], norm none, skips concat" in message
    )
    content["state_dict"]["net.head.bias"] = content["state_dict"].pop("net.extra")
    message = str(refused(save_with_digest(tmp_path / "best.ckpt", content), "other-network"))
    assert "[6, 4, 3, 3] in place of [8, 4, 3, 3]" in message


def test_row_41_refused_weights_change_nothing() -> None:
    net = UNet(SMALL)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(IntegrityError):
        fit_weights(net, network_weights(checkpoint_of(1, UNetConfig(widths=(4, 8), norm="batch"))), "best.ckpt")
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    "unet",
    [
        {"widths": []}, {"widths": "wide"}, {"widths": [-4, 8]}, {"widths": [4, 8], "depth": 3}, None, [4, 8],
        {"widths": [10**9, 10**9]}, {"widths": [4, 8], "deep": 2}, {"widths": [4, 8], "norm": "layer"},
        {"widths": [4, 8], "window_hu": [-1000, 0, 400]}, {"widths": [4, 8], "prior": 1.0},
    ],
)  # fmt: skip
def test_row_41_a_network_that_can_not_be_built(tmp_path: Path, unet: Any) -> None:
    content = checkpoint_of()
    content["hyper_parameters"]["config"]["recipe"]["unet"] = unet
    refused(save_with_digest(tmp_path / "best.ckpt", content), "unknown-network")


@pytest.mark.parametrize(
    "content",
    [
        [], 3, torch.zeros(3), {}, {"state_dict": {}}, {"state_dict": [], "hyper_parameters": {"config": {}}},
        {"state_dict": {"a": "b"}, "hyper_parameters": {"config": {}}}, {"state_dict": {}, "hyper_parameters": {}},
        {"state_dict": {3: torch.zeros(1)}, "hyper_parameters": {"config": {}}},
    ],
)  # fmt: skip
def test_other_files_of_torch_are_no_checkpoints(tmp_path: Path, content: Any) -> None:
    refused(save_with_digest(tmp_path / "best.ckpt", content), "other-checkpoint")


# Row 37


def test_row_37_a_kill_at_any_moment_leaves_a_checkpoint_that_loads(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moves = os.replace, 0
    while True:
        shutil.rmtree(saved.parent / "copy", ignore_errors=True)
        copy = saved.parent / "copy" / "best.ckpt"
        copy.parent.mkdir()
        shutil.copy(saved, copy)
        shutil.copy(digest_file(saved), digest_file(copy))
        left = moves

        def killed(*arguments: Any) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            replace(*arguments)

        monkeypatch.setattr(os, "replace", killed)
        try:
            save_checkpoint(checkpoint_of(5), copy)
        except KeyboardInterrupt:
            assert load_checkpoint(copy)["global_step"] in (0, 5)
        else:
            break
        finally:
            monkeypatch.undo()
        # What was broken off does not hinder the next one.
        save_checkpoint(checkpoint_of(6), copy)
        assert load_checkpoint(copy)["global_step"] == 6
        assert len(digest_file(copy).read_text().splitlines()) == 1
        moves += 1
    assert moves == 3 and load_checkpoint(copy)["global_step"] == 5


def test_row_37_a_full_disk_keeps_the_one_before(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if path.suffix == ".ckpt":
            raise lungseg.checkpoint.machine_error(OSError(28, "No space left on device"), path)
        lungseg.files.atomic_write(path, *arguments, **options)

    monkeypatch.setattr(lungseg.checkpoint, "atomic_write", full)
    with pytest.raises(MachineError, match="the disk is full"):
        save_checkpoint(checkpoint_of(5), saved)
    assert load_checkpoint(saved)["global_step"] == 0


def test_weights_that_are_no_numbers_are_not_saved(saved: Path) -> None:
    content = checkpoint_of(5)
    content["state_dict"]["net.head.bias"][0] = float("nan")
    with pytest.raises(TrainingError, match=r"net\.head\.bias"):
        save_checkpoint(content, saved)
    assert load_checkpoint(saved)["global_step"] == 0
