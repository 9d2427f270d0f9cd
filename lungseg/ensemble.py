"""The networks of several folds as one: what ``predict`` uses on a cross-validated run.

The ensemble's probability is the mean of the folds' probabilities, not of their logits.  Missed tumours cost this task
most (published runs have a Dice under 0.05 in 6 to 10 of 63 patients), and a mean of logits lets one network that is
very sure of nothing outvote all others; in the mean of probabilities each fold has one vote of the same weight.  The
Brier score of the mean is at most the mean of the folds' Brier scores, because the square is convex.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .config import PreprocessConfig
from .crossval_folder import fold_folder, is_crossval, read_chosen
from .errors import DataError
from .inference import Segmenter
from .postprocess import PLAIN, PostProcessing

SLICES_HELD = 32  # slices that all folds are run over before the next are read: 8 MB of probabilities


@dataclass(frozen=True)
class Ensemble:
    """Networks of several folds, used as a :class:`~lungseg.inference.Segmenter` is.

    Args:
        members: one a fold, all trained on slices of the same settings.
        config: how slices have to be made for them.
        description: of the model, for records; plain values.
    """

    members: tuple[Segmenter, ...]
    config: PreprocessConfig
    description: dict[str, Any]

    def probabilities(
        self, slices: Iterable[np.ndarray], places: Sequence[int] | None = None, slice_mm: float = 1.0
    ) -> Iterator[np.ndarray]:
        """Mean probability of tumour, slice by slice, in the order given.

        Args:
            slices, places, slice_mm: as in :meth:`Segmenter.probabilities`.

        Yields:
            ``float32 [size, size]``, 0 to 1.
        """
        neighbours = self.members[0].neighbours  # all folds are of one recipe
        if places is not None and neighbours.count:
            slices = neighbours.stacks(slices, places, slice_mm)
        rest = iter(slices)
        while held := list(islice(rest, SLICES_HELD)):
            total = np.zeros((len(held), *held[0].shape[-2:]), np.float32)
            for member in self.members:
                for index, probability in enumerate(member.probabilities(held)):
                    total[index] += probability
            total /= len(self.members)
            yield from total


def load_segmenter(
    run: str | Path, *, checkpoint: str = "best", device: str = "auto", batch_size: int | None = None
) -> tuple[Segmenter | Ensemble, PostProcessing]:
    """The network of a run, or the ensemble of a cross-validated one, and the settings that it is used with.

    Args:
        run: folder that ``train`` or ``crossval`` has made.
        checkpoint: ``best`` or ``last``, of each fold.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: slices at a time; None chooses by device.

    Raises:
        UsageError: there is no such run, checkpoint or device name; the cross-validation has not ended, or its folds
            hold other weights than those that it scored.
        DataError: the folds were trained on slices of different settings, or with other neighbours.
        IntegrityError: a checkpoint is refused.
        MachineError: this machine has no such device.
    """
    options: dict[str, Any] = {"checkpoint": checkpoint, "device": device, "batch_size": batch_size}
    if not is_crossval(run):
        return Segmenter.load(run, **options), PLAIN
    chosen = read_chosen(run)
    members = tuple(Segmenter.load(fold_folder(run, fold), **options) for fold in chosen.folds)
    if checkpoint == "best":
        chosen.refuse_other_weights(run, [member.description["sha256"] for member in members])
    configs = [(member.config, member.neighbours) for member in members]
    if any(config != configs[0] for config in configs):
        raise DataError.of(
            "other-settings",
            "the folds were trained on slices of different settings",
            found=" and ".join(f"{config}, {neighbours}" for config, neighbours in dict.fromkeys(configs)),
            file=run,
            mend="Cross-validate again, into another folder.",
        )
    description = {"ensemble": "mean of probabilities", "folds": [member.description for member in members]}
    return Ensemble(members, members[0].config, description), chosen.postprocessing
