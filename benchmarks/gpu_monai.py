"""MONAI's U-Nets on the same slices: what its own guides call fast, with data for free and with its own augmentation.

Settings of MONAI's fast training guide (https://github.com/Project-MONAI/tutorials, `acceleration`): mixed precision
(float16 with a gradient scaler), Novograd, DiceCELoss, data cached on the GPU, transforms there, ThreadDataLoader.
`UNet` is that guide's network in two dimensions (residual units, widths 16 to 256); `BasicUNet` is MONAI's plain U-Net
with the widths of `classic`.  Operations are counted by torch, so that the networks can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from gpu_step import Batch, constant, random_batch, rate
from torch.utils.flop_counter import FlopCounterMode


def monai_rates(device: torch.device, batch: int, side: int, seconds: float) -> dict[str, Any]:
    """Slices a second of each network with one batch that never changes, and of ``UNet`` with MONAI's own data path."""
    import monai
    from monai.networks.nets import BasicUNet, UNet

    torch.manual_seed(0)
    classic = (64, 128, 256, 512, 512, 64) if side >= 256 else (8, 8, 8, 8, 8, 8)
    networks = {
        "UNet": UNet(2, 1, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2, norm="batch"),
        "BasicUNet": BasicUNet(2, 1, 1, features=classic),
    }
    found: dict[str, Any] = {"version": monai.__version__, "batch": batch}
    given = random_batch(device, batch, side)
    for name, net in networks.items():
        step = _Step(net.to(device), device)
        for _ in range(5):
            step(*given)
        with FlopCounterMode(display=False) as counter:
            net(given[0][:1]).sum().backward()
        found[name] = {
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "gflop_a_slice": counter.get_total_flops() / 1e9,
            "slices_s": rate(step, constant(given), seconds, device, 5),
        }
    step = _Step(networks["UNet"], device)
    batches = _batches(device, batch, side)
    for _ in range(3):
        step(*next(batches))
    found["UNet"]["with_data_slices_s"] = rate(step, batches, seconds, device, 2)
    return found


class _Step:
    def __init__(self, net: torch.nn.Module, device: torch.device) -> None:
        from monai.losses import DiceCELoss
        from monai.optimizers import Novograd

        self.net, self.device, self.loss = net, device, DiceCELoss(sigmoid=True, squared_pred=True, batch=True)
        self.optimizer = Novograd(net.parameters(), 1e-3)
        self.half = torch.float16 if device.type == "cuda" else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def __call__(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=self.half):
            loss = self.loss(self.net(image), mask)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def _batches(device: torch.device, batch: int, side: int) -> Iterator[Batch]:
    """Slices cached on the device; affine and elastic transform there, with the recipe's ranges, a slice at a time."""
    from monai.data import CacheDataset, ThreadDataLoader
    from monai.transforms import Compose, EnsureTyped, Rand2DElasticd

    image, mask = random_batch(torch.device("cpu"), 8 * batch, side)
    items = [{"image": image[k], "mask": mask[k]} for k in range(len(image))]
    elastic = Rand2DElasticd(
        keys=("image", "mask"),
        spacing=(8, 8),
        magnitude_range=(0, 4),
        prob=1.0,
        rotate_range=0.785,
        translate_range=0.15 * side,
        scale_range=0.15,
        mode=("bilinear", "nearest"),
        padding_mode="border",
        device=device,
    )
    transform = Compose([EnsureTyped(("image", "mask"), device=device, track_meta=False), elastic])
    dataset = CacheDataset(items, transform, num_workers=0, progress=False)
    while True:
        loader = ThreadDataLoader(dataset, batch_size=batch, shuffle=True, num_workers=0, drop_last=True)
        for drawn in loader:
            yield drawn["image"].as_tensor(), drawn["mask"].as_tensor()
