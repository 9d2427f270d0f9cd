"""The record of a preprocessed folder: what is in it, how it was made, and the way back to each scan's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import __version__
from .case_record import MEND, CaseRecord, damaged
from .config import PreprocessConfig, from_dict, to_dict
from .errors import DataError, LungsegError
from .place import place
from .records import check_format, read_json, write_json

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """A preprocessed folder.

    Args:
        root: the folder.
        config: the settings it was made with.
        cases: records by case name, sorted.
        failed: cases that could not be preprocessed, with the reason.
        slice_sets: whether the stacks have gaps (slices chosen out of scans), so that distances, volumes and connected
            lesions mean nothing and are left out of every evaluation.
    """

    root: Path
    config: PreprocessConfig
    cases: Mapping[str, CaseRecord]
    failed: Mapping[str, str] = field(default_factory=dict)
    slice_sets: bool = False

    @property
    def labelled(self) -> list[str]:
        """Names of the labelled cases, sorted."""
        return sorted(name for name, record in self.cases.items() if record.labelled)

    def record(self, case: str) -> CaseRecord:
        """The record of ``case``.

        Raises:
            DataError: the folder has no such case.
        """
        try:
            return self.cases[case]
        except KeyError as cause:
            raise DataError.of(
                "unknown-case", "has no such case", found=case, file=self.root / MANIFEST, mend=MEND
            ) from cause

    def only(self, case: str) -> Manifest:
        """The same with one case alone, or none where it is unknown: small enough to travel."""
        return replace(self, cases={name: record for name, record in self.cases.items() if name == case}, failed={})

    def write(self) -> None:
        """Write ``manifest.json``, the last file of the stage, durably."""
        records = {name: self.cases[name].as_dict() for name in sorted(self.cases)}
        failed = {name: self.failed[name] for name in sorted(self.failed)}
        content = {
            "format": FORMAT,
            "lungseg": __version__,
            "settings": to_dict(self.config),
            "slice_sets": self.slice_sets,
            "cases": records,
            "failed": failed,
        }
        write_json(self.root / MANIFEST, content)

    @classmethod
    def read(cls, processed: str | Path) -> Manifest:
        """Read the manifest of a preprocessed folder.

        Raises:
            DataError: there is none, it is damaged, or it is of another version.
        """
        root = place(processed)
        path = root / MANIFEST
        if not path.is_file():
            mend = "Name a folder that `lungseg preprocess` has finished writing."
            raise DataError.of(
                "no-manifest", "is no preprocessed folder: manifest.json is missing", file=root, mend=mend
            )
        content = read_json(path, error=DataError, mend=MEND)
        if not check_format(content, FORMAT, path, error=DataError):
            found = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise damaged(path, f"format {FORMAT}", str(found))
        cases, failed = content.get("cases"), content.get("failed", {})
        if not isinstance(cases, dict) or not isinstance(failed, dict):
            raise damaged(path, "a table of cases", type(cases).__name__)
        slice_sets = content.get("slice_sets", False)  # not in the manifests of version 0.1
        if type(slice_sets) is not bool:
            raise damaged(path, "slice_sets true or false", repr(slice_sets))
        for name in cases:
            if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise damaged(path, "case names that are plain file names", repr(name))
        records = {name: CaseRecord.from_dict(values, file=path) for name, values in sorted(cases.items())}
        return cls(root, settings_from(content.get("settings"), path), records, failed, slice_sets)


def settings_from(values: Any, path: str | Path) -> PreprocessConfig:
    """The settings of a manifest or a case record, checked.

    Raises:
        DataError: they are no settings of this version.
    """
    if not isinstance(values, dict):
        raise damaged(path, "preprocessing settings", type(values).__name__)
    try:
        config: PreprocessConfig = from_dict(PreprocessConfig, values)
    except (LungsegError, TypeError) as cause:
        raise damaged(path, "preprocessing settings of this version", str(cause)) from cause
    if type(config.size) is not int or not 8 <= config.size <= 4096 or not isinstance(config.skip_slices, str):
        raise damaged(path, "a slice size from 8 to 4096", repr(config.size))
    if not all(isinstance(value, (int, float)) for value in (config.hu_min, config.hu_max)):
        raise damaged(path, "HU limits that are numbers", f"{config.hu_min!r}, {config.hu_max!r}")
    return config
