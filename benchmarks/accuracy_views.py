"""The same trained networks, shown other views of each slice in prediction: for ablation.py to score without training.

    python benchmarks/accuracy_views.py OUT ROW NEW OTHER_ROW

OUT is what ablation.py leaves.  The finished runs of its row ROW are copied to NEW as runs of OTHER_ROW, a row that
differs from ROW in its views at most; their recipe says so there, in ``config.json`` and in the checkpoints, and the
weights are the same.  A run of ``ablation.py PROCESSED SPLITS NEW --rows OTHER_ROW``, with the same other options, then
finds them finished, and predicts and scores them.  The time of training that it writes is that of the runs of ROW.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from ablation import Job, rows

from lungseg.checkpoint import FOLDER, load_checkpoint, save_checkpoint
from lungseg.records import write_json
from lungseg.run_folder import CONFIG, finished, read_config


def with_views(run: Path, new: Path, views: dict[str, Any]) -> None:
    """A copy of a run whose recipe has other views.

    Args:
        run: folder of the run.
        new: the folder to write, which must not be there.
        views: ``test_mirror`` and ``test_zooms``.
    """
    making = new.with_name(f"{new.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(run, making)
    config = read_config(run)
    config["recipe"] |= views
    write_json(making / CONFIG, config)
    for path in (making / FOLDER).glob("*.ckpt"):
        content = load_checkpoint(path)
        content["hyper_parameters"]["config"]["recipe"] |= views
        save_checkpoint(content, path)
    making.rename(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("row")
    parser.add_argument("new", type=Path)
    parser.add_argument("other_row", choices=rows({}))
    args = parser.parse_args()
    recipe = rows({})[args.other_row]
    views = {"test_mirror": recipe.test_mirror, "test_zooms": list(recipe.test_zooms)}
    folders = sorted((args.out / "runs" / Job(args.row, 0, 0, None).system).glob("fold*-seed*"))
    if not folders:
        raise SystemExit(f"there are no runs of {args.row} in {args.out}")
    for folder in folders:
        if finished(folder / "run") is None:
            raise SystemExit(f"{folder / 'run'} is not finished")
        new = args.new / "runs" / Job(args.other_row, 0, 0, None).system / folder.name / "run"
        if new.exists():
            raise SystemExit(f"{new} is there already")
        new.parent.mkdir(parents=True, exist_ok=True)
        with_views(folder / "run", new, views)
        print(f"wrote {new}")


if __name__ == "__main__":
    main()
