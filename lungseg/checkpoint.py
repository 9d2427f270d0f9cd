"""Checkpoints that are whole or not there: written in one step, with their SHA-256 beside them, loaded without pickle.

``best.ckpt.sha256`` is in the form of ``sha256sum``, so ``sha256sum -c best.ckpt.sha256`` checks it as well.  While a
checkpoint is being replaced, the file lists the digests of the old and the new one: a kill at any moment leaves a
checkpoint that fits one of the two.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import IntegrityError, TrainingError, UsageError
from .files import atomic_write, machine_error
from .unet import UNet
from .weights import ANEW, built_net, in_short, network_of, network_weights, non_finite, refuse_non_finite

BEST, LAST = "best.ckpt", "last.ckpt"
FOLDER = "checkpoints"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def digest_file(path: str | Path) -> Path:
    """Where the SHA-256 of the checkpoint ``path`` stands."""
    return Path(f"{path}.sha256")


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint and its SHA-256, durably; what stood at ``path`` is good until it is replaced.

    Args:
        checkpoint: as Lightning makes it: tensors and plain values, weights under ``state_dict``.
        path: the file; its folder must exist.

    Raises:
        TrainingError: a weight is not a finite number.
        MachineError: the disk is full or can not be written.
    """
    path = Path(path)
    broken = non_finite(checkpoint["state_dict"])
    if broken:
        raise TrainingError.of(
            "non-finite-weights",
            "the weights are no longer finite numbers, so they are not saved",
            found=in_short(broken),
            file=path.name,
            mend="The checkpoint before is kept. Train again with a lower learning rate.",
        )
    # In memory first: a full disk is then an OSError of one write, and the digest is of what was meant.
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    data = buffer.getbuffer()
    new, old = hashlib.sha256(data).hexdigest(), _digests(path)
    _write_digests(path, [new, *old])
    atomic_write(path, data, durable=True)
    _write_digests(path, [new])


def load_checkpoint(path: str | Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint that :func:`save_checkpoint` wrote; nothing in it is ever executed.

    Raises:
        UsageError, IntegrityError: as :func:`read_checkpoint`.
    """
    return read_checkpoint(path, map_location=map_location)[0]


def read_checkpoint(path: str | Path, *, map_location: Any = "cpu") -> tuple[dict[str, Any], str]:
    """The content of a checkpoint, and the SHA-256 of the file, read once.

    Raises:
        UsageError: there is no such file.
        IntegrityError: its SHA-256 is missing or another, it holds more than tensors and plain values, or a weight is
            not a finite number.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as cause:
        mend = "Name the folder of a run that has finished an epoch, or a checkpoint in it."
        raise UsageError.of("missing-checkpoint", "there is no such checkpoint", file=path, mend=mend) from cause
    except OSError as cause:
        raise machine_error(cause, path) from cause
    expected, found = _digests(path), hashlib.sha256(data).hexdigest()
    if not expected:
        what, mend = "its SHA-256 is missing", f"Put {digest_file(path).name} beside it. {ANEW}"
        raise IntegrityError.of("no-digest", what, file=path, mend=mend)
    if found not in expected:
        raise IntegrityError.of(
            "hash-mismatch",
            "the checkpoint is not the one that was written (SHA-256)",
            expected=" or ".join(expected),
            found=found,
            file=path,
            mend=ANEW,
        )
    try:
        _check_zip(data)
        checkpoint = torch.load(io.BytesIO(data), map_location=map_location, weights_only=True)
    except Exception as cause:  # torch raises errors of many kinds for a file that is damaged or wants to run code
        what = "holds something else than weights and plain values, or is damaged; nothing in it was run"
        reason = str(cause).strip().splitlines()[0][:200] if str(cause).strip() else type(cause).__name__
        raise IntegrityError.of("unsafe-checkpoint", what, found=reason, file=path, mend=ANEW) from cause
    _check_form(checkpoint, path)
    return checkpoint, found


def load_model(run_or_checkpoint: str | Path, *, device: str | torch.device = "cpu") -> tuple[UNet, dict[str, Any]]:
    """The network of a run, ready to predict.

    Args:
        run_or_checkpoint: folder of a run (its ``best.ckpt`` is taken) or a checkpoint.
        device: where to put it.

    Returns:
        The network in evaluation mode, and what the run's config.json says of it: ``recipe``, ``fold``, ``data``
        (preprocessing settings), ``lungseg`` (version).

    Raises:
        UsageError: there is no such run or file.
        IntegrityError: the checkpoint is refused (see :func:`load_checkpoint`), or its weights do not fit its own
            description of the network.
    """
    path = Path(run_or_checkpoint)
    net, config, _ = load_identified(path / FOLDER / BEST if path.is_dir() else path, device=device)
    return net, config


def load_identified(path: Path, *, device: str | torch.device = "cpu") -> tuple[UNet, dict[str, Any], str]:
    """As :func:`load_model`, of one checkpoint, and its SHA-256."""
    checkpoint, digest = read_checkpoint(path)
    config = checkpoint["hyper_parameters"]["config"]
    net = built_net(network_of(config, path), network_weights(checkpoint), path)
    return net.eval().to(device), config, digest


def _check_zip(data: bytes) -> None:
    """Raise ``ValueError`` unless the file is a zip of stored files, as :func:`save_checkpoint` writes them.

    torch also reads packed ones, which may inflate without end, and formats of before, which are bare pickles.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"{packed[0]} is packed, as this version writes none")


def _is_plain(value: Tensor) -> bool:
    """Whether a tensor has a number of its own for each of its places, so that to look at it takes no other memory."""
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _check_form(checkpoint: Any, path: Path) -> None:
    weights: Any = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    tensors = isinstance(weights, dict) and all(
        isinstance(key, str) and isinstance(value, Tensor) and _is_plain(value) for key, value in weights.items()
    )
    if not tensors or not isinstance(settings, dict) or not isinstance(settings.get("config"), dict):
        what, expected = "is no checkpoint of lungseg", "state_dict (tensors) and hyper_parameters (config)"
        found = ", ".join(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise IntegrityError.of("other-checkpoint", what, expected=expected, found=found[:200], file=path, mend=ANEW)
    refuse_non_finite(weights, path)


def _digests(path: Path) -> list[str]:
    """The digests listed beside ``path``, newest first; none where there is no such file."""
    try:
        lines = digest_file(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    return [match[1] for line in lines if (match := _LINE.fullmatch(line))]


def _write_digests(path: Path, digests: list[str]) -> None:
    text = "".join(f"{digest}  {path.name}\n" for digest in digests)
    atomic_write(digest_file(path), text.encode("utf-8", "surrogateescape"), durable=True)
