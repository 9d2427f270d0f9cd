"""A network that each worker of a cluster loads by itself, once: what travels with a case is only where it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .ensemble import Ensemble, load_segmenter
from .errors import MachineError
from .inference import Segmenter


@dataclass(frozen=True)
class WorkerNetwork:
    """Where a network is and how it is to be loaded.

    Args:
        run: folder of a run, or exported weights, under the same path on every machine.
        model: its description, as JSON: a worker that finds other weights there does nothing with them.
        checkpoint: ``best`` or ``last``.
        device: as for ``predict``; ``auto`` is decided by each worker.
        batch_size: slices at a time; None chooses by device.
        skip_slices: axial slices at the feet end that are not looked at; None for what it was trained with.
    """

    run: str
    model: str
    checkpoint: str = "best"
    device: str = "auto"
    batch_size: int | None = None
    skip_slices: str | None = None

    @classmethod
    def of(
        cls,
        segmenter: Segmenter | Ensemble,
        run: str | Path,
        *,
        checkpoint: str = "best",
        device: str = "auto",
        batch_size: int | None = None,
    ) -> WorkerNetwork:
        """The way to a network that was loaded here already, and so was checked."""
        model = json.dumps(segmenter.description, sort_keys=True)
        skip = segmenter.config.skip_slices
        return cls(str(Path(run).absolute()), model, checkpoint, device, batch_size, skip)

    def load(self) -> Segmenter | Ensemble:
        """The network; of the same one, only the first call of a process reads it.

        Raises:
            MachineError: this machine finds other weights under the path, or has no such device.
            UsageError: there is nothing under the path.
            IntegrityError: the checkpoint is refused.
        """
        return _loaded(self)


@lru_cache(maxsize=1)
def _loaded(asked: WorkerNetwork) -> Segmenter | Ensemble:
    segmenter, _ = load_segmenter(
        asked.run, checkpoint=asked.checkpoint, device=asked.device, batch_size=asked.batch_size
    )
    if json.dumps(segmenter.description, sort_keys=True) != asked.model:
        mend = "Let all machines see the same folder."
        raise MachineError.of("other-weights", "a worker finds other weights there", file=asked.run, mend=mend)
    if asked.skip_slices is None:
        return segmenter
    return replace(segmenter, config=replace(segmenter.config, skip_slices=asked.skip_slices))
