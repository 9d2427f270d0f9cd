"""Every setting of the pipeline, as frozen dataclasses of plain numbers and strings, and the recipes made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from .errors import UsageError

# The user's recipe divides by 3071, the largest value of 12-bit CT with the usual offset of -1024 (0..4095); real files
# of Task06_Lung exceed it (lung_018 reaches 20,349 HU), so they are clipped first.
HU_MIN = -1000.0  # air
HU_MAX = 3071.0
AIR = HU_MIN / HU_MAX  # -0.3256: what lies outside the body in a preprocessed slice


@dataclass(frozen=True)
class PreprocessConfig:
    """How a scan becomes slices.

    Args:
        size: rows and columns of a slice, pixels.
        skip_slices: how many axial slices to drop at the feet end: ``"30"`` slices, ``"12.5mm"``, or ``"auto"`` (up to
            the first slice that shows lung).
        hu_min: lower clip, HU.
        hu_max: upper clip and divisor, HU.
    """

    size: int = 256
    skip_slices: str = "30"
    hu_min: float = HU_MIN
    hu_max: float = HU_MAX


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random transform; each is drawn uniformly, anew for every sample.

    Args:
        scale: smallest and largest zoom.
        rotation_deg: largest rotation either way, degrees.
        translation: largest shift either way on each axis, as a share of the side.
        elastic_strength: smallest and largest strength of the elastic displacement (alpha), pixels.
        elastic_smoothness: smallest and largest standard deviation of its Gaussian (sigma), pixels.
        mirror: chance that left and right are exchanged first; 0 in the published recipe.
        window: side of the square part of the slice that a training step sees, pixels (see :mod:`lungseg.window`); 0,
            as in the published recipe, is the whole slice.
        contrast: smallest and largest factor on the distance of each pixel from water (0 HU); both 1 in the published
            recipe, which leaves grey levels alone, as do the zeros below.
        offset_hu: largest shift of all HU either way.
        noise_hu: largest standard deviation of noise.
        blur: largest standard deviation of a Gaussian that takes detail away, pixels; half of the samples keep theirs.
    """

    scale: tuple[float, float] = (0.85, 1.15)
    rotation_deg: float = 45.0
    translation: float = 0.15
    elastic_strength: tuple[float, float] = (0.0, 40.0)
    elastic_smoothness: tuple[float, float] = (4.0, 8.0)
    mirror: float = 0.0
    window: int = 0
    contrast: tuple[float, float] = (1.0, 1.0)
    offset_hu: float = 0.0
    noise_hu: float = 0.0
    blur: float = 0.0


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the U-Net; the defaults are ``classic`` (7,781,761 parameters).

    Args:
        in_channels: channels of the input.
        widths: channels of each level, full resolution first; one pooling between two levels.
        norm: normalisation after each 3x3 convolution.
        patch: side of the square of pixels that the network takes as one, its pixels as channels; 2 makes a forward
            pass about four times cheaper, 4 sixteen times.
        window_hu: HU range that is stretched to -1 to 1 before the first convolution, and clipped to; None leaves HU /
            3071 as it is.
        prior: probability of tumour that the untrained network begins with; 0.5 leaves the last bias as it is drawn.
        deep: how many of the coarser steps of the decoder have a prediction of their own, which is trained too (deep
            supervision, Lee et al., AISTATS 2015) and is not used afterwards.
        skip: how a step of the decoder takes in what the encoder made at its level: ``concat``, beside its own
            channels, before two convolutions, as in the published U-Net; or ``add``, onto its own, which a 1x1
            convolution brings to the same width, before one convolution: about half of the network's operations (sums
            as in LinkNet, Chaurasia and Culurciello, VCIP 2017).
    """

    in_channels: int = 1
    widths: tuple[int, ...] = (64, 128, 256, 512)
    norm: Literal["none", "batch", "group", "instance"] = "none"
    patch: int = 1
    window_hu: tuple[float, float] | None = None
    prior: float = 0.5
    deep: int = 0
    skip: Literal["concat", "add"] = "concat"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, apart from the data.

    Args:
        name: the recipe's name.
        unet: shape of the network.
        loss: ``bce``, ``dice`` or ``dice_bce``, all on logits.
        optimizer: ``adam`` or ``adamw``.
        learning_rate: (peak) learning rate.
        weight_decay: of ``adamw``.
        schedule: ``constant``, or ``one_cycle`` over all steps of the run.
        batch_size: slices a step.
        epochs: passes; an epoch draws as many slices as the training patients have.
        augment: ``torch`` (batched, on the device), ``imgaug`` (in the loader's workers) or ``none``.
        augmentation: ranges of the transform.
        inner_val: share of the training patients set aside to choose the checkpoint; 0 keeps the last weights.
        early_stop: epochs without a better inner validation Dice after which training ends; 0 never.
        precision: ``auto`` (bf16 where the device is fast at it), ``32`` or ``bf16``.
        seed: of weights, order and augmentation.
        compile: let torch compile the network, and on a GPU the augmentation, for training steps: a minute or more to
            start, then fewer passes over memory.
        tumour_share: share of the drawn training slices that show tumour; 0 draws every slice as often as the next.
        draw_by: whether the slices with tumour are drawn alike, so that a large tumour is drawn more often for its many
            (``slice``), or patients are, whatever the number of theirs (``patient``).
        average: how slowly the mean of the weights that is kept and used follows the trained ones, 0 to below 1: their
            exponential moving average, of which each step keeps this share; 0 uses the trained ones.
        whole_slices: share of the run, its end and at least its last epoch, in which training sees whole slices and not
            the augmentation's windows; they are not compiled.
        test_mirror: predict each slice and its mirror image, left for right, and take the mean.
        test_zooms: predict each slice at these zooms too, above 1 enlarged, and take the mean (see
            :mod:`lungseg.views`); validation while training sees neither these nor the mirror image.
        neighbours: slices on each side that are shown with each slice as further channels (see
            :mod:`lungseg.neighbours`); ``unet.in_channels`` has to be twice as many and one.
        neighbour_mm: from one of them to the next, millimetres.
    """

    name: str = "classic"
    unet: UNetConfig = field(default_factory=UNetConfig)
    loss: Literal["bce", "dice", "dice_bce"] = "bce"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: int = 8
    epochs: int = 30
    augment: str = "torch"
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    inner_val: float = 0.15
    early_stop: int = 0
    precision: Literal["auto", "32", "bf16"] = "auto"
    seed: int = 0
    compile: bool = False
    tumour_share: float = 0.5
    draw_by: Literal["slice", "patient"] = "slice"
    average: float = 0.0
    whole_slices: float = 0.0
    test_mirror: bool = False
    test_zooms: tuple[float, ...] = ()
    neighbours: int = 0
    neighbour_mm: float = 2.5

    @property
    def at_the_end(self) -> Recipe | None:
        """The recipe of the run's last part, on whole slices; None where it is no other."""
        if not self.augmentation.window or not self.whole_slices:
            return None
        return replace(self, augmentation=replace(self.augmentation, window=0), compile=False)

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some settings changed; ``None`` leaves a setting as it is.

        With ``neighbours`` and without ``unet``, the network takes as many channels as that makes.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        if type(changes.get("neighbours")) is int and "unet" not in changes:
            changes["unet"] = replace(self.unet, in_channels=2 * changes["neighbours"] + 1)
        return replace(self, **changes)


