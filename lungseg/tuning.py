"""Settings chosen on out-of-fold predictions: threshold and kept components by mean Dice, temperature by likelihood.

Nested: the setting that a patient is reported with is chosen on the patients of the other folds alone
(Varma and Simon, "Bias in error estimation when using cross-validation for model selection", BMC Bioinformatics 2006).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .calibration import LogitHistogram, fit_temperature, total
from .components import bounding_box, label_components
from .metrics import dice_of_counts
from .postprocess import PostProcessing, component_sums, kept, smallest_voxels
from .probability_map import level_above

# All exact in a kept map, and closer together than what some tens of patients can tell apart.  The lowest are for
# networks that are too sure of themselves, as long training on few patients makes them.
FROC_THRESHOLDS = tuple(step / 16 for step in range(1, 16))
THRESHOLDS = (1 / 64, 1 / 32, *FROC_THRESHOLDS)
# Nodules of 3, 6, 8, 10 and 12 mm have 0.014, 0.11, 0.27, 0.52 and 0.9 ml.
SMALLEST_ML = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Not up to 1: to keep the heaviest component alone fails whoever has a tumour in two parts, and some tens of patients
# can choose it by chance.
SMALLEST_SHARES = (0.0, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class CaseCounts:
    """What the Dice of one patient is at every setting.

    Args:
        case: name of the patient.
        truth: voxels of true tumour.
        overlap: voxels that are true and found, ``int64 [thresholds, sizes, shares]``.
        found: voxels that are found, likewise.
        thresholds, smallest_ml, smallest_shares: the settings along the three axes.
    """

    case: str
    truth: int
    overlap: np.ndarray
    found: np.ndarray
    thresholds: tuple[float, ...] = THRESHOLDS
    smallest_ml: tuple[float, ...] = SMALLEST_ML
    smallest_shares: tuple[float, ...] = SMALLEST_SHARES

    @property
    def dice(self) -> np.ndarray:
        """Dice at every setting, ``float64 [thresholds, sizes, shares]``."""
        pairs = zip(self.overlap.flat, self.found.flat, strict=True)
        values = [dice_of_counts(int(overlap), self.truth, int(found)) for overlap, found in pairs]
        return np.array(values).reshape(self.overlap.shape)


def count(
    case: str,
    truth: np.ndarray,
    levels: np.ndarray,
    voxel_ml: float,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    smallest_ml: Sequence[float] = SMALLEST_ML,
    smallest_shares: Sequence[float] = SMALLEST_SHARES,
) -> CaseCounts:
    """Count a patient's voxels at every setting.

    Args:
        case: name of the patient.
        truth: ``[L, A, S]``, tumour where it is not 0.
        levels: of the out-of-fold probabilities, ``uint8 [L, A, S]`` (see :mod:`lungseg.probability_map`).
        voxel_ml: volume of a voxel, millilitres.
        thresholds: multiples of 1/256.
        smallest_ml: volumes, millilitres; only 0 where slices of the stack are no neighbours.
        smallest_shares: of the heaviest component's weight, 0 to 1.  In a stack with gaps a component goes on across
            them: there it is no lesion, and a share only a way to a mask, judged by its Dice like any other.
    """
    sizes = [smallest_voxels(size, voxel_ml) for size in smallest_ml]
    overlap, found = (np.zeros((len(thresholds), len(sizes), len(smallest_shares)), np.int64) for _ in range(2))
    settings = tuple(thresholds), tuple(smallest_ml), tuple(smallest_shares)
    box = bounding_box(levels)
    for row, threshold in enumerate(thresholds if box is not None else ()):
        assert box is not None
        mask = levels[box] >= level_above(threshold)
        true = (truth[box] != 0) & mask
        if max(sizes) <= 1 and not any(smallest_shares):
            found[row], overlap[row] = np.count_nonzero(mask), np.count_nonzero(true)
            continue
        labels, components = label_components(mask)
        voxels, weights = component_sums(labels, components), component_sums(labels, components, levels[box])
        hit = component_sums(labels * true, components)
        for size, fewest in enumerate(sizes):
            for part, share in enumerate(smallest_shares):
                stay = kept(voxels, weights, fewest, share)
                found[row, size, part], overlap[row, size, part] = voxels[stay].sum(), hit[stay].sum()
    return CaseCounts(case, int(np.count_nonzero(truth)), overlap, found, *settings)


def choose(cases: Iterable[CaseCounts]) -> PostProcessing:
    """The setting with the highest mean Dice over ``cases``, all counted at the same settings, at least one.

    Among equals the threshold nearest to 0.5, then the smallest volume and then the smallest share is taken, so that
    nothing is changed without a gain.  The temperature is left at 1.
    """
    counted = list(cases)
    mean = np.mean([case.dice for case in counted], axis=0)
    first = counted[0]
    best = mean.max()
    equal = [
        (abs(first.thresholds[row] - 0.5), first.smallest_ml[size], first.smallest_shares[share], first.thresholds[row])
        for row, size, share in zip(*np.nonzero(mean >= best - 1e-12), strict=True)
    ]
    _, smallest, share, threshold = min(equal)
    return PostProcessing(threshold=threshold, smallest_ml=smallest, smallest_share=share)


@dataclass(frozen=True)
class Choice:
    """What the held-out patients of one fold bring to a choice.

    Args:
        counts: of each patient.
        histograms: of each patient's logits.
    """

    counts: tuple[CaseCounts, ...]
    histograms: tuple[LogitHistogram, ...]


def choose_on(folds: Iterable[Choice]) -> PostProcessing:
    """Threshold, kept components and temperature that are best on all patients of ``folds``, at least one."""
    folds = list(folds)
    chosen = choose(case for fold in folds for case in fold.counts)
    pooled = total([histogram for fold in folds for histogram in fold.histograms])
    return replace(chosen, temperature=round(fit_temperature(pooled), 4))


def choose_nested(folds: Mapping[int, Choice]) -> dict[int, PostProcessing]:
    """For each fold the setting that is chosen on the patients of all *other* folds.

    Args:
        folds: the held-out patients by fold.

    Returns:
        Setting by fold; none where there are fewer than two folds, because nobody is left to choose on.
    """
    if len(folds) < 2:
        return {}
    return {fold: choose_on(choice for other, choice in folds.items() if other != fold) for fold in folds}


def choose_all(folds: Mapping[int, Choice], *, mask: bool, temperature: bool) -> PostProcessing:
    """The setting for new patients, chosen on all there are.

    Args:
        folds: the held-out patients by fold.
        mask: whether choosing threshold and kept components paid when it was nested; they stay plain otherwise.
        temperature: likewise for the temperature.
    """
    chosen, plain = choose_on(folds.values()), PostProcessing()
    return replace(chosen if mask else plain, temperature=chosen.temperature if temperature else plain.temperature)
