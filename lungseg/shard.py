"""A preprocessed folder packed as shards, for data beyond one machine's disk; see ``shards`` for what they hold.

The stage behind ``lungseg shard``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .case_record import image_name, mask_name
from .digests import check_digest
from .errors import DataError, UsageError
from .files import TEMPORARY_PREFIX, atomic_write, machine_error, require_free_space
from .folder_lock import folder_lock
from .manifest import MANIFEST, Manifest
from .place import is_remote, place, put_file
from .progress import progress
from .records import read_json, write_json
from .shards import FORMAT, INDEX, SHARDS, STREAMS, Shards, numbered, pack, refuse_other
from .stream_extra import require_litdata

STAGE = "shard"
SHARD_BYTES = 32 << 20  # a request of an object store takes as long as to send about a tenth of this


@dataclass(frozen=True)
class Sharded:
    """What ``shard`` has written.

    Args:
        out: the folder.
        slices: by stream.
        files: by stream.
        cases: labelled ones.
    """

    out: Path
    slices: dict[str, int]
    files: dict[str, int]
    cases: int

    def __str__(self) -> str:
        with_, without = (f"{self.slices[name]} slices in {self.files[name]} files" for name in STREAMS)
        return f"{self.cases} cases: {with_} with tumour, {without} without, in {self.out}"


def shard(processed: str | Path, out: str | Path) -> Sharded:
    """Pack the labelled slices of a preprocessed folder, from and to a disk or an object store.

    A file holds slices of one case only, so that each fold is a choice of files.  On a disk each stream appears at
    once, in a store file by file, and ``shards.json`` last; run again, a finished folder is left alone, an unfinished
    one is made anew.

    Args:
        processed: folder that ``preprocess`` wrote.
        out: folder of the shards; made here; where it is an address, in the temporary folder first, which needs room
            for all of them.

    Raises:
        UsageError: LitData is not installed (``pip install lungseg[stream]``); ``out`` lies within ``processed`` or
            holds shards of other slices; there are no labelled slices.
        DataError, IntegrityError: the preprocessed folder is unfinished or damaged.
        MachineError: the disk is full; another process writes there.
    """
    processed, out = place(processed), place(out)
    require_litdata()
    if processed.resolve() in (out.resolve(), *out.resolve().parents):
        mend = "Name a folder outside of it: a stage never changes its input."
        raise UsageError.of("out-in-data", "the shards would lie inside the preprocessed folder", file=out, mend=mend)
    manifest = Manifest.read(processed)
    slices = list(numbered(manifest))
    if not slices:
        raise UsageError.of("no-slices", "there are no labelled slices to pack", file=processed)
    with folder_lock(out, stage=STAGE):
        if (out / SHARDS).exists():
            refuse_other(out, manifest)
        elif is_remote(out):
            with tempfile.TemporaryDirectory(prefix="lungseg-shards-") as folder:
                _pack(manifest, slices, Path(folder))
                _put_in_store(Path(folder), out)
        else:
            _pack(manifest, slices, out)
        return _told(Shards.read(out, str(out)), out)


def _pack(manifest: Manifest, slices: list[tuple[int, str, int, bool]], out: Path) -> None:
    """Write both streams and the records, ``shards.json`` last."""
    require_free_space(out, len(slices) * manifest.config.size**2 * 3, stage=STAGE)
    streams: dict[str, Any] = {}
    for stream in STREAMS:
        wanted = [(number, case, z) for number, case, z, shows in slices if shows == (stream == "tumour")]
        streams[stream] = _write(manifest, wanted, out, stream)
    atomic_write(out / MANIFEST, (manifest.root / MANIFEST).read_bytes(), durable=True)
    write_json(out / SHARDS, {"format": FORMAT, "streams": streams})


def _put_in_store(folder: Path, out: Path) -> None:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    try:
        for name in progress(sorted(names, key=lambda name: (name == SHARDS, name)), what="put", unit="file"):
            put_file(out / name, folder / name)
    except OSError as error:
        raise machine_error(error, out) from error


def _write(manifest: Manifest, slices: list[tuple[int, str, int]], out: Path, stream: str) -> dict[str, Any]:
    """Write one stream; gives the files of each case."""
    from litdata.streaming.writer import BinaryWriter

    folder = out / f"{TEMPORARY_PREFIX}{stream}"
    folder.mkdir()
    chunks: list[Any] = []
    config: Any = None
    held: dict[str, Any] = {}
    bar = iter(progress(slices, what=f"pack {stream}", unit="slice"))
    for case in dict.fromkeys(case for _, case, _ in slices):
        writer = BinaryWriter(str(folder), chunk_bytes=SHARD_BYTES, chunk_index=len(chunks))
        for sample in range(sum(1 for _, of, _ in slices if of == case)):
            number, _, z = next(bar)
            image, mask = (_file(manifest, case, name(z)) for name in (image_name, mask_name))
            writer[sample] = pack(number, image, mask)
        writer.done()
        own = folder / f"0.{INDEX}"  # what LitData's own jobs would merge at their end
        index = read_json(own)
        own.unlink()
        chunks += index["chunks"]
        config = index["config"]
        held[case] = [[chunk["filename"], chunk["chunk_size"]] for chunk in index["chunks"]]
    next(bar, None)
    write_json(folder / INDEX, {"chunks": chunks, "config": config})
    if (out / stream).exists():  # of a run that was killed before shards.json
        shutil.rmtree(out / stream)
    os.replace(folder, out / stream)
    return held


def _file(manifest: Manifest, case: str, name: str) -> bytes:
    path = manifest.root / case / name
    try:
        data = path.read_bytes()
    except FileNotFoundError as cause:
        mend = "Run the same `lungseg preprocess` again: it repairs damaged slices."
        raise DataError.of("missing-slice", "the slice is missing", file=path, case=case, mend=mend) from cause
    check_digest(data, manifest.record(case).hashes[name], path)
    return data


def _told(shards: Shards, out: Path) -> Sharded:
    slices, files = {}, {}
    for stream in STREAMS:
        held = [one for case in shards.files[stream].values() for one in case]
        slices[stream], files[stream] = sum(count for _, count in held), len(held)
    return Sharded(out, slices, files, len(shards.manifest.labelled))
