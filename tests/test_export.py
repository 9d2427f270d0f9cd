"""Weights for sharing: the same network comes back; what is damaged or foreign is refused (rows 39 to 41)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lungseg.checkpoint import load_checkpoint, load_model, save_checkpoint
from lungseg.cli import main
from lungseg.config import UNetConfig, to_dict
from lungseg.errors import IntegrityError, MachineError, UsageError
from lungseg.export import MOST_BYTES, export, load_exported, record_of
from lungseg.inference import Segmenter
from lungseg.manifest import Manifest
from lungseg.predict import predict
from lungseg.unet import UNet
from lungseg.weights import network_weights

from .known_network import write_run
from .volumes import tree_bytes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("export") / "run", Manifest.read(made[1]))


@pytest.fixture
def weights(run: Path, tmp_path: Path) -> Path:
    return export(run, tmp_path / "shared" / "tumour.safetensors").weights


def refused(path: Path, code: str, at: Path | None = None) -> IntegrityError:
    with pytest.raises(IntegrityError) as caught:
        load_exported(path)
    problem = caught.value.problem
    assert (caught.value.exit_code, problem.code, problem.file) == (4, code, str(at or path))
    assert "\n" not in str(caught.value) and problem.mend
    return caught.value


def vouched_for(path: Path, data: bytes) -> Path:
    """Other bytes with a JSON file that says they are right, as somebody would send who wants them opened."""
    path.write_bytes(data)
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change(path, lambda record: record["weights"].update(facts))
    return path


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(record_of(path).read_text())
    edit(record)
    record_of(path).write_text(json.dumps(record))


def test_the_network_comes_back_bit_for_bit(run: Path, weights: Path) -> None:
    net, config, record = load_exported(weights)
    original, known = load_model(run)
    assert not net.training and config == known == record["model"]
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in net.state_dict().items())
    assert set(load_file(weights)) == set(original.state_dict())


def test_a_weights_file_is_what_sha256sum_says_and_the_same_each_time(run: Path, tmp_path: Path) -> None:
    first, second = (export(run, tmp_path / name / "w.safetensors") for name in ("a", "b"))
    assert first.sha256 == hashlib.sha256(first.weights.read_bytes()).hexdigest() == second.sha256
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")
    assert first.parameters == sum(value.numel() for value in load_file(first.weights).values())
    source = json.loads(first.record.read_text())["checkpoint"]
    assert source == {
        "file": "best.ckpt",
        "sha256": hashlib.sha256((run / "checkpoints/best.ckpt").read_bytes()).hexdigest(),
    }


def test_row_46_neither_file_holds_a_path_or_a_patient(run: Path, weights: Path, made: tuple[Path, Path]) -> None:
    text = b"".join(tree_bytes(weights.parent).values()).decode("utf-8", "replace")
    for secret in (str(run), str(made[0]), str(Path.home()) + "/", "lung_001", os.uname().nodename):
        assert secret not in text
    assert "not for clinical use" in json.loads(record_of(weights).read_text())["notice"]


def test_averaged_weights_and_the_mirror_image_are_used_by_the_run_and_travel_with_its_weights(
    run: Path, tmp_path: Path
) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    content = load_checkpoint(own / "checkpoints/best.ckpt")
    trained = network_weights(content)
    mean = {key: value * 0.5 if value.is_floating_point() else value for key, value in trained.items()}
    content["state_dict"] |= {f"averaged.net.{key}": value for key, value in mean.items()}
    content["hyper_parameters"]["config"]["recipe"] |= {"test_mirror": True, "test_zooms": [1.5]}
    save_checkpoint(content, own / "checkpoints/best.ckpt")
    shared = export(own, tmp_path / "w.safetensors").weights
    image = np.random.default_rng(0).normal(0.1, 0.2, (16, 16)).astype(np.float16)
    for source in (own, shared):
        segmenter = Segmenter.load(source, device="cpu")
        assert segmenter.mirror and not Segmenter.load(run, device="cpu").mirror
        assert all(torch.equal(value, mean[key]) for key, value in segmenter.net.state_dict().items())
        assert segmenter.zooms == (1.5,) and segmenter.description["test_zooms"] == [1.5]
        plain = replace(segmenter, mirror=False, zooms=())
        one, turned = plain.probabilities([image, image[:, ::-1].copy()])
        both = next(replace(segmenter, zooms=()).probabilities([image]))
        np.testing.assert_allclose(both, (one + turned[:, ::-1]) / 2, atol=1e-6)


def test_masks_by_the_weights_are_those_by_the_run(
    run: Path, weights: Path, made: tuple[Path, Path], tmp_path: Path
) -> None:
    scan = made[0] / "imagesTs" / "lung_004.nii.gz"
    predict(run, scan, tmp_path / "run.nii.gz", device="cpu")
    predict(weights, scan, tmp_path / "weights.nii.gz", device="cpu")
    one, other = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("run", "weights"))
    np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
    model = json.loads((tmp_path / "weights.json").read_text())["model"]
    assert model["checkpoint"] == "tumour.safetensors"
    assert model["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_beyond_the_list_an_export_is_never_written_over_the_json_of_something_else(run: Path, tmp_path: Path) -> None:
    before = tree_bytes(run)
    with pytest.raises(UsageError, match=r"config\.json: is JSON of something else"):
        export(run, run / "config.safetensors")
    assert tree_bytes(run) == before
    out = tmp_path / "w.safetensors"
    assert export(run, out) == export(run, out)
    (tmp_path / "w.json").write_text("")
    export(run, out)
    load_exported(out)


def test_the_commands(run: Path, made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["export", str(run), str(out), "--checkpoint", "last"]) == 0
    assert hashlib.sha256(out.read_bytes()).hexdigest() in capsys.readouterr().out
    scan = str(made[0] / "imagesTs" / "lung_004.nii.gz")
    assert main(["predict", str(out), scan, str(tmp_path / "m.nii.gz"), "--device", "cpu"]) == 0
    out.write_bytes(out.read_bytes()[:-1])
    capsys.readouterr()
    assert main(["predict", str(out), scan, str(tmp_path / "n.nii.gz"), "--device", "cpu"]) == 4
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "w.safetensors" in error and not (tmp_path / "n.nii.gz").exists()
    assert main(["predict", str(tmp_path / "no.safetensors"), scan, str(tmp_path / "n.nii.gz")]) == 2
    assert main(["export", str(run), str(tmp_path / "w.pt")]) == 2
    assert main(["export", str(tmp_path / "no"), str(out)]) == 2


def test_a_run_whose_checkpoint_is_refused_is_not_exported(run: Path, tmp_path: Path) -> None:
    spoilt = shutil.copytree(run, tmp_path / "run")
    best = spoilt / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        export(spoilt, tmp_path / "w.safetensors")
    content = load_checkpoint(run / "checkpoints" / "best.ckpt")
    content["hyper_parameters"]["config"]["recipe"]["unet"]["widths"] = [4]
    save_checkpoint(content, best)
    with pytest.raises(IntegrityError):
        export(spoilt, tmp_path / "w.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


# Row 39: damaged


@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_row_39_one_flipped_bit_in_weights(weights: Path, place: float) -> None:
    data = bytearray(weights.read_bytes())
    data[int(place * len(data))] ^= 1
    weights.write_bytes(data)
    assert hashlib.sha256(data).hexdigest() in str(refused(weights, "hash-mismatch"))


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 300, -1])
def test_row_39_truncated_or_empty_weights(weights: Path, kept: int) -> None:
    whole = weights.read_bytes()
    weights.write_bytes(whole[:kept])
    refused(weights, "hash-mismatch")
    refused(vouched_for(weights, whole[:kept]), "bad-weights")


@pytest.mark.parametrize(
    "text",
    [None, "", "{", "[]", "null", '{"format": 0}', '{"format": true}', '{"format": 1}', "[" * 100_000, '{"a": NaN}',
     '{"format": 1, "weights": {"sha256": 5, "bytes": 1}, "model": {"recipe": {}}}',
     '{"format": 1, "weights": {"sha256": "", "bytes": "1"}, "model": {"recipe": {}}}',
     '{"format": 1, "weights": {"sha256": "", "bytes": 1}, "model": []}'],
)  # fmt: skip
def test_row_39_a_missing_or_useless_json_file(weights: Path, text: str | None) -> None:
    record_of(weights).unlink()
    if text is not None:
        record_of(weights).write_text(text)
    with pytest.raises(IntegrityError) as caught:
        load_exported(weights)
    assert caught.value.problem.file == str(record_of(weights)) and "JSON" in caught.value.problem.mend


def test_row_39_weights_that_were_exchanged(run: Path, tmp_path: Path) -> None:
    first = export(run, tmp_path / "a.safetensors").weights
    save_file({"x": torch.zeros(3)}, first)
    refused(first, "hash-mismatch")


# Row 40: hostile


def header(content: Any, body: bytes = b"", size: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


LIES: dict[str, bytes] = {
    "a pickle": b"\x80\x04cposix\nsystem\n(S'touch executed'\ntR.",
    "a zip": b"PK\x03\x04" + bytes(200),
    "a header of 2^63 bytes": header({}, size=1 << 63),
    "a header of 8 GB": header({}, size=8 << 30),
    "a header that is no JSON": header(b"{not json"),
    "a header of a list": header([]),
    "offsets beyond the end": header({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8)),
    "offsets that overlap": header(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}, bytes(8)
    ),
    "a shape that overflows": header({"x": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 0]}}),
    "a shape that is negative": header({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
    "a type that there is not": header({"x": {"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "bytes that belong to nothing": header({}, bytes(4096)),
    "nesting without end": header(b"[" * 200_000),
}


@pytest.mark.parametrize("form", LIES)
def test_row_40_hostile_weights_are_refused_and_run_nothing(
    weights: Path, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(vouched_for(weights, LIES[form]), "bad-weights")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "unet",
    [
        {"widths": [1 << 40, 1 << 40]},
        {"widths": [4] * 5000},
        {"widths": []},
        {"widths": [0]},
        {"widths": ["4"]},
        {"widths": 4},
        {"widths": [2], "patch": 1 << 30},
        {"widths": [2], "window_hu": [0, 0]},
        {"widths": [2], "window_hu": [1]},
        {"widths": [2], "prior": 0},
        {"widths": [2], "layers": 3},
        [],
        None,
    ],
)
def test_row_40_a_network_that_can_not_be_meant_costs_no_memory(weights: Path, unet: Any) -> None:
    change(weights, lambda record: record["model"]["recipe"].update(unet=unet))
    with pytest.raises(IntegrityError) as caught:
        load_exported(weights)
    assert caught.value.problem.code in ("unknown-network", "other-network")


def test_row_40_a_file_of_many_gigabytes_is_refused_by_its_size(weights: Path) -> None:
    with open(weights, "r+b") as file:
        file.truncate(MOST_BYTES + 1)  # a hole, which takes no room
    refused(weights, "too-large")


# Row 41: of another network, or no numbers


def test_row_41_other_architectures_are_named_by_their_keys(weights: Path) -> None:
    change(weights, lambda record: record["model"]["recipe"].update(unet=to_dict(UNetConfig(widths=(4, 8)))))
    error = refused(weights, "other-network")
    assert "encoder.1.0.weight missing" in str(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_row_41_weights_that_are_no_numbers_are_named(weights: Path, value: float) -> None:
    tensors = load_file(weights)
    tensors["head.bias"][0] = value
    save_file(tensors, weights.with_name("other"))
    assert "head.bias" in str(
        refused(vouched_for(weights, weights.with_name("other").read_bytes()), "non-finite-weights")
    )


def test_row_41_other_types_of_number_are_refused(weights: Path) -> None:
    tensors = {name: value.half() for name, value in load_file(weights).items()}
    save_file(tensors, weights.with_name("other"))
    error = refused(vouched_for(weights, weights.with_name("other").read_bytes()), "other-network")
    assert "torch.float16 in place of torch.float32" in str(error)


def test_row_41_settings_of_slices_that_can_not_be_meant(weights: Path) -> None:
    change(weights, lambda record: record["model"]["data"]["settings"].update(size="big"))
    with pytest.raises(IntegrityError, match="how slices have to be made"):
        Segmenter.load(weights, device="cpu")
    change(weights, lambda record: record["model"].update(data=[]))
    with pytest.raises(IntegrityError, match="how slices have to be made"):
        Segmenter.load(weights, device="cpu")


# Writing


def test_a_network_of_every_kind_comes_back(tmp_path: Path) -> None:
    for norm, skip in product(("none", "batch", "group", "instance"), ("concat", "add")):
        unet = UNetConfig(widths=(8, 8), norm=norm, patch=2, skip=skip)  # type: ignore[arg-type]
        net = UNet(unet)
        recipe = {"name": "x", "unet": to_dict(unet)}
        folder = tmp_path / f"{norm}-{skip}" / "checkpoints"
        folder.mkdir(parents=True)
        content = {"state_dict": {f"net.{key}": value for key, value in net.state_dict().items()}}
        save_checkpoint({**content, "hyper_parameters": {"config": {"recipe": recipe}}}, folder / "best.ckpt")
        loaded = load_exported(export(folder.parent, tmp_path / f"{norm}-{skip}.safetensors").weights)[0]
        assert loaded.config == replace(unet)
        weights = network_weights(content)
        assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())


def test_row_08_a_full_disk_leaves_the_weights_that_were_there(
    run: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree_bytes(weights.parent)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lungseg.files.os.replace", full)
    with pytest.raises(MachineError) as caught:
        export(run, weights, checkpoint="last")
    assert caught.value.exit_code == 5 and tree_bytes(weights.parent) == before


@pytest.mark.parametrize("name", ["w.pt", "w", "w.safetensors.gz", "folder.safetensors"])
def test_names_that_are_none_of_weights(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UsageError):
        export(run, tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.safetensors"]
