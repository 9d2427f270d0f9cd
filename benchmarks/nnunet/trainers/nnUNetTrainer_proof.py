"""A schedule of a few steps, to prove the whole way on a CPU; no figure is made with it."""

from __future__ import annotations

from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainer_proof(nnUNetTrainer):
    """One epoch of two steps."""

    def __init__(self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict[str, Any],
                 device: Any = None) -> None:  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
