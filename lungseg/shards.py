"""Shards: the slices of a preprocessed folder in few large files, in two streams, with and without tumour.

```
OUT/  manifest.json   as in the preprocessed folder, with the hash of every slice
      shards.json     which files of which stream hold which case; written last
      tumour/  clear/ index.json  chunk-0-<n>.bin     (LitData's own layout; a file holds slices of one case only)
```
A sample is bytes: its number among all labelled slices, the length of the image, and the two ``.npy`` files as they
were, image and mask; so the manifest's hashes hold for them too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError, LungsegError, UsageError
from .manifest import MANIFEST, Manifest
from .records import check_format, read_json

FORMAT = 1
SHARDS, INDEX = "shards.json", "index.json"
STREAMS = ("tumour", "clear")
_HEAD = struct.Struct("<QI")  # number of the slice, bytes of the image's file
_MEND = "Run the same `lungseg shard` again into an empty folder."


@dataclass(frozen=True)
class Shards:
    """Shards whose records are at hand.

    Args:
        address: folder, or address of an object store, that holds them.
        manifest: of the slices.
        files: by stream and case, names of files and how many slices each holds.
    """

    address: str
    manifest: Manifest
    files: dict[str, dict[str, list[tuple[str, int]]]]

    @classmethod
    def read(cls, folder: Path, address: str) -> Shards:
        """Read the two records of shards.

        Args:
            folder: on this machine, that holds them.
            address: that the shards are read from.

        Raises:
            DataError: they are missing or damaged.
        """
        path = folder / SHARDS
        content = read_json(path, error=DataError, mend=_MEND)
        if not check_format(content, FORMAT, path, error=DataError):
            raise _damaged(path, f"format {FORMAT}", str(content)[:80])
        try:
            files = {
                stream: {
                    str(case): [(_plain(name), int(count)) for name, count in held]
                    for case, held in content["streams"][stream].items()
                }
                for stream in STREAMS
            }
        except (LookupError, TypeError, ValueError, AttributeError) as cause:
            raise _damaged(path, "files of each stream and case", str(cause)[:80]) from cause
        manifest = Manifest.read(folder)
        for case, record in manifest.cases.items():
            held = sum(count for stream in STREAMS for _, count in files[stream].get(case, []))
            if record.labelled and held != len(record.slices):
                raise _damaged(path, f"{len(record.slices)} slices of {case}", str(held))
        return cls(address, manifest, files)

    def count(self, stream: str, cases: tuple[str, ...]) -> int:
        """Slices of some cases in a stream."""
        return sum(count for case in cases for _, count in self.files[stream].get(case, []))


def numbered(manifest: Manifest) -> Iterator[tuple[int, str, int, bool]]:
    """(number, case, z, whether it shows tumour) of every labelled slice, case by case in the order of their names."""
    number = 0
    for case in sorted(manifest.labelled):
        record = manifest.record(case)
        for z, pixels in zip(record.slices, record.tumour_pixels, strict=True):
            yield number, case, z, pixels > 0
            number += 1


def pack(number: int, image: bytes, mask: bytes) -> bytes:
    """A sample of a shard."""
    return _HEAD.pack(number, len(image)) + image + mask


def unpack(sample: bytes | memoryview) -> tuple[int, np.ndarray, np.ndarray]:
    """The inverse of :func:`pack`: number of the slice; files of image and mask, ``uint8``, not copied.

    Raises:
        DataError: it is no sample.
    """
    data = np.frombuffer(sample, np.uint8)
    if data.size < _HEAD.size:
        raise DataError.of("bad-sample", "a shard holds something else than slices", mend=_MEND)
    number, length = _HEAD.unpack(data[: _HEAD.size].tobytes())
    return number, data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]


def is_address(processed: str | Path) -> bool:
    """Whether slices lie in an object store; what else is a folder of this machine."""
    return isinstance(processed, str) and ("://" in processed or processed.startswith("local:"))


def holds_shards(processed: str | Path) -> bool:
    """Whether an address, or a folder, is to be streamed."""
    return is_address(processed) or (Path(processed) / SHARDS).is_file()


def check_index(content: Any, path: Path) -> None:
    """Refuse an index whose samples would be read as anything but bytes: LitData knows formats that run code.

    Raises:
        DataError: it is another one than ``shard`` writes.
    """
    config = content.get("config") if isinstance(content, dict) else None
    wanted = {"data_format": ["bytes"], "compression": None, "encryption": None, "item_loader": "PyTreeLoader"}
    found = {key: config.get(key) for key in wanted} if isinstance(config, dict) else None
    if found != wanted:
        raise _damaged(path, "samples of bytes", str(found)[:80])


def _plain(name: Any) -> str:
    if not isinstance(name, str) or not name or any(sign in name for sign in ("/", "\\", "\0")):
        raise ValueError(f"no plain file name: {name!r}")
    return name


def _damaged(path: Path, expected: str, found: str) -> LungsegError:
    what = "is no record of shards of this version"
    return DataError.of("bad-shards", what, expected=expected, found=found, file=path, mend=_MEND)


def refuse_other(folder: Path, manifest: Manifest) -> None:
    """Raise :class:`UsageError` where shards of other slices stand in ``folder``."""
    own = {case: record.hashes for case, record in Shards.read(folder, str(folder)).manifest.cases.items()}
    if own != {case: record.hashes for case, record in manifest.cases.items()}:
        mend = f"Choose another folder, or delete its {SHARDS} and {MANIFEST} to have them made again."
        raise UsageError.of("other-shards", "holds shards of other slices", file=folder, mend=mend)
