"""A case's folder that is made out of sight and put in its place when it is whole, its record last.

One machine needs none of it: there a folder has one writer, which holds the lock.  On a cluster a worker that is taken
for dead may still be at work on a case that another one does again.  Each makes the case in a folder of its own; what
they put in place are equal bytes, so it does not matter who is first, or last.  An object store gets the files of a
case one by one, likewise its record last.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .case_files import remove_stale
from .case_record import CASE_RECORD
from .files import TEMPORARY_PREFIX, machine_error, make_folder
from .place import is_remote, put, put_files


@contextlib.contextmanager
def new_case(folder: Path, *, shared: bool) -> Iterator[Path]:
    """The folder in which to make a case: ``folder`` itself, or where writers share it, one that takes its place.

    Args:
        folder: the case's own folder, whose record was removed before.
        shared: whether another process may be at work on the same case; of an object store that is always taken so.

    Raises:
        MachineError: the disk is full or can not be written.
    """
    if is_remote(folder):
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as temporary:
            made = Path(temporary)
            yield made
            _put_in_store(made, folder)
        return
    if not shared:
        yield folder
        return
    # One level deeper than a case: what a killed writer leaves is never taken for one, and the next run clears it.
    own = folder.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}"
    try:
        made = make_folder(own / folder.name)
        yield made
        try:
            _put_in_place(made, folder)
        except OSError as error:
            raise machine_error(error, folder) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def files_of(made: Path) -> list[str]:
    """Names of all files of a case below its folder, the record last."""
    names = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
    return sorted(names, key=lambda name: (name == CASE_RECORD, name))


def _put_in_store(made: Path, folder: Path) -> None:
    names = files_of(made)
    try:
        remove_stale(folder, set(names))
        put_files(folder, {name: made / name for name in names if name != CASE_RECORD})
        put(folder / CASE_RECORD, (made / CASE_RECORD).read_bytes())
    except OSError as error:
        raise machine_error(error, folder) from error


def _put_in_place(made: Path, folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is there already: another writer was quicker, or an earlier run left it
        os.replace(made, folder)
        return
    record = folder / CASE_RECORD
    if record.is_file() and record.read_bytes() == (made / CASE_RECORD).read_bytes():
        return
    names = files_of(made)
    remove_stale(folder, set(names))
    for name in names:
        make_folder((folder / name).parent)
        os.replace(made / name, folder / name)
