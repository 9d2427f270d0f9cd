"""Slices with their masks, loaded and moved at random, by us and by other tools: one of them, one thread, as JSON.

    PYTHON benchmarks/peers_slices.py NAME FOLDER [LOOPS]

FOLDER has `images/*.npy` (float32 [256, 256]) and `masks/*.npy` (uint8), the same for all; `slices` beside them is our
own preprocessed folder, and `nnunet` one that nnU-Net has preprocessed.  Every tool turns, zooms, shifts and distorts
as the published recipe does (15 %, 45 degrees, an elastic part), with the functions that its documentation names for
that; `nnunet_loader` is nnU-Net's 2D loader with all that its trainer does, grey levels included, in patches of
256 x 256.  Timed is what comes after the first pass, without imports.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

BATCH = 8
TURN = math.pi / 4
ZOOM = SHIFT = 0.15


def files(folder: Path) -> list[dict[str, str]]:
    images = sorted((folder / "images").glob("*.npy"))
    return [{"image": str(path), "mask": str(folder / "masks" / path.name)} for path in images]


def one_by_one(dataset: Any) -> Callable[[], int]:
    """Every sample of a dataset once, in batches that are stacked; returns how many there were."""

    def run() -> int:
        for start in range(0, len(dataset), BATCH):
            samples = [dataset[k] for k in range(start, min(start + BATCH, len(dataset)))]
            torch.stack([torch.as_tensor(np.asarray(image)) for image, _ in samples]).float()
            torch.stack([torch.as_tensor(np.asarray(mask)) for _, mask in samples]).float()
        return len(dataset)

    return run


class Applied:
    """A dataset of what a function makes of each item."""

    def __init__(self, items: list[Any], function: Callable[[Any], tuple[Any, Any]]) -> None:
        self.items, self.function = items, function

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, k: int) -> tuple[Any, Any]:
        return self.function(self.items[k])


def ours(folder: Path, *, in_memory: bool) -> Callable[[], int]:
    from lungseg.augment import augment_named
    from lungseg.dataset import LungDataset
    from lungseg.manifest import Manifest

    manifest = Manifest.read(folder / "slices")
    dataset = LungDataset(manifest, manifest.labelled, augment=augment_named("torch"), in_memory=in_memory)
    chosen = np.linspace(0, len(dataset) - 1, len(files(folder))).astype(int).tolist()

    def run() -> int:
        for start in range(0, len(chosen), BATCH):
            dataset.batch(chosen[start : start + BATCH])
        return len(chosen)

    return run


def monai(folder: Path, *, persistent: bool) -> Callable[[], int]:
    from monai.data import CacheDataset, PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Rand2DElasticd

    keys = ("image", "mask")
    transform = Compose(
        [
            LoadImaged(keys, reader="NumpyReader"),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
            Rand2DElasticd(
                keys,
                spacing=(32, 32),
                magnitude_range=(0.0, 5.0),
                prob=1.0,
                rotate_range=TURN,
                scale_range=ZOOM,
                translate_range=SHIFT * 256,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
        ]
    )
    found = files(folder)
    if persistent:
        dataset: Any = PersistentDataset(found, transform, cache_dir=folder / "monai")
    else:
        dataset = CacheDataset(found, transform, num_workers=1, progress=False)
    return one_by_one(Applied(list(range(len(found))), lambda k: (dataset[k]["image"], dataset[k]["mask"])))


def torchio(folder: Path) -> Callable[[], int]:
    import torchio as tio

    def subject(paths: dict[str, str]) -> Any:
        image, mask = (torch.from_numpy(np.load(paths[key]))[None, :, :, None] for key in ("image", "mask"))
        return tio.Subject(image=tio.ScalarImage(tensor=image), mask=tio.LabelMap(tensor=mask))

    side = SHIFT * 256
    transform = tio.Compose(
        [
            tio.RandomAffine(
                scales=(1 - ZOOM, 1 + ZOOM, 1 - ZOOM, 1 + ZOOM, 1, 1),
                degrees=(0, 0, 0, 0, -45, 45),
                translation=(-side, side, -side, side, 0, 0),
                default_pad_value=-0.3256,
            ),
            tio.RandomElasticDeformation(num_control_points=(9, 9, 4), max_displacement=(5, 5, 0), locked_borders=1),
        ]
    )

    def moved(item: Any) -> tuple[Any, Any]:
        found = transform(item)
        return found["image"].data, found["mask"].data

    return one_by_one(Applied([subject(paths) for paths in files(folder)], moved))


def batchgenerators(folder: Path) -> Callable[[], int]:
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    transform = SpatialTransform(
        (256, 256),
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=1,
        elastic_deform_scale=(0.02, 0.04),
        elastic_deform_magnitude=(0.0, 0.1),
        p_rotation=1,
        rotation=(-TURN, TURN),
        p_scaling=1,
        scaling=(1 - ZOOM, 1 + ZOOM),
        p_synchronize_scaling_across_axes=1,
    )
    items = [tuple(torch.from_numpy(np.load(paths[key]))[None] for key in ("image", "mask")) for paths in files(folder)]

    def moved(item: tuple[Any, Any]) -> tuple[Any, Any]:
        found = transform(image=item[0], segmentation=item[1])
        return found["image"], found["segmentation"]

    return one_by_one(Applied(items, moved))


def nnunet_loader(folder: Path) -> Callable[[], int]:
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    base = next((folder / "nnunet" / "nnUNet_preprocessed").glob("Dataset*"))
    plans = PlansManager(str(base / "nnUNetPlans.json"))
    labels = plans.get_label_manager(json.loads((base / "dataset.json").read_text()))
    data = base / plans.get_configuration("2d").data_identifier
    transforms = nnUNetTrainer.get_training_transforms(
        (256, 256), (-math.pi, math.pi), None, (0, 1), False, use_mask_for_norm=[False], foreground_labels=[1]
    )
    loader = nnUNetDataLoader(
        infer_dataset_class(str(data))(str(data)),
        BATCH,
        (256, 256),
        (256, 256),
        labels,
        oversample_foreground_percent=0.33,
        transforms=transforms,
    )
    count = len(files(folder)) // BATCH

    def run() -> int:
        for _ in range(count):
            next(loader)
        return count * BATCH

    return run


TOOLS: dict[str, Callable[[Path], Callable[[], int]]] = {
    "ours_memory": lambda folder: ours(folder, in_memory=True),
    "ours_files": lambda folder: ours(folder, in_memory=False),
    "monai_cache": lambda folder: monai(folder, persistent=False),
    "monai_persistent": lambda folder: monai(folder, persistent=True),
    "torchio": torchio,
    "batchgenerators": batchgenerators,
    "nnunet_loader": nnunet_loader,
}


def main() -> None:
    torch.set_num_threads(1)
    run = TOOLS[sys.argv[1]](Path(sys.argv[2]))
    run()
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 1):
        count += run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"slices": count, "ms": wall / count * 1e3, "cpu_ms": cpu / count * 1e3}))


if __name__ == "__main__":
    main()
