"""Where data lies: a folder of this machine, or an address in an object store (``s3://bucket/folder``), used alike.

An address becomes a path of universal_pathlib over fsspec, which lists, opens and removes as ``pathlib`` does.  What an
object store has none of (locks, moves, empty folders, free space) is left out where :func:`is_remote` says so.  A file
is written in one request, and an object store shows an object only when its request has ended: there is never half of
one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from .errors import MachineError, UsageError

# Two letters or more, so that no drive of Windows is taken for one.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
_AT_ONCE = 64  # requests: 8 MB of slices in memory
# Whose errors are of a store's client, which are not all OSErrors.
_CLIENTS = {"aiobotocore", "aiohttp", "adlfs", "azure", "botocore", "gcsfs", "google", "s3fs"}


def place(name: str | Path) -> Path:
    """The path of a name; a path itself is returned as it is.

    Returns:
        A ``Path``, or for an address a path of universal_pathlib, which is used in the same way.

    Raises:
        UsageError: what reads such addresses is not installed, or there is no such bucket.
        MachineError: the store does not answer, or lets nobody in with these keys.
    """
    if not isinstance(name, str):
        return name
    if not _ADDRESS.match(name):
        return Path(name)
    try:
        from upath import UPath
    except ImportError as cause:
        mend = "Install it: pip install lungseg[cluster]"
        raise UsageError.of("no-upath", "addresses can not be read here", file=name, mend=mend) from cause
    try:
        # A list of names that is kept would be old as soon as a worker has written.
        path = UPath(name, use_listings_cache=False)
        _ = path.fs  # loads the store's own client
    except (ImportError, ValueError) as cause:
        mend = "Install the store's client: s3fs for s3://, gcsfs for gs://, adlfs for az://."
        raise UsageError.of(
            "no-store", "no such store can be read here", found=str(cause), file=name, mend=mend
        ) from cause
    if isinstance(path, os.PathLike):
        return Path(path)
    _ask(path, name)
    return cast(Path, path)


def _ask(path: Any, name: str) -> None:
    """The first request: does the store answer, and is the bucket there; what is in it is for others to judge."""
    try:
        path.fs.info(path.path)
    except FileNotFoundError:
        if path.protocol not in ("http", "https"):
            _ask_for_bucket(path, name)
    except Exception as cause:  # of many kinds, by store
        raise store_error(cause, name) from cause


def _ask_for_bucket(path: Any, name: str) -> None:
    try:
        path.fs.info(path.drive)
    except FileNotFoundError as cause:
        mend = "Check the address, or make the bucket."
        raise UsageError.of("no-bucket", "there is no such bucket", file=name, mend=mend) from cause
    except Exception:  # who may use a folder need not be allowed to look at its bucket
        return


def store_error(error: BaseException, name: str | Path = "") -> MachineError:
    """The package's own error for one of a store's client."""
    found = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    mend = "Check the address, the network, and the keys that the store's client finds (docs/clusters.md)."
    what = "the store refuses, or can not be reached"
    return MachineError.of("no-store-answer", what, found=found, file=name, mend=mend)


def is_store_error(error: BaseException) -> bool:
    """Whether an error is of a store's client, such as that it finds no keys."""
    return type(error).__module__.partition(".")[0] in _CLIENTS


def local(name: str | Path) -> Path:
    """The path of a name that has to be of this machine.

    Raises:
        UsageError: it is an address of an object store.
    """
    if is_remote(name):
        mend = "Name a folder of a file system (docs/clusters.md says which may be addresses)."
        raise UsageError.of("address", "is an address of a store, which this can not be", file=name, mend=mend)
    return Path(name)


def is_remote(path: str | Path) -> bool:
    """Whether a path, or a name, is an address of an object store."""
    return bool(_ADDRESS.match(path)) if isinstance(path, str) else not isinstance(path, Path)


def put(path: Path, data: bytes) -> None:
    """Write an object, whole, in one request.

    Raises:
        OSError: the store does not take it.
    """
    remote: Any = path
    remote.fs.pipe_file(remote.path, bytes(data))


def put_files(folder: Path, files: Mapping[str, Path]) -> None:
    """Write objects by their names below ``folder``, several requests at once where the store's client can.

    A request takes some 30 ms on its way, and a case has hundreds of objects.

    Raises:
        OSError: the store does not take one of them; others may be there then.
    """
    remote: Any = folder
    names = list(files)
    for start in range(0, len(names), _AT_ONCE):
        batch = names[start : start + _AT_ONCE]
        remote.fs.pipe({(remote / name).path: files[name].read_bytes() for name in batch})


def put_file(path: Path, source: Path) -> None:
    """Write a large object from a file; it appears whole.

    Raises:
        OSError: the store does not take it.
    """
    remote: Any = path
    remote.fs.put_file(str(source), remote.path)
