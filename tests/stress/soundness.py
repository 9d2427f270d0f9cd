"""Whether a file is whole, by its kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lungseg.checkpoint import load_checkpoint
from lungseg.export import load_exported
from lungseg.files import TEMPORARY_PREFIX
from lungseg.folder_lock import LOCK_NAME
from lungseg.nifti import read_scan


def faults(path: Path) -> list[str]:
    """What is wrong with the file; nothing where it is whole, or of a kind that may be half there (``.part``)."""
    if TEMPORARY_PREFIX in str(path):
        return [f"{path.name} was left behind"]
    if path.name in (LOCK_NAME, "filler") or path.name.endswith(".part"):
        return []
    try:
        if path.name.endswith((".nii", ".nii.gz")):
            read_scan(path)
        elif path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix == ".npy":
            np.load(path, allow_pickle=False)
        elif path.suffix == ".ckpt":
            load_checkpoint(path)
        elif path.suffix == ".safetensors":
            load_exported(path)
        elif path.suffix in (".png", ".gif", ".webp"):
            with Image.open(path) as image:
                for frame in range(getattr(image, "n_frames", 1)):
                    image.seek(frame)
                    image.load()
        elif path.suffix in (".csv", ".sha256"):
            text = path.read_text("utf-8")
            if not text.endswith("\n"):
                return [f"{path.name} ends within a line"]
        elif path.suffix == ".html":
            if not path.read_text("utf-8").rstrip().endswith("</html>"):
                return [f"{path.name} ends within the page"]
        else:
            return [f"{path.name} is of no kind that is known here"]
    except Exception as error:
        return [f"{path.name}: {type(error).__name__}: {str(error)[:200]}"]
    return []
