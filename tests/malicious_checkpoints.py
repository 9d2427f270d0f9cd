"""Forms of checkpoints that run code, fill the memory or lie, where they are loaded without care (rows 39 to 41).

Each form is written to a path with a SHA-256 that vouches for it, as somebody would send who wants it opened.  A form
that runs code makes the folder ``marker``.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle  # noqa: TID251 (to make what must be refused)
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lungseg.checkpoint import digest_file
from lungseg.config import Recipe, UNetConfig, to_dict
from lungseg.unet import UNet

SMALL = UNetConfig(widths=(4, 8))


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def good() -> dict[str, Any]:
    """What a checkpoint holds."""
    weights = {f"net.{key}": value for key, value in UNet(SMALL).state_dict().items()}
    return {"state_dict": weights, "hyper_parameters": {"config": {"recipe": to_dict(Recipe(unet=SMALL)), "fold": 0}}}


def vouched_for(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    digest_file(path).write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return path


def _saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _rezipped(change: Callable[[str, bytes], bytes], *, deflated: bool = False) -> bytes:
    """A good checkpoint whose files were changed."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(_saved(good()))) as source, zipfile.ZipFile(buffer, "w", method) as target:
        for info in source.infolist():
            target.writestr(info.filename, change(info.filename, source.read(info)))
    return buffer.getvalue()


def _old_tar(marker: Path) -> bytes:
    """The format of torch 0.1, a tar of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(Call(os.mkdir, str(marker)))
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _huge_tensor() -> bytes:
    """A tensor of 4 TB by its shape, with a stride of 0 over one number: loaded whole, it is a bomb."""
    content = good()
    content["state_dict"]["net.extra"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    return _saved(content)


def _lying_storage() -> bytes:
    """The bytes of every tensor cut to one."""
    return _rezipped(lambda name, data: data[:1] if "/data/" in name else data)


def _zip_bomb() -> bytes:
    """A tensor's file of 300 MB of zeros, deflated to 300 kB."""
    return _rezipped(lambda name, data: bytes(300 << 20) if name.endswith("/data/0") else data, deflated=True)


# name: (does it run code where it is unpickled without care, what writes it)
FORMS: dict[str, tuple[bool, Callable[[Path], bytes]]] = {
    "call among the values": (True, lambda marker: _saved({**good(), "callbacks": Call(os.mkdir, str(marker))})),
    "call in place of a weight": (
        True, lambda marker: _saved({**good(), "state_dict": {"net.x": Call(os.mkdir, str(marker))}})
    ),
    "call in place of the whole": (True, lambda marker: _saved(Call(os.mkdir, str(marker)))),
    "call as a key": (True, lambda marker: _saved({**good(), (Call(os.mkdir, str(marker)),): 1})),
    "eval": (True, lambda marker: _saved({**good(), "x": Call(eval, f"__import__('os').mkdir({str(marker)!r})")})),
    "exec": (True, lambda marker: _saved({**good(), "x": Call(exec, f"import os; os.mkdir({str(marker)!r})")})),
    "os.system": (True, lambda marker: _saved({**good(), "x": Call(os.system, f"mkdir '{marker}'")})),
    "torch.load within": (
        False, lambda marker: _saved({**good(), "x": Call(torch.storage._load_from_bytes,
                                                          pickle.dumps(Call(os.mkdir, str(marker))))})
    ),
    "bare pickle": (True, lambda marker: pickle.dumps(Call(os.mkdir, str(marker)))),
    "old format": (
        True, lambda marker: _saved({**good(), "x": Call(os.mkdir, str(marker))}, _use_new_zipfile_serialization=False)
    ),
    "oldest format, a tar": (False, _old_tar),
    "array of objects": (
        False, lambda marker: _saved({**good(), "x": np.array([Call(os.mkdir, str(marker))], object)})
    ),
    "whole module": (False, lambda _: _saved(UNet(SMALL))),
    "tensor of 4 TB": (False, lambda _: _huge_tensor()),
    "tensors without their bytes": (False, lambda _: _lying_storage()),
    "zip bomb": (False, lambda _: _zip_bomb()),
    "pickle that recurses": (False, lambda _: _rezipped(
        lambda name, data: b"\x80\x02" + b"(" * 200_000 + b"." if name.endswith("data.pkl") else data
    )),
    "pickle that claims 2^60 bytes": (False, lambda _: _rezipped(
        lambda name, data: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x." if name.endswith("data.pkl") else data
    )),
}  # fmt: skip
