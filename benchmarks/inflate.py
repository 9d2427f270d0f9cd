"""Only inflate the packed files of a tree: what preprocessing can not be quicker than.

    python benchmarks/inflate.py TREE WORKERS

isal (ISA-L's igzip) as in the package, its CRC check included, in chunks that stay in the cache; nothing is kept.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from isal import igzip_lib

CHUNK = 1 << 18


def inflate(path: Path) -> int:
    """Inflate one file of a single gzip member; returns how many bytes came out."""
    count = 0
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    with open(path, "rb") as file:
        while not inflater.eof:
            count += len(inflater.decompress(file.read(CHUNK) if inflater.needs_input else b"", CHUNK))
    return count


def main() -> None:
    files = sorted(Path(sys.argv[1]).glob("*/*.nii.gz"))
    workers = int(sys.argv[2])
    if workers == 1:
        total = sum(map(inflate, files))
    else:
        with ProcessPoolExecutor(workers) as pool:
            total = sum(pool.map(inflate, files))
    print(f"{len(files)} files, {total:,} bytes")


if __name__ == "__main__":
    main()
