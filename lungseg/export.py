"""Weights for sharing: a safetensors file, which can hold nothing but numbers, and a JSON file that says what they are.

``tumour.safetensors`` and ``tumour.json`` belong together: the JSON file names the network, how slices have to be made
for it, and the SHA-256 of the other.  Both hold plain values only: no path, no name of a patient or of a machine.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from . import __version__
from .checkpoint import BEST, FOLDER, LAST, read_checkpoint
from .errors import NOTICE, IntegrityError, LungsegError, UsageError, printable
from .files import atomic_write, machine_error, make_folder, require_free_space
from .place import local
from .records import check_format, read_json, refuse_other_record, write_json
from .unet import UNet
from .weights import built_net, network_of, network_weights, refuse_non_finite

STAGE = "export"
FORMAT = 1
SUFFIX = ".safetensors"
CHECKPOINTS = {"best": BEST, "last": LAST}
MOST_BYTES = 4 << 30  # of one weights file; `classic` takes 31 MB
_ANEW = "Copy the weights and their JSON file from where they came from again, or export them again."


@dataclass(frozen=True)
class Exported:
    """What ``export`` wrote.

    Args:
        weights: the safetensors file.
        record: the JSON file beside it.
        sha256: of the safetensors file, hex.
        parameters: numbers in it.
    """

    weights: Path
    record: Path
    sha256: str
    parameters: int

    def __str__(self) -> str:
        return f"{printable(self.weights)}: {self.parameters:,} parameters, sha256 {self.sha256}\n{NOTICE}"


def export(run: str | Path, out: str | Path, *, checkpoint: str = "best") -> Exported:
    """Write the weights of a run for others: ``OUT.safetensors``, and ``OUT.json`` beside it.

    The same checkpoint gives the same bytes.  ``predict`` takes the file in place of a run.

    Args:
        run: folder of a run.
        out: ends in ``.safetensors``; its folder is made where it is missing.
        checkpoint: ``best`` or ``last``.

    Raises:
        UsageError: there is no such run or checkpoint; ``out`` has another suffix or is a folder, or its JSON file
            would be written over that of something else.
        IntegrityError: the checkpoint is refused.
        MachineError: the disk is full or can not be written.
    """
    run, out = local(run), local(out)
    if out.suffix != SUFFIX or out.is_dir():
        raise UsageError.of(
            "bad-suffix", "is no name for weights", expected=f"a file that ends in {SUFFIX}", file=out, stage=STAGE
        )
    if checkpoint not in CHECKPOINTS:
        raise UsageError.of(
            "unknown-checkpoint", "there is no such checkpoint", expected=" or ".join(CHECKPOINTS), found=checkpoint
        )
    if not run.is_dir():
        mend = "Name a folder that `lungseg train` has made."
        raise UsageError.of("no-run", "there is no such run", file=run, mend=mend, stage=STAGE)
    if (run / "crossval.json").exists():
        mend = f"Name the folder of one fold, such as {run / 'folds' / '0'}."
        raise UsageError.of("crossval-run", "is cross-validated, and exported fold by fold", file=run, mend=mend)
    refuse_other_record(record_of(out), ("notice", "weights", "checkpoint"))
    path = run / FOLDER / CHECKPOINTS[checkpoint]
    content, read = read_checkpoint(path)  # at once: a run that goes on may replace the file meanwhile
    config = content["hyper_parameters"]["config"]
    net = built_net(network_of(config, path), network_weights(content), path)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    # One entry of metadata only: the library writes more of them in no fixed order.
    data = tensors_to_bytes(weights, metadata={"format": "pt"})
    digest = hashlib.sha256(data).hexdigest()
    parameters = sum(value.numel() for value in weights.values())
    record = {
        "format": FORMAT,
        "notice": NOTICE,
        "lungseg": __version__,
        "weights": {"file": out.name, "bytes": len(data), "sha256": digest, "parameters": parameters},
        "checkpoint": {"file": path.name, "sha256": read},
        "model": config,
    }
    make_folder(out.parent)
    require_free_space(out.parent, len(data), stage=STAGE)
    atomic_write(out, data, durable=True)
    write_json(record_of(out), record)
    return Exported(out, record_of(out), digest, parameters)


def record_of(weights: str | Path) -> Path:
    """The JSON file that belongs to a weights file."""
    return Path(weights).with_suffix(".json")


def load_exported(path: str | Path) -> tuple[UNet, dict[str, Any], dict[str, Any]]:
    """The network of a weights file, once it is seen to be the one that was exported.

    Args:
        path: the ``.safetensors`` file; its JSON file lies beside it.

    Returns:
        The network in evaluation mode; what is known of its run, as :func:`lungseg.checkpoint.load_model` gives it; the
        whole JSON file.

    Raises:
        UsageError: there is no such file.
        IntegrityError: the JSON file is missing, damaged or of something else; the weights have another SHA-256, are no
            safetensors, are of another network or no finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        mend = "Name the folder of a run, or weights that `lungseg export` has written."
        raise UsageError.of("missing-weights", "there are no such weights", file=path, mend=mend)
    record = _record(record_of(path))
    data = _whole(path, record["weights"])
    try:
        weights: dict[str, Tensor] = parse_tensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as cause:
        what, found = "is no safetensors file", str(cause).strip()[:200] or type(cause).__name__
        raise IntegrityError.of("bad-weights", what, found=found, file=path, mend=_ANEW) from cause
    refuse_non_finite(weights, path)
    net = built_net(network_of(record["model"], record_of(path)), weights, path)
    return net.eval(), record["model"], record


