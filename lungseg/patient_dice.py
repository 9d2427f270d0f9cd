"""Dice of each patient and the pooled soft Dice, summed up batch by batch where the batch lies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from .metrics import dice_of_counts


class PatientDice(Metric):
    """Sums what the measures of :mod:`lungseg.metrics` need, so that no slice has to be kept.

    A pixel is tumour where its logit is above 0, which is a probability above 0.5.  Counts are whole numbers, so the
    result does not depend on the order or the size of the batches, nor on how several processes share the slices: the
    sums of all of them are taken before the measures are.

    Args:
        cases: names of the patients; ``case_index`` below counts along them.
    """

    full_state_update = False
    overlap: Tensor  # int64 [cases], pixels
    predicted: Tensor
    true: Tensor
    soft: Tensor  # float32 [3]: overlap, predicted and true as sums of probabilities

    def __init__(self, cases: Sequence[str]) -> None:
        super().__init__()
        self.cases = list(cases)
        for name in ("overlap", "predicted", "true"):
            self.add_state(name, torch.zeros(len(self.cases), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("soft", torch.zeros(3), dist_reduce_fx="sum")

    def update(self, logits: Tensor, mask: Tensor, case_index: Tensor) -> None:
        """Add a batch.

        Args:
            logits: any float ``[B, 1, H, W]``.
            mask: 0 or 1, ``[B, 1, H, W]``.
            case_index: ``int64 [B]``, which patient a slice is of.
        """
        true, predicted = mask > 0, logits > 0
        for state, pixels in ((self.overlap, true & predicted), (self.predicted, predicted), (self.true, true)):
            state.index_add_(0, case_index, pixels.flatten(1).sum(1))
        probability, truth = logits.float().sigmoid(), mask.float()
        self.soft += torch.stack([(probability * truth).sum(), probability.sum(), truth.sum()])

    def per_case(self) -> dict[str, float]:
        """Hard Dice of each patient over all slices seen (:func:`lungseg.metrics.dice` of the stacked masks)."""
        counts = zip(self.overlap.tolist(), self.true.tolist(), self.predicted.tolist(), strict=True)
        return {case: dice_of_counts(*count) for case, count in zip(self.cases, counts, strict=True)}

    def soft_dice_pooled(self) -> float:
        """The published recipe's measure, see :func:`lungseg.metrics.soft_dice_pooled`."""
        with self.sync_context():  # torchmetrics does so around ``compute`` only
            overlap, predicted, true = self.soft.tolist()
        return dice_of_counts(overlap, true, predicted)

    def compute(self) -> Tensor:
        """Mean of :meth:`per_case` over the patients."""
        scores = list(self.per_case().values())
        return torch.tensor(sum(scores) / max(len(scores), 1))
