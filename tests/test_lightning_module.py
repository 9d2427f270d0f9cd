"""The one step for training, validation and test, and what a step depends on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from lungseg.augment import augment_named
from lungseg.config import UNetConfig, to_dict
from lungseg.errors import IntegrityError
from lungseg.lightning_module import LungSegmenter
from lungseg.losses import LOSSES, loss_named, over_levels
from lungseg.metrics import dice, soft_dice_pooled
from lungseg.randomness import SampleRandom
from lungseg.unet import UNet
from lungseg.weights import network_weights

from .training import TINY

CASES = ("a", "b")


def module_of(recipe: Any = TINY, **options: Any) -> LungSegmenter:
    return LungSegmenter({"recipe": to_dict(recipe)}, cases=CASES, **options)


def centred(module: LungSegmenter, image: torch.Tensor) -> LungSegmenter:
    """The module with its last bias such that half of the pixels are predicted as tumour."""
    with torch.no_grad():
        module.net.head.bias -= module.net(image).median()
    return module


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(6, 1, 16, 16, generator=generator)
    return image, (image > 0.7).float(), torch.tensor([0, 0, 1, 1, 1, 0])


@pytest.mark.parametrize("loss", LOSSES)
def test_the_step_is_the_loss_of_the_networks_logits(batch: Any, loss: str) -> None:
    module = centred(module_of(TINY.but(loss=loss)), batch[0]).eval()
    value, logits = module.model_step(batch)
    assert torch.allclose(logits, module.net(batch[0]), atol=1e-5) and logits.min() < 0 < logits.max()  # no sigmoid
    assert value == loss_named(loss)(logits, batch[1])


@pytest.mark.parametrize("stage", ["val", "test"])
def test_validation_and_test_log_the_same_measures(batch: Any, stage: str) -> None:
    module = centred(module_of(), batch[0])
    loader = DataLoader(TensorDataset(*batch), batch_size=2)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    run = {"val": trainer.validate, "test": trainer.test}[stage]
    logged = run(module, loader, verbose=False)[0]
    with torch.inference_mode():
        logits = module.net(batch[0])
    scores = [dice(batch[1][batch[2] == place], logits[batch[2] == place] > 0) for place in range(2)]
    assert logged[f"{stage}_dice"] == pytest.approx(sum(scores) / 2)
    assert scores[0] != scores[1]
    pooled = soft_dice_pooled(batch[1], logits.sigmoid())
    assert logged[f"{stage}_soft_dice_pooled"] == pytest.approx(pooled, rel=1e-5)
    losses = [module.loss(logits[k : k + 2], batch[1][k : k + 2]) for k in (0, 2, 4)]
    assert logged[f"{stage}_loss"] == pytest.approx(float(sum(losses)) / 3, rel=1e-5)
    assert logged.keys() == {f"{stage}_{name}" for name in ("loss", "dice", "soft_dice_pooled")}


def test_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other, third = module_of(), module_of(), module_of(TINY.but(seed=1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.net.head.weight, other.net.head.weight)
    assert not torch.equal(one.net.head.weight, third.net.head.weight)


def test_training_batches_are_augmented_by_epoch_and_others_are_not(batch: Any) -> None:
    engine = augment_named("torch")
    module = module_of(steps_per_epoch=3, augment=engine)
    module._trainer = SimpleNamespace(training=False, global_step=7, fit_loop=None)  # type: ignore[assignment]
    assert module.on_after_batch_transfer(batch, 0) is batch
    module._trainer.training = True
    image, mask, index = module.on_after_batch_transfer(batch, 0)
    expected = engine(batch[0], batch[1], SampleRandom(TINY.seed, 2, batch[2]))
    assert torch.equal(image, expected[0]) and torch.equal(mask, expected[1]) and torch.equal(index, batch[2])
    assert not torch.equal(image, batch[0])


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimizers_are_the_recipes(name: str, kind: type) -> None:
    optimizer = module_of(TINY.but(optimizer=name, weight_decay=0.25)).configure_optimizers()
    assert type(optimizer) is kind and optimizer.defaults["lr"] == TINY.learning_rate
    assert optimizer.defaults["weight_decay"] == (0.25 if name == "adamw" else 0)


def test_a_step_is_decided_by_its_number(batch: Any) -> None:
    module = module_of(TINY.but(schedule="one_cycle", epochs=2), steps_per_epoch=4)
    group = {"lr": 0.0}
    module.log = lambda *arguments, **options: None  # type: ignore[method-assign]
    module._trainer = SimpleNamespace(global_step=2, optimizers=[SimpleNamespace(param_groups=[group])])  # type: ignore[assignment]
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for noise in (1, 2):
            torch.manual_seed(noise)
            module.on_train_batch_start(batch, 0)
            drawn.append(torch.rand(3))
        assert torch.equal(*drawn)
    assert group["lr"] == pytest.approx(TINY.learning_rate)  # a quarter of the run is the peak of one cycle


@pytest.mark.parametrize(("steps", "every"), [(7, 3), (6, 3), (2, 3), (4, 1)])
def test_what_is_logged_seldom_is_the_mean_of_all_steps(batch: Any, steps: int, every: int) -> None:
    module = module_of(steps_per_epoch=steps, log_every=every)
    logged: list[tuple[str, float, int]] = []
    module.log = lambda name, value, **options: logged.append((name, float(value), options["batch_size"]))  # type: ignore[method-assign]
    module._trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=0, training=True, should_stop=False, optimizers=[SimpleNamespace(param_groups=[{}])], fit_loop=None
    )
    losses = []
    with torch.random.fork_rng(devices=[]):
        for number in range(steps):
            part = tuple(tensor[: 1 + number % 4] for tensor in batch)  # batches of several sizes
            module.on_train_batch_start(part, number)
            losses += [float(module.training_step(part, number).detach())] * len(part[0])
            module._trainer.global_step += 1
            module.on_train_batch_end(None, part, number)
    found = [(value, size) for name, value, size in logged if name == "train_loss"]
    assert len(found) == -(-steps // every) and sum(size for _, size in found) == len(losses)
    mean = sum(value * size for value, size in found) / len(losses)
    assert mean == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert {value for name, value, _ in logged if name == "lr"} == {TINY.learning_rate}


def test_a_run_that_ends_within_an_epoch_logs_its_last_steps(batch: Any) -> None:
    module = module_of(steps_per_epoch=100, log_every=50)
    logged: list[str] = []
    module.log = lambda name, value, **options: logged.append(name)  # type: ignore[method-assign]
    module._trainer = SimpleNamespace(global_step=3, training=True, should_stop=True, fit_loop=None)  # type: ignore[assignment]
    module.training_step(batch, 2)
    module.on_train_batch_end(None, batch, 2)
    assert logged == ["train_loss", "lr"]


def test_hyper_parameters_are_the_plain_config(batch: Any) -> None:
    module = module_of()
    assert dict(module.hparams) == {"config": {"recipe": to_dict(TINY)}}


def test_another_networks_weights_are_refused() -> None:
    weights = {f"net.{key}": value for key, value in UNet().state_dict().items()}
    with pytest.raises(IntegrityError, match="another network"):
        module_of().on_load_checkpoint({"state_dict": weights, "elapsed_s": 1.0})


def test_time_goes_on_where_the_checkpoint_left_it() -> None:
    module, checkpoint = module_of(), {}
    module._seconds_before = 100.0
    module.on_save_checkpoint(checkpoint)
    weights = {f"net.{key}": value for key, value in module.net.state_dict().items()}
    resumed = module_of()
    resumed.on_load_checkpoint({**checkpoint, "state_dict": weights})
    resumed.on_fit_start()
    assert 100.0 <= resumed.elapsed_s < 160.0


def test_the_averaged_network_is_what_is_validated_and_kept(batch: Any) -> None:
    module = module_of(TINY.but(average=0.5))
    module._trainer = SimpleNamespace(global_step=4)  # type: ignore[assignment]
    module.log = lambda *arguments, **options: None  # type: ignore[method-assign]
    with torch.no_grad():
        module.net.head.bias += 8.0
    module.on_train_batch_end(None, batch, 0)
    keep = min(0.5, 5 / 14)
    assert torch.allclose(module.kept.head.bias, module.net.head.bias - 8.0 * keep)
    _, logits = module.eval().model_step(batch)
    assert torch.equal(logits, module.kept(batch[0])) and not torch.equal(logits, module.net(batch[0]))
    checkpoint = {"state_dict": module.state_dict(), "elapsed_s": 0.0}
    assert torch.equal(network_weights(checkpoint)["head.bias"], module.kept.head.bias)
    again = module_of(TINY.but(average=0.5))
    again.on_load_checkpoint(checkpoint)
    assert torch.equal(again.net.head.bias, module.net.head.bias)
    assert torch.equal(again.kept.head.bias, module.kept.head.bias)


def test_coarser_predictions_count_in_training_only(batch: Any) -> None:
    recipe = TINY.but(unet=UNetConfig(widths=(4, 8), deep=1))
    module = module_of(recipe)
    found = module.net.levels(batch[0])
    assert torch.allclose(module.model_step(batch)[0], over_levels(module.loss, found, batch[1]))
    value, logits = module.eval().model_step(batch)
    assert value == module.loss(logits, batch[1])
