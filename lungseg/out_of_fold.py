"""What each fold's network says of the patients that it never saw: worked out once, checked, and kept.

Maps lie in ``RUN/folds/<k>/out_of_fold`` (:mod:`lungseg.probability_map`), with counts of the slices beside them; a map
that is damaged, or of other weights or slices, is made again.  One patient is in memory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import BEST, FOLDER
from .crossval_folder import fold_folder
from .digests import sha256_of
from .errors import DataError, IntegrityError
from .folder_lock import folder_lock
from .held_out import from_slices
from .inference import Segmenter
from .leakage import check_unseen
from .manifest import Manifest
from .probability_map import MapVolume, read_map, write_map
from .run_folder import SPLITS, data_digest
from .run_weights import check_weights
from .splits import Fold, Split
from .tally import SliceTally

STAGE = "crossval"
MAPS = "out_of_fold"
FORMAT = 1
_WAIT_S = 600.0  # for other writers, each of which takes a moment


@dataclass(frozen=True)
class TrainedFold:
    """A fold whose network may score its held-out patients.

    Args:
        number: of the fold.
        folder: its run.
        cases: the held-out patients, sorted.
        weights: SHA-256 of ``best.ckpt``.
    """

    number: int
    folder: Path
    cases: tuple[str, ...]
    weights: str


def checked_fold(run: Path, number: int, planned: Fold, manifest: Manifest) -> TrainedFold:
    """The fold, after its weights were shown to have seen none of the patients that it is to score.

    Raises:
        DataError: the run in its folder is of another fold or of other data; a held-out scan is one that was trained
            on, under whatever name.
        IntegrityError: the checkpoint is refused.
    """
    folder = fold_folder(run, number)
    split = Split.read(folder / SPLITS)
    trained = (*split.train, *split.inner_val)
    planned_so = set(split.held_out) == set(planned.val) and set(trained) == set(planned.train)
    if split.fold != number or not planned_so:
        raise DataError.of(
            "leak",
            f"does not hold fold {number}: its weights may have been trained on the patients to be scored",
            expected=f"fold {number}, trained on {len(planned.train)} patients, {len(planned.val)} held out",
            found=f"fold {split.fold}, trained on {len(trained)} patients, {len(split.held_out)} held out",
            file=folder,
            mend="Remove this folder, and run the same `lungseg crossval` again: it trains the fold anew.",
            stage=STAGE,
        )
    check_weights(folder, BEST, split, manifest, stage=STAGE)
    check_unseen(manifest, split)
    return TrainedFold(number, folder, split.held_out, sha256_of(folder / FOLDER / BEST))


class OutOfFold:
    """Out-of-fold predictions: kept ones, or made by the fold's network, which is loaded when it is first needed.

    Args:
        manifest: of the slices.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        batch_size: slices at a time; None chooses by device.
    """

    def __init__(self, manifest: Manifest, device: str = "auto", batch_size: int | None = None) -> None:
        self.manifest, self.device, self.batch_size = manifest, device, batch_size

    def only(self, case: str) -> OutOfFold:
        """The same for one case alone: small enough to travel."""
        return OutOfFold(self.manifest.only(case), self.device, self.batch_size)

    def get(self, fold: TrainedFold, case: str) -> tuple[np.ndarray, SliceTally]:
        """One patient of the fold.

        Returns:
            Levels ``uint8 [L, A, S]``, and what was counted of the slices.

        Raises:
            DataError, IntegrityError: a slice or the checkpoint is damaged.
        """
        facts: dict[str, Any] = {
            "format": FORMAT,
            "weights": fold.weights,
            "slices": data_digest(self.manifest, [case]),
        }
        if self.manifest.slice_sets:  # without neighbours, then, if the network would see any
            facts["slice_sets"] = True
        there = read_map(fold.folder / MAPS, case, facts)
        if there is not None:
            return there[0], SliceTally.from_dict(there[1])
        levels, tally = self._make(fold, case)
        # Workers of a cluster make maps of the same fold at once, and only write them one after the other.
        with folder_lock(fold.folder / MAPS, stage=STAGE, wait_s=_WAIT_S):
            write_map(fold.folder / MAPS, case, levels, facts, tally.as_dict())
        return levels, tally

    def _make(self, fold: TrainedFold, case: str) -> tuple[np.ndarray, SliceTally]:
        patient = from_slices(self.manifest, case)
        volume, tally = MapVolume(patient.truth.shape, patient.grid), SliceTally()
        pixel_mm = patient.grid.pixel_mm(patient.spacing_mm)
        images, ahead = tee(patient.images)  # the network is ahead by a batch, and by its neighbours
        places = None if self.manifest.slice_sets else patient.indices
        found = self._segmenter(fold).probabilities(ahead, places, patient.spacing_mm[2])
        for z, image, mask, probability in zip(patient.indices, images, patient.masks, found, strict=True):
            volume.put(z, probability)
            tally.add(image, mask, probability, pixel_mm, self.manifest.config)
        return volume.levels, tally

    def _segmenter(self, fold: TrainedFold) -> Segmenter:
        return _loaded(fold.folder, fold.weights, self.device, self.batch_size)


@lru_cache(maxsize=1)
def _loaded(run: Path, weights: str, device: str, batch_size: int | None) -> Segmenter:
    """The network of a fold, kept from patient to patient, on a worker too.

    Raises:
        IntegrityError: the checkpoint is refused, or is no longer that with the SHA-256 ``weights``.
    """
    segmenter = Segmenter.load(run, device=device, batch_size=batch_size)
    if segmenter.description["sha256"] != weights:
        mend = "Let all machines see the same folder."
        raise IntegrityError.of("other-weights", "the weights are not those that were checked", file=run, mend=mend)
    return segmenter
