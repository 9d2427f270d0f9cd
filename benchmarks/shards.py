"""How many slices a second come from local shards and from `.npy` files, when no file is in memory.

    python benchmarks/shards.py [--cases 20] [--slices 60] [--rounds 3]

Both give the batches of a training epoch, oversampled, in this process, without augmentation.  Before each turn the
system's cache of files is emptied, for which Linux wants root.  Needs the extra `lungseg[stream]`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from figures import RESULTS, machine
from measure import in_turns

from lungseg.dataset import LungDataset
from lungseg.loaders import SliceLoaders
from lungseg.manifest import Manifest
from lungseg.records import write_json
from lungseg.shard import shard
from lungseg.shard_stream import open_shards
from lungseg.streaming import StreamLoaders

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.processed import write_processed

BATCH = 8
SIZE = 256
CACHE = Path("/proc/sys/vm/drop_caches")


def cold() -> None:
    """Write what is not on the disk yet, and forget every file that was read."""
    os.sync()
    CACHE.write_text("3")


def epoch_of(loaders: Any) -> float:
    """Seconds from the first request to the last batch of an epoch, files cold."""
    cold()
    loaders.trainer = SimpleNamespace(global_step=0)
    started = time.perf_counter()
    batches = iter(loaders.train_dataloader())
    for _ in range(loaders.steps_per_epoch):
        next(batches)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    shown = args.slices // 10
    cases = {f"case_{n:03d}": [0] * (args.slices - shown) + [300] * shown for n in range(args.cases)}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # on a disk: a system's temporary folder may be memory
        folder = Path(name)
        write_processed(folder / "processed", cases, size=SIZE)
        shard(folder / "processed", folder / "shards")
        manifest, names = Manifest.read(folder / "processed"), tuple(cases)
        files = SliceLoaders(LungDataset(manifest, names, with_index=True), None, batch_size=BATCH, seed=0)
        shards = StreamLoaders(open_shards(folder / "shards"), names, (), batch_size=BATCH, seed=0)
        loads = [os.getloadavg()[0]]
        versus = in_turns(lambda: epoch_of(shards), lambda: epoch_of(files), args.rounds)
        loads.append(os.getloadavg()[0])
        shards.teardown("fit")
    slices = args.cases * args.slices
    found = versus.as_dict()
    write_json(
        RESULTS / "shards.json",
        {
            "date": datetime.date.today().isoformat(),
            "slices": slices,
            "share_with_tumour": round(shown / args.slices, 3),
            "rounds": args.rounds,
            "shards_slices_per_s": round(slices / found["ours_s"], 1),
            "files_slices_per_s": round(slices / found["other_s"], 1),
            "times_as_many": found["ratio"],
            "times_as_many_range": found["ratio_range"],
            "load": [round(load, 1) for load in loads],
            "machine": machine(),
        },
    )
    print(json.dumps(json.loads((RESULTS / "shards.json").read_text()), indent=1))


if __name__ == "__main__":
    main()
