"""Whether a run's weights may have seen the patients that it holds out: they must be of its fold and of its data."""

from __future__ import annotations

from pathlib import Path

from .checkpoint import FOLDER, load_checkpoint
from .config import to_dict
from .errors import DataError
from .manifest import Manifest
from .run_folder import data_digest, read_config
from .splits import Split


def check_weights(run: Path, checkpoint: str, split: Split, manifest: Manifest, *, stage: str) -> None:
    """Refuse weights that may have seen the patients that a run holds out.

    Args:
        run: its folder.
        checkpoint: name of the file that is used.
        split: of the run.
        manifest: of the slices that the patients are scored on.
        stage: for the message.

    Raises:
        DataError: the checkpoint is of another fold or of other data; or the slices are not those that were trained on,
            so that a name may now stand for another patient.
        IntegrityError: the checkpoint is refused.
    """
    config, own = read_config(run), load_checkpoint(run / FOLDER / checkpoint)["hyper_parameters"]["config"]
    same_data = config["data"] == own.get("data")
    if not (config["fold"] == own.get("fold") == split.fold and same_data):
        raise DataError.of(
            "leak",
            f"holds weights that may have been trained on the patients to be scored ({checkpoint})",
            expected=f"weights of fold {split.fold}, trained on the data of this run",
            found=f"weights of fold {own.get('fold')}, trained on {'the same' if same_data else 'other'} data",
            file=run,
            mend="Train this fold again, or put its own checkpoint back.",
            stage=stage,
        )
    made = {"settings": to_dict(manifest.config), "digest": data_digest(manifest, [*split.train, *split.inner_val])}
    if any(config["data"][name] != value for name, value in made.items()):
        raise DataError.of(
            "other-data",
            "was trained on other slices than those in the preprocessed folder",
            file=run,
            mend="Preprocess as before, or train again into another folder.",
            stage=stage,
        )
