"""Slices of some cases as LitData streams them from shards, on a disk or in an object store, each one checked."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from litdata import StreamingDataset
from litdata.streaming.downloader import get_downloader
from litdata.streaming.serializers import BytesSerializer, Serializer
from torch import Tensor

from .case_record import image_name, mask_name
from .errors import DataError, MachineError
from .manifest import MANIFEST
from .ranks import Share
from .records import read_json
from .shards import INDEX, SHARDS, STREAMS, Shards, check_index, is_address, numbered, unpack
from .slice_file import parse_array

# Formats that LitData can read; all but the one that shards are written in are refused, some of them run code.
OTHER_FORMATS = ("pickle", "graph", "graph:pickle")


class Refused(Serializer):
    """In place of a format that shards do not hold."""

    def serialize(self, item: Any) -> Any:
        raise NotImplementedError

    def deserialize(self, data: bytes) -> Any:
        raise DataError.of("bad-shards", "a shard holds something else than slices", file=INDEX)

    def can_serialize(self, item: Any) -> bool:
        return False


def open_shards(address: str | Path) -> Shards:
    """Shards, their records fetched and checked.

    Args:
        address: a folder, or what LitData takes: ``s3://``, ``gs://``, ``azure://``.

    Raises:
        DataError: the records are missing, damaged or of another version.
        MachineError: the store does not give them.
    """
    if not is_address(address):
        folder = Path(address)
        shards = Shards.read(folder, str(folder))
        _check_indexes(shards, folder)
        return shards
    with tempfile.TemporaryDirectory(prefix="lungseg-shards-") as name:
        folder, address = Path(name), str(address).rstrip("/")
        for record in (SHARDS, MANIFEST):
            _fetch(address, record, folder)
        shards = Shards.read(folder, address)
        for stream in STREAMS:
            if shards.files[stream]:
                (folder / stream).mkdir()
                _fetch(address, f"{stream}/{INDEX}", folder)
        _check_indexes(shards, folder)
        return shards


def _check_indexes(shards: Shards, folder: Path) -> None:
    for stream in STREAMS:
        if shards.files[stream]:
            path = folder / stream / INDEX
            check_index(read_json(path, error=DataError), path)


def _fetch(address: str, name: str, folder: Path) -> None:
    try:
        get_downloader(address, str(folder), []).download_file(f"{address}/{name}", str(folder / name))
    except Exception as cause:  # of many kinds, by store
        mend = "Check the address and the credentials; it has to be a copy of what `lungseg shard` wrote."
        found = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:160]
        what = "the store does not give the records of the shards"
        raise MachineError.of("no-shards", what, file=f"{address}/{name}", found=found, mend=mend) from cause


class Again(StreamingDataset):
    """A stream that begins again when it is exhausted; gives (how often it began again, sample)."""

    rounds = 0

    def __next__(self) -> tuple[int, Any]:
        try:
            return self.rounds, super().__next__()
        except StopIteration:
            self.rounds += 1
            self.current_epoch += 1
            iter(self)
            return self.rounds, super().__next__()


class Streamed:
    """Slices of some cases, as they come from shards.

    Args:
        shards: where they are.
        cases: whose.
        cache: folder for files of an object store; a local disk needs none.

    Attributes:
        cases: names.
    """

    def __init__(self, shards: Shards, cases: tuple[str, ...], cache: Path) -> None:
        self.shards, self.cases, self.cache = shards, cases, cache
        of = {case: place for place, case in enumerate(cases)}
        total = [(number, case, z) for number, case, z, _ in numbered(shards.manifest)]
        self._slices = [(case, z) for _, case, z in total]
        places = itertools.count()
        self._place = np.array([next(places) if case in of else -1 for _, case, _ in total], np.int64)
        self._case = np.array([of.get(case, -1) for _, case, _ in total], np.int64)

    def __len__(self) -> int:
        return int((self._place >= 0).sum())

    def stream(self, kind: str, cases: tuple[str, ...], *, seed: int, part: Share, kind_of: Any = Again) -> Any:
        """LitData's stream of some of the cases.

        Args:
            kind: ``tumour`` or ``clear``.
            cases: whose slices.
            seed: of the order; below 0, it is that of the files.
            part: which part of the slices a process reads.
            kind_of: class of the stream.
        """
        serializers = {"bytes": BytesSerializer(), **{name: Refused() for name in OTHER_FORMATS}}
        stream = kind_of(
            f"{self.shards.address}/{kind}",
            cache_dir=str(self.cache),
            shuffle=seed >= 0,
            seed=max(seed, 0),
            drop_last=False,
            serializers=serializers,
        )
        held = [one for case in cases for one in self.shards.files[kind].get(case, [])]
        stream.subsampled_files = [name for name, _ in held]
        stream.region_of_interest = [(0, count) for _, count in held]
        # LitData would guess these from variables of the environment.
        world = stream.distributed_env
        world.world_size, world.global_rank, world.num_nodes = part.size, part.rank, 1
        return stream

    def decoded(self, sample: bytes) -> tuple[Tensor, Tensor, int, int]:
        """Image ``float16`` and mask ``uint8``, ``[1, size, size]``; places of slice and case among these.

        Raises:
            DataError: it is no sample of these cases.
            IntegrityError: it is not the slice that the manifest lists.
        """
        number, *files = unpack(sample)
        if number >= len(self._slices) or self._place[number] < 0:
            raise DataError.of("bad-sample", "a shard holds a slice of another case", file=SHARDS, found=str(number))
        case, z = self._slices[number]
        manifest = self.shards.manifest
        size, hashes = manifest.config.size, manifest.record(case).hashes
        found = []
        kinds: tuple[type[np.generic], ...] = (np.float16, np.uint8)
        for data, name, dtype in zip(files, (image_name(z), mask_name(z)), kinds, strict=True):
            array = parse_array(data, f"{case}/{name}", dtype, (size, size), hashes[name])
            found.append(torch.from_numpy(array.copy())[None])  # LitData's own memory may go when the file does
        return found[0], found[1], int(self._place[number]), int(self._case[number])
