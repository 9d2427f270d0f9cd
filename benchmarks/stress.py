"""Every figure of the stress tests in full: what `make stress` runs.  Prints each, and writes results/stress.json.

python benchmarks/stress.py                  all of them; each is written when it is done
python benchmarks/stress.py races bombs      only these, the others as they stand in the file
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from figures import RESULTS, machine  # noqa: E402

from lungseg.records import write_json  # noqa: E402
from tests.stress import Figure, bombs, full_disk, grammar, hostile, kills, mutants, orientations, races  # noqa: E402

FIGURES: dict[str, Callable[[Path], Figure]] = {
    "header_mutants": lambda folder: mutants.header_mutants(10_000, folder),
    "gzip_mutants": lambda folder: mutants.gzip_mutants(1000, folder),
    "bombs": lambda folder: bombs.bombs(99, folder),
    "malicious_archives": lambda folder: hostile.archives(99, folder),
    "malicious_checkpoints": lambda folder: hostile.checkpoints(99, folder),
    "orientation_round_trips": lambda folder: orientations.orientation_round_trips(50, folder),
    "races": lambda folder: races.races(20, folder),
    "preprocess_kills": lambda folder: kills.preprocess_kills(50, folder),
    "training_kills": lambda folder: kills.training_kills(20, folder),
    "predict_kills": lambda folder: kills.predict_kills(20, folder),
    "full_disks": lambda folder: full_disk.full_disks([0.0, 0.3, 0.6, 0.9], folder),
    "made_up_files": lambda folder: grammar.made_up(0, folder),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--minutes", type=float, default=20.0, help="processor time for made_up_files (20)")
    args = parser.parse_args()
    names = args.names
    FIGURES["made_up_files"] = lambda folder: grammar.made_up(60 * args.minutes, folder)
    if unknown := sorted(set(names) - set(FIGURES)):
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # nibabel logs what it mends in a mutant
    path = RESULTS / "stress.json"
    failed = 0
    for name in names or FIGURES:
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            figure = FIGURES[name](Path(folder))
            seconds = round(time.monotonic() - started, 1)
        print(f"{figure}  [{seconds:.0f} s]", flush=True)
        failed += len(figure.failures)
        before: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"figures": {}}
        done = {"date": datetime.date.today().isoformat(), **asdict(figure), "seconds": seconds, "machine": machine()}
        figures = {**before["figures"], name: done}
        ordered = {key: figures[key] for key in FIGURES if key in figures}
        write_json(path, {"what": "make stress", "figures": ordered})
    print(f"{failed} failures; written to {path.parent.name}/{path.name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
