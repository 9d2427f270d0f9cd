"""Pictures of scans, masks, training and the network.

Figures return a matplotlib figure that a notebook shows; animations write a file.  Each function is imported when it is
first asked for, so that the curves of a run need neither nibabel nor celluloid.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .animation import animate
    from .colours import PALETTE, PREDICTION, TRUTH
    from .curves import training_curves
    from .data_figures import augmentation_examples, class_imbalance
    from .diagram import block_shapes, unet_diagram
    from .encoding import save_animation
    from .figures import montage, side_by_side
    from .frames import Detail, render_frames
    from .planes import three_planes, volume_viewer
    from .recorded import record
    from .windows import WINDOWS_HU, to_grey, to_hu, window_hu

_HOME = {
    "animate": "animation",
    "save_animation": "encoding",
    "PALETTE": "colours",
    "PREDICTION": "colours",
    "TRUTH": "colours",
    "training_curves": "curves",
    "augmentation_examples": "data_figures",
    "class_imbalance": "data_figures",
    "block_shapes": "diagram",
    "unet_diagram": "diagram",
    "montage": "figures",
    "side_by_side": "figures",
    "Detail": "frames",
    "render_frames": "frames",
    "three_planes": "planes",
    "volume_viewer": "planes",
    "record": "recorded",
    "WINDOWS_HU": "windows",
    "to_grey": "windows",
    "to_hu": "windows",
    "window_hu": "windows",
}

__all__ = [
    "PALETTE",
    "PREDICTION",
    "TRUTH",
    "WINDOWS_HU",
    "Detail",
    "animate",
    "augmentation_examples",
    "block_shapes",
    "class_imbalance",
    "montage",
    "record",
    "render_frames",
    "save_animation",
    "side_by_side",
    "three_planes",
    "to_grey",
    "to_hu",
    "training_curves",
    "unet_diagram",
    "volume_viewer",
    "window_hu",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
