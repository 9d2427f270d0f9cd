"""What training does with a batch: one step for training, validation and test alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from .augment import Augment
from .averaging import Averaged
from .checkpoint import LAST
from .config import AIR, recipe_from_dict
from .losses import loss_named, over_levels
from .patient_dice import PatientDice
from .randomness import SampleRandom, seed_generators
from .ranks import from_first
from .schedule import rate_factor, run_progress
from .unet import UNet
from .weights import fit_weights, network_weights, trained_weights

Batch = tuple[Tensor, Tensor, Tensor]


class LungSegmenter(pl.LightningModule):
    """A U-Net with its loss, optimizer and measures.

    Logged each epoch: ``train_loss``, ``lr`` and, with validation patients, ``val_loss``, ``val_dice`` (hard, mean over
    the patients) and ``val_soft_dice_pooled`` (what the published recipe reports).

    Args:
        config: plain numbers, strings and lists, kept in every checkpoint; ``recipe`` is ``config.to_dict`` of a
            :class:`~lungseg.config.Recipe`, the rest is for who loads the checkpoint.
        cases: names of the validation patients, in the order that their batches count them in.
        steps_per_epoch: optimizer steps an epoch.
        max_minutes: time limit that the schedule is fitted to; 0 is none.
        augment: applied to training batches on the device; leave it out where the dataset does so.
        log_every: steps after which loss and learning rate are logged, as the mean of those steps: each time Lightning
            takes a third of a millisecond, and a GPU is waited for.
        epoch_slices: slices of an epoch by stage (``train``, ``val``), where several processes share each batch.

    Batches are (image, mask, which): ``float32 [B, C, H, W]``, ``[B, 1, H, W]`` and ``int64 [B]``, which is the
    sample's index in training and the patient's place in ``cases`` otherwise.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        cases: Sequence[str] = (),
        steps_per_epoch: int = 1,
        max_minutes: float = 0.0,
        augment: Augment | None = None,
        log_every: int = 1,
        epoch_slices: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config}, logger=False)
        self.recipe = recipe_from_dict(config["recipe"])
        with torch.random.fork_rng(devices=[]):  # weights follow from the recipe's seed alone
            torch.manual_seed(self.recipe.seed)
            self.net = UNet(self.recipe.unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.recipe.compile:
            # Beside the module, not in it: the names in a checkpoint stay those of the network.
            self.__dict__["_compiled"] = torch.compile(self.net.levels, dynamic=False)
        self.averaged = Averaged(self.net, self.recipe.average) if self.recipe.average else None
        self.loss = loss_named(self.recipe.loss)
        self.dice = PatientDice(cases)
        self.augment = augment
        self.steps_per_epoch, self.max_minutes = steps_per_epoch, max_minutes
        self.log_every, self.epoch_slices = log_every, dict(epoch_slices or {})
        self._losses, self._slices, self._rate = torch.zeros(()), 0, 0.0  # since they were logged
        self._shape: torch.Size | None = None  # of the batches that are compiled
        self._seconds_before, self._started = 0.0, time.monotonic()

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the network that is kept, see :meth:`lungseg.unet.UNet.forward`."""
        return self.kept(image)

    @property
    def kept(self) -> UNet:
        """The network that validation and prediction use: the averaged one where the recipe averages."""
        return self.net if self.averaged is None else cast(UNet, self.averaged.net)

    def model_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of the batch, all processes' slices of it together, and logits of this one's."""
        image, mask, _ = batch
        if not len(mask):
            # Of a last batch that is smaller than the number of processes; all of them have to run the network.
            image = image.new_full((1, *image.shape[1:]), AIR)
        image = image.contiguous(memory_format=torch.channels_last)
        if not self.training:
            logits = self.kept(image)[: len(mask)]
            return self.loss(logits, mask), logits
        # Batches of the first one's shape only: for every other, the last of an epoch or whole slices at the end of a
        # run, torch would compile anew.
        self._shape = self._shape or image.shape
        compiled = image.shape == self._shape and self.__dict__.get("_compiled")
        levels = compiled or self.net.levels
        found = [logits[: len(mask)] for logits in levels(image)]
        return over_levels(self.loss, found, mask), found[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, _ = self.model_step(batch)
        slices = self._batch_length(batch, batch_idx, "train")
        self._losses = loss.detach() * slices if not self._slices else self._losses.add_(loss.detach(), alpha=slices)
        self._slices += slices
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.averaged is not None:
            self.averaged.update(self.net, self.global_step)
        ends = self.global_step % self.steps_per_epoch == 0 or self.trainer.should_stop
        if not ends and self.global_step % self.log_every:
            return
        slices, mean = self._slices, self._losses / self._slices
        self.log("train_loss", mean, on_step=False, on_epoch=True, batch_size=slices, prog_bar=True)
        self.log("lr", self._rate, on_step=False, on_epoch=True, reduce_fx="max", batch_size=1)
        self._slices, self._rate = 0, 0.0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._scored_step(batch, batch_idx, "val")

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._scored_step(batch, batch_idx, "test")

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def _scored_step(self, batch: Batch, batch_idx: int, stage: str) -> None:
        loss, logits = self.model_step(batch)
        self.dice.update(logits, batch[1], batch[2])
        count = self._batch_length(batch, batch_idx, stage)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True, batch_size=count)

    def _batch_length(self, batch: Batch, batch_idx: int, stage: str) -> int:
        """Slices of a batch, all processes together."""
        if stage not in self.epoch_slices:
            return len(batch[0])
        size = self.recipe.batch_size
        return min(size, self.epoch_slices[stage] - batch_idx * size)

    def _log_scores(self, stage: str) -> None:
        self.log(f"{stage}_dice", self.dice.compute(), prog_bar=True)
        self.log(f"{stage}_soft_dice_pooled", self.dice.soft_dice_pooled(), prog_bar=True)
        self.dice.reset()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not self.trainer.training or self.augment is None:
            return batch
        image, mask, index = batch
        return *self.augment(image, mask, SampleRandom(self.recipe.seed, self.epoch, index)), index

    @property
    def epoch(self) -> int:
        """Epochs done, counted in steps as in :class:`~lungseg.loaders.SliceLoaders`."""
        return self.global_step // self.steps_per_epoch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        recipe, fused = self.recipe, self.device.type in ("cpu", "cuda")
        if recipe.optimizer == "adam":
            return torch.optim.Adam(self.net.parameters(), lr=recipe.learning_rate, fused=fused)
        return torch.optim.AdamW(
            self.net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set what this step depends on from its number alone, so that a resumed run can not differ."""
        seed_generators(SampleRandom(self.recipe.seed, 0, [self.global_step]).seeds("step")[0], self.device)
        rate = self.recipe.learning_rate * rate_factor(self.recipe.schedule, self.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        self._rate = max(self._rate, rate)

    @property
    def progress(self) -> float:
        """How far the run is, 0.0 to 1.0."""
        return self._progress_at(self.global_step)

    @property
    def progress_after_epoch(self) -> float:
        """How far the run will be when the epoch that begins is over, if its steps take as long as those before."""
        return self._progress_at(self.global_step + self.steps_per_epoch)

    def _progress_at(self, step: int) -> float:
        done, total = self.global_step, self.steps_per_epoch * self.recipe.epochs
        elapsed_s = from_first(self.elapsed_s) * (step / done if done else 1.0) if self.max_minutes else 0.0
        return run_progress(step, total, elapsed_s, self.max_minutes)

    @property
    def elapsed_s(self) -> float:
        """Time that this run took so far, before it was last resumed too, seconds."""
        return self._seconds_before + time.monotonic() - self._started

    def on_fit_start(self) -> None:
        self._started = time.monotonic()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["elapsed_s"] = self.elapsed_s

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        fit_weights(self.net, trained_weights(checkpoint), LAST)
        if self.averaged is not None:
            fit_weights(self.kept, network_weights(checkpoint), LAST)
        self._seconds_before = float(checkpoint["elapsed_s"])