RECIPES: dict[str, Recipe] = {
    # The published student recipe, its bugs mended: plain U-Net, BCE, Adam, oversampling.
    "classic": Recipe(),
    # For a result and not for a walk-through.  What each of its settings brings is measured in docs/accuracy.md.
    "strong": Recipe(
        name="strong",
        unet=UNetConfig(
            widths=(32, 64, 96, 128, 160),
            norm="batch",
            patch=2,
            window_hu=(-1000.0, 400.0),
            prior=0.01,
            deep=2,
            skip="add",
        ),
        loss="dice_bce",
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        batch_size=32,
        epochs=100,
        augmentation=AugmentConfig(
            scale=(0.7, 1.4),
            rotation_deg=30.0,
            translation=0.1,
            mirror=0.5,
            window=128,
            contrast=(0.85, 1.15),
            offset_hu=60.0,
            noise_hu=40.0,
            blur=1.0,
        ),
        inner_val=0.0,
        test_mirror=True,
        draw_by="patient",
        whole_slices=0.1,
    ),
    # For two CPU cores, eight patients and some minutes: a narrow network, squares of 2 x 2 pixels taken as one, and
    # windows in place of whole slices, four times as many for the same work.  Its deepest level sees a large mass
    # whole; much longer training learns so few patients by heart.
    "demo": Recipe(
        name="demo",
        unet=UNetConfig(widths=(16, 32, 64, 96, 96), norm="batch", patch=2, window_hu=(-1000.0, 400.0), prior=0.01),
        loss="dice_bce",
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=1e-2,
        schedule="one_cycle",
        epochs=60,
        augmentation=AugmentConfig(mirror=0.5, window=128),
        inner_val=0.0,  # of eight patients none can be spared: the last weights are kept, or rather
        average=0.995,  # their mean over some epochs: so few patients make the weights of one step a matter of chance
        test_mirror=True,
    ),
}


def recipe_named(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return RECIPES[name]
    except KeyError as cause:
        raise UsageError.of(
            "unknown-recipe", "there is no such recipe", expected=" or ".join(RECIPES), found=name
        ) from cause


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain numbers, strings, lists and dicts, for JSON and checkpoints."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """The inverse of :func:`to_dict` for a :class:`Recipe`.

    Raises:
        UsageError: a setting is not known to this version.
    """
    values = dict(values)
    nested: dict[str, type] = {"unet": UNetConfig, "augmentation": AugmentConfig}
    for name, kind in nested.items():
        if name in values:
            values[name] = from_dict(kind, values[name])
    return from_dict(Recipe, values)


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """A frozen dataclass of ``kind`` from plain values; lists become tuples.

    Raises:
        UsageError: a key is no setting of ``kind``.
    """
    if not isinstance(values, dict):
        found, mend = type(values).__name__, "The file is damaged, or was made by another version of lungseg."
        raise UsageError.of("bad-setting", f"is no {kind.__name__}", expected="a table", found=found, mend=mend)
    unknown = sorted(set(values) - {item.name for item in fields(kind)})
    if unknown:
        raise UsageError.of(
            "unknown-setting",
            f"{kind.__name__} has no such setting",
            found=", ".join(unknown),
            mend="The file was made by another version of lungseg.",
        )
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
