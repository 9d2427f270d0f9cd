"""Prediction of a whole scan against the recipe's loop, with the same weights: the loop is re-enacted here.

The weights are those of ``classic`` after some steps on windows of the two scans' own slices with a strong pull towards
tumour, its last bias then shifted so that as many pixels are found as are tumour there: the mask is not empty, and its
border is about where a trained network's is; nothing is said about how good they are.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from measure import LUNGSEG, Seconds, Versus, command, in_turns, memory_of

THRESHOLD = 0.5
STEPS = 240
WINDOW = 96  # pixels of a training step's view, a seventh of the work on whole slices


def trained(processed: Path, run: Path, steps: int) -> Path:
    """A run of ``classic`` with weights from ``steps`` steps on windows with tumour, mostly; kept for the next time."""
    import numpy as np
    import torch

    from lungseg.augment import Windowed
    from lungseg.checkpoint import BEST, FOLDER, save_checkpoint
    from lungseg.config import recipe_named, to_dict
    from lungseg.dataset import LungDataset, make_sampler
    from lungseg.device import autocast
    from lungseg.losses import dice_bce
    from lungseg.manifest import Manifest
    from lungseg.randomness import SampleRandom
    from lungseg.unet import UNet

    path = run / FOLDER / BEST
    if path.exists():
        return run
    manifest = Manifest.read(processed)
    dataset = LungDataset(manifest, manifest.labelled)
    torch.manual_seed(0)
    net = UNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-4)
    draws = make_sampler(dataset, seed=0, epoch=0).draws()
    augment = Windowed(None, WINDOW)
    for step in range(steps):
        index = draws[step * 4 : step * 4 + 4]
        image, mask = augment(*dataset.batch(index)[:2], SampleRandom(0, 0, index))
        with autocast(torch.device("cpu")):
            logits = net(image.contiguous(memory_format=torch.channels_last))
        loss = dice_bce(logits, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    most = np.argsort(-dataset.tumour_pixels)[:16]
    images, masks = dataset.batch(most.tolist())[:2]
    with torch.no_grad(), autocast(torch.device("cpu")):
        found = torch.cat([net(image[None].contiguous(memory_format=torch.channels_last)) for image in images]).float()
        net.head.bias -= found.flatten().sort(descending=True).values[int(masks.sum())]
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"recipe": to_dict(recipe_named("classic")), "data": {"settings": to_dict(manifest.config)}, "fold": 0}
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    save_checkpoint({"state_dict": state, "hyper_parameters": {"config": config}}, path)
    (run / "config.json").write_text(json.dumps(config))
    return run


def recipe_loop(run: Path, scan: Path, out: Path) -> None:
    """The published loop: everything at once in float64, one slice at a time, float32, as it came from the file.

    Two things are not as published, so that both masks can be compared: the same orientation, and a way back to the
    scan's grid.  Run as a command of its own, so that start-up counts on both sides.
    """
    import cv2
    import nibabel as nib
    import numpy as np
    import torch

    from lungseg.checkpoint import load_model

    net, _ = load_model(run)
    image = nib.load(scan)
    ct = image.get_fdata()[:, :, 30:]
    ct = np.clip(ct, -1000, 3071) / 3071
    mask = np.zeros(image.shape, np.uint8)
    for z in range(ct.shape[-1]):
        picture = np.ascontiguousarray(ct[:, ::-1, z].T)
        small = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            logit = net(torch.tensor(small)[None, None].float())[0][0]
        probability = torch.sigmoid(logit).numpy()
        large = cv2.resize(probability, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
        mask[:, :, z + 30] = (large > THRESHOLD).T[:, ::-1]
    nib.save(nib.Nifti1Image(mask, image.affine), out)


def predict(volumes: Path, processed: Path, work: Path, rounds: int, steps: int = STEPS) -> dict[str, Any]:
    """`lungseg predict` on ``lung_001`` against the loop; whole commands, masks compared; weights after ``steps``."""
    import nibabel as nib
    import numpy as np

    from lungseg.device import fast_at_bf16, pick_device
    from lungseg.metrics import dice

    run, scan = trained(processed, work / f"run-{steps}", steps), volumes / "imagesTr" / "lung_001.nii.gz"
    ours, loop = work / "ours.nii.gz", work / "loop.nii.gz"
    found: dict[str, list[Seconds]] = {"ours": [], "loop": []}
    words = [LUNGSEG, "predict", "--device", "cpu", run, scan, ours]
    for number in range(rounds):
        for name in ("ours", "loop") if number % 2 else ("loop", "ours"):
            for path in (ours, ours.with_name("ours.json")) if name == "ours" else (loop,):
                path.unlink(missing_ok=True)
            script = [sys.executable, Path(__file__), run, scan, loop]
            found[name].append(command(words if name == "ours" else script))
    masks = [np.asarray(nib.load(path).dataobj) for path in (ours, loop)]
    if not masks[1].any():
        raise SystemExit("the loop found nothing: two empty masks are no comparison")
    for path in (ours, ours.with_name("ours.json")):
        path.unlink()
    held = memory_of(words, every_s=0.1)
    return {
        **Versus(tuple(found["ours"]), tuple(found["loop"])).as_dict(),
        "dice_of_masks": round(float(dice(masks[0], masks[1])), 5),
        "tumour_voxels": int(masks[1].sum()),
        "steps": steps,
        "memory": held.as_dict(),
        "fast_bf16": fast_at_bf16(pick_device("cpu")),
        "amx": "amx_bf16" in Path("/proc/cpuinfo").read_text().split(),
    }


def forward(rounds: int, slices: int = 8) -> dict[str, Any]:
    """The network alone, some slices: ours against one slice at a time in float32, in turns."""
    import torch

    from lungseg.forward import forward_of
    from lungseg.unet import UNet

    torch.manual_seed(0)
    net = UNet().eval()
    images = torch.randn(slices, 1, 256, 256) * 0.3
    quick = forward_of(UNet().eval().to(memory_format=torch.channels_last), torch.device("cpu"))

    def ours() -> None:
        for at in range(0, slices, 4):
            quick(images[at : at + 4])

    def recipe() -> None:
        with torch.no_grad():
            for image in images:
                net(image[None])

    ours()
    recipe()
    return in_turns(ours, recipe, rounds).as_dict()


if __name__ == "__main__":
    started = time.perf_counter()
    if shutil.which(sys.executable) is None or len(sys.argv) != 4:
        raise SystemExit("usage: cpu_predict.py RUN SCAN OUT.nii.gz")
    recipe_loop(*(Path(word) for word in sys.argv[1:]))
    print(f"{time.perf_counter() - started:.1f} s")
