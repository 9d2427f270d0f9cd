"""What a prediction is: a mask, and the JSON file beside it that says how it was made and what it shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .components import Tumour
from .config import PreprocessConfig, to_dict
from .digests import digest, seal
from .errors import NOTICE, DataError, LungsegError, Problem, printable
from .nifti import Scan
from .nifti_names import case_name
from .postprocess import PostProcessing
from .records import read_json

FORMAT = 1
TRAINED_ON = "trained-on"  # among the warnings: the scan is one that decided the network's weights


@dataclass(frozen=True)
class Prediction:
    """What was found in one scan.

    Args:
        case: its name, by its file.
        mask: the mask that was written.
        record: the JSON file beside it.
        tumours: connected tumours, largest first.
        page: the scan's page to look at; None where none was asked for.
    """

    case: str
    mask: Path
    record: Path
    tumours: tuple[Tumour, ...]
    page: Path | None = None

    @property
    def volume_ml(self) -> float:
        return sum(tumour.volume_ml for tumour in self.tumours)

    def __str__(self) -> str:
        count = len(self.tumours)
        what = "no tumour" if not count else "1 tumour" if count == 1 else f"{count} tumours"
        sizes = ", ".join(f"{tumour.volume_ml:.2f} ml ({tumour.diameter_mm:.0f} mm)" for tumour in self.tumours[:5])
        return (
            f"{printable(self.case)}: {what}"
            + (f": {sizes}" if sizes else "")
            + (", ..." if count > 5 else "")
            + ("" if self.page is None else f"; to look at: {printable(self.page)}")
        )


@dataclass(frozen=True)
class Predicted:
    """What ``predict`` did.

    Args:
        predictions: one a scan that could be segmented, sorted by case.
        problems: what kept scans out, and what was odd about others.
        exit_code: of the worst error; 0 where there are at most warnings.
    """

    predictions: tuple[Prediction, ...]
    problems: tuple[Problem, ...]
    exit_code: int = 0

    def __str__(self) -> str:
        lines = [f"{problem.severity}: {problem}" for problem in self.problems]
        return "\n".join([*lines, *map(str, self.predictions), NOTICE])


def record_start(
    scan: Scan,
    orientation: str,
    *,
    model: dict[str, Any],
    config: PreprocessConfig,
    settings: PostProcessing,
    skipped: int,
    warned: list[Problem],
) -> dict[str, Any]:
    """What the JSON says before the result: no path, no name and no date of the scan's header.

    Args:
        scan: that is segmented.
        orientation: axis codes of its file.
        model: what records say of the network.
        config: how slices are made for it.
        settings: what is done to its probabilities.
        skipped: axial slices at the feet end that are not looked at.
        warned: what is odd about the scan.
    """
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "lungseg": __version__,
        "case": scan.name,
        "scan": {
            "file": scan.path.name,
            "bytes": scan.bytes,
            "hash": scan.hash,
            "shape": list(scan.header.shape),
            "spacing_mm": [round(size, 6) for size in scan.spacing_mm],
            "orientation": orientation,
        },
        "model": model,
        "settings": {**to_dict(config), **asdict(settings), "skipped": skipped},
        "warnings": [problem.code for problem in warned],
    }


def warnings_of(mask: Path) -> tuple[str, ...]:
    """Codes of what was odd about the scan of a mask; none where no record of ours stands beside the mask."""
    try:
        record = read_json(mask.with_name(f"{case_name(mask)}.json"), error=DataError)
        codes = record["warnings"] if record["mask"]["file"] == mask.name else []
        return tuple(map(str, codes))
    except (LungsegError, KeyError, TypeError):
        return ()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The whole record with its seal, by which a value that was changed later is found."""
    return {**record, "seal": seal(record)}


def tumour_entry(part: Tumour) -> dict[str, Any]:
    """A tumour as the JSON lists it; numbers to six decimals."""
    return {key: _rounded(value) for key, value in asdict(part).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def already_there(wanted: dict[str, Any], record: Path, mask: Path) -> tuple[Tumour, ...] | None:
    """The tumours of a prediction that stands there whole, made from the same by the same; else None."""
    if not (record.is_file() and mask.is_file()):
        return None
    try:
        found = read_json(record, error=DataError)
        if found.pop("seal") != seal(found):
            return None  # a value was changed, or a seal was not written yet
        if any(found.get(key) != value for key, value in wanted.items()):
            return None
        if found["mask"] != {"file": mask.name, "hash": digest(mask.read_bytes())}:
            return None
        listed: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in part.items()}
            for part in found["tumours"]
        ]
        return tuple(Tumour(**part) for part in listed)
    except (LungsegError, OSError, AttributeError, KeyError, TypeError):
        return None
