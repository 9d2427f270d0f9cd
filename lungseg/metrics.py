"""How well a mask fits: the Dice of one patient, and the pooled soft Dice that the published recipe reports.

Dice is 2 |A and B| / (|A| + |B|) (Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology
1945).  Where both masks are empty it is 1.0 (nothing to find, nothing found); where only one is, 0.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DataError


def dice(truth: Any, prediction: Any) -> float:
    """Dice of two masks of one patient.

    Args:
        truth: any shape; bool, or numbers of which all but 0 are tumour.  An array, or a tensor on the CPU.
        prediction: the same shape.

    Returns:
        0.0 to 1.0; 1.0 where both are empty, 0.0 where one is.

    Raises:
        DataError: the shapes differ.

    Example:
        >>> dice([1, 1, 0, 0], [0, 1, 1, 0])
        0.5
    """
    truth, prediction = np.asarray(truth).astype(bool), np.asarray(prediction).astype(bool)
    _same_shape(truth, prediction)
    counts = (np.count_nonzero(mask) for mask in (truth & prediction, truth, prediction))
    return dice_of_counts(*map(int, counts))


def dice_of_counts(overlap: float, truth: float, prediction: float) -> float:
    """Dice from sizes.

    Args:
        overlap: pixels (or voxels) in both masks.
        truth: pixels in the true mask.
        prediction: pixels in the predicted mask.

    Returns:
        As :func:`dice`; the sizes may be sums of probabilities as well.
    """
    total = truth + prediction
    return 1.0 if total == 0 else float(2.0 * overlap / total)


def soft_dice_pooled(truth: Any, probability: Any) -> float:
    """The measure that the published recipe calls Dice: probabilities in place of a mask, all slices as one heap.

    Large tumours decide it, small ones vanish in it, and it is no number of any patient.  It is kept for comparison
    only and never called Dice alone.

    Args:
        truth: 0 or 1, any shape.
        probability: 0 to 1, the same shape.

    Returns:
        0.0 to 1.0; 1.0 where both sum to 0 (the published code gives NaN there).

    Raises:
        DataError: the shapes differ.
    """
    truth, probability = np.asarray(truth, np.float64), np.asarray(probability, np.float64)
    _same_shape(truth, probability)
    return dice_of_counts((truth * probability).sum(), truth.sum(), probability.sum())


def _same_shape(truth: np.ndarray, prediction: np.ndarray) -> None:
    if truth.shape != prediction.shape:
        raise DataError.of(
            "shape-mismatch",
            "truth and prediction are not of one shape",
            expected=str(truth.shape),
            found=str(prediction.shape),
        )