def _record(path: Path) -> dict[str, Any]:
    """The JSON file, its form checked."""
    mend = f"Put the JSON file that was exported with the weights beside them. {_ANEW}"
    try:
        record = read_json(path, error=IntegrityError, mend=mend)
    except LungsegError as error:
        if path.is_dir():
            raise IntegrityError.of("bad-record", "is a folder", expected="a file", file=path, mend=mend) from error
        raise
    what = "is no description of weights by this version"
    if not check_format(record, FORMAT, path, error=IntegrityError):
        found = str(record.get("format")) if isinstance(record, dict) else type(record).__name__
        raise IntegrityError.of(
            "bad-record", what, expected=f"format {FORMAT}", found=found[:200], file=path, mend=mend
        )
    facts, model = record.get("weights"), record.get("model")
    whole = (
        isinstance(facts, dict)
        and isinstance(facts.get("sha256"), str)
        and type(facts.get("bytes")) is int
        and isinstance(model, dict)
        and isinstance(model.get("recipe"), dict)
    )
    if not whole:
        raise IntegrityError.of(
            "bad-record", what, expected="weights (bytes, sha256) and model (recipe)", file=path, mend=mend
        )
    return record


def _whole(path: Path, facts: dict[str, Any]) -> bytes:
    """The bytes of the weights file, which are those that were exported."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            expected, found = f"at most {MOST_BYTES:,} bytes", f"{size:,}"
            raise IntegrityError.of(
                "too-large", "is larger than any weights", expected=expected, found=found, file=path, mend=_ANEW
            )
        data = path.read_bytes()
    except OSError as cause:
        raise machine_error(cause, path) from cause
    digest = hashlib.sha256(data).hexdigest()
    if digest != facts["sha256"] or len(data) != facts["bytes"]:
        raise IntegrityError.of(
            "hash-mismatch",
            "the weights are not those that were exported (SHA-256)",
            expected=f"{facts['sha256'][:64]}, {facts['bytes']:,} bytes",
            found=f"{digest}, {len(data):,} bytes",
            file=path,
            mend=_ANEW,
        )
    return data


def load_network(path: Path, device: torch.device) -> tuple[UNet, dict[str, Any], dict[str, Any]]:
    """The network of a weights file on ``device``, its run's config, and what records say of the model."""
    net, config, record = load_exported(path)
    return net.to(device), config, {"checkpoint": path.name, "sha256": record["weights"]["sha256"]}
