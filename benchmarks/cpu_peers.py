"""Other tools on the same work, in an environment that the benchmark makes for them: a slice, and two scans.

A tool that fails says so in its row, and the others go on.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from cpu_preprocess import Stage
from measure import Seconds, Versus, command
from trees import copies

HERE = Path(__file__).resolve().parent
SLICES = 64
# What each is compared with: of ours, slices held in memory or read from their files.
LOADERS = {
    "monai_cache": "ours_memory",
    "torchio": "ours_memory",
    "batchgenerators": "ours_memory",
    "monai_persistent": "ours_files",
    "nnunet_loader": "ours_files",
}
VOLUMES = ("monai", "nnunet")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def peers(python: Path, volumes: Path, baseline: Path, processed: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Every tool, in turns with us.

    Args:
        python: of an environment with benchmarks/peers.txt.
        volumes: a tree with ``lung_001`` and ``lung_113``.
        baseline: folder of the recipe.
        processed: their slices, made by us.
        work: scratch folder.
        rounds: how often each runs.
    """
    folder = _slices(processed, work / "peers")
    scans = _volumes(python, copies(volumes, work / "tree2", 2), baseline, folder, work, rounds)
    found: dict[str, Any] = {}
    for name, ours in LOADERS.items():
        try:
            pairs = [(_loaded(sys.executable, ours, folder), _loaded(python, name, folder)) for _ in range(rounds)]
        except SystemExit as error:
            found[name] = {"failed": str(error)}
            continue
        found[name] = {
            "ours_ms_a_slice": round(statistics.median(one["cpu_ms"] for one, _ in pairs), 3),
            "other_ms_a_slice": round(statistics.median(other["cpu_ms"] for _, other in pairs), 3),
            **_ratios("ratio", [other["ms"] / one["ms"] for one, other in pairs]),
            **_ratios("cpu_ratio", [other["cpu_ms"] / one["cpu_ms"] for one, other in pairs]),
            "rounds": rounds,
        }
    return {"load": found, "volumes": scans, "versions": _versions(python)}


def _ratios(name: str, values: list[float]) -> dict[str, Any]:
    rounded = [float(f"{value:.4g}") for value in values]
    return {name: statistics.median(rounded), f"{name}_range": [min(rounded), max(rounded)]}


def _slices(processed: Path, folder: Path) -> Path:
    """Some slices of ours as plain arrays for all, every one of them with its mask."""
    from lungseg.dataset import LungDataset
    from lungseg.manifest import Manifest

    shutil.rmtree(folder, ignore_errors=True)
    manifest = Manifest.read(processed)
    dataset = LungDataset(manifest, manifest.labelled)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for k, index in enumerate(np.linspace(0, len(dataset) - 1, SLICES).astype(int).tolist()):
        image, mask = dataset[index]
        np.save(folder / "images" / f"{k:03d}.npy", image[0].numpy())
        np.save(folder / "masks" / f"{k:03d}.npy", mask[0].numpy().astype(np.uint8))
    (folder / "slices").symlink_to(processed.resolve())
    return folder


def _volumes(python: Path, tree: Path, baseline: Path, folder: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Whole commands over two scans; what nnU-Net makes stays for its loader."""
    stage = Stage(tree, baseline, work)
    found: dict[str, Any] = {}
    for name in VOLUMES:
        ours: list[Seconds] = []
        other: list[Seconds] = []
        try:
            for _ in range(rounds):
                ours.append(stage.ours(1))
                script = HERE / "peers_volumes.py"
                other.append(command([python, script, name, tree, folder / name], more=ONE_THREAD))
        except SystemExit as error:
            found[name] = {"failed": str(error)}
            continue
        found[name] = Versus(tuple(ours), tuple(other)).as_dict()
    stage.clear()
    shutil.rmtree(folder / "monai", ignore_errors=True)
    return found


def _loaded(python: str | Path, name: str, folder: Path) -> dict[str, float]:
    words = [str(python), str(HERE / "peers_slices.py"), name, str(folder)]
    done = subprocess.run(words, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import json, importlib.metadata as m; "
        "print(json.dumps({n: m.version(n) for n in ('monai', 'torchio', 'nnunetv2', 'batchgeneratorsv2')}))"
    )
    return dict(json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout))
