"""An object store for tests that several processes share: names below a folder, each object put in one step.

``folderstore:///path/of/folder``; ``dask worker --preload tests.folder_store`` makes it known to a worker.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from upath import UPath
from upath.registry import register_implementation

SCHEME = "folderstore"


class FolderStore(LocalFileSystem):
    """Objects in files; what is only half sent is nowhere to be seen, and there are no moves."""

    protocol = SCHEME

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return "/" + str(path).removeprefix(f"{SCHEME}://").strip("/")

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        target = Path(self._strip_protocol(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        sent = target.with_name(f".sent-{secrets.token_hex(4)}")
        sent.write_bytes(value)
        os.replace(sent, target)

    def mv(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("an object store moves nothing")


class FolderStorePath(UPath):
    """A path of such a store."""


fsspec.register_implementation(SCHEME, FolderStore, clobber=True)
register_implementation(SCHEME, FolderStorePath, clobber=True)
