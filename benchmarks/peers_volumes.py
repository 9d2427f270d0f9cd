"""Two scans to what a 2D network is trained on, by another tool: a whole command.

    PYTHON benchmarks/peers_volumes.py monai TREE OUT
    PYTHON benchmarks/peers_volumes.py nnunet TREE OUT

`monai` reads, turns, scales, shrinks to 256 x 256 and keeps each scan in a file of its `PersistentDataset`; `nnunet` is
nnU-Net's own fingerprint, plan and preprocessing for `2d`, in one process.  Neither skips slices.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

NUMBER = 6


def monai(tree: Path, out: Path) -> None:
    from monai.data import PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Resized, ScaleIntensityRanged

    keys = ("image", "mask")
    transform = Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            Orientationd(keys, axcodes="LAS", labels=(("R", "L"), ("P", "A"), ("I", "S"))),
            ScaleIntensityRanged(["image"], -1000, 3071, -1000 / 3071, 1.0, clip=True),
            Resized(keys, (256, 256, -1), mode=("area", "nearest")),
        ]
    )
    images = sorted((tree / "imagesTr").glob("*.nii.gz"))
    found = [{"image": str(path), "mask": str(tree / "labelsTr" / path.name)} for path in images]
    dataset = PersistentDataset(found, transform, cache_dir=out)
    for k in range(len(dataset)):
        dataset[k]


def nnunet(tree: Path, out: Path) -> None:
    names = {name: out / f"nnUNet_{name}" for name in ("raw", "preprocessed", "results")}
    os.environ |= {f"nnUNet_{name}": str(path) for name, path in names.items()}
    raw = names["raw"] / f"Dataset{NUMBER:03d}_Lung"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    images = sorted((tree / "imagesTr").glob("*.nii.gz"))
    for path in images:
        case = path.name.removesuffix(".nii.gz")
        (raw / "imagesTr" / f"{case}_0000.nii.gz").symlink_to(path.resolve())
        (raw / "labelsTr" / path.name).symlink_to((tree / "labelsTr" / path.name).resolve())
    (raw / "dataset.json").write_text(json.dumps({
        "channel_names": {"0": "CT"}, "labels": {"background": 0, "tumour": 1}, "numTraining": len(images),
        "file_ending": ".nii.gz",
    }))  # fmt: skip
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprints([NUMBER], num_processes=1)
    api.plan_experiments([NUMBER])
    api.preprocess([NUMBER], "nnUNetPlans", ("2d",), (1,))


if __name__ == "__main__":
    shutil.rmtree(sys.argv[3], ignore_errors=True)
    {"monai": monai, "nnunet": nnunet}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
