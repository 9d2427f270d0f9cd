"""The cases of a folder: Task06_Lung's layout, or a user's own pairs.

Three layouts are understood:

* ``imagesTr/NAME.nii.gz`` with ``labelsTr/NAME.nii.gz``, and ``imagesTs/NAME.nii.gz`` without labels; ``dataset.json``
  decides which cases there are, where it stands;
* a folder a case: ``NAME/image.nii.gz`` and, if labelled, ``NAME/label.nii.gz``;
* flat: ``NAME.nii.gz`` and, if labelled, ``NAME_label.nii.gz``.

``.nii`` serves as well as ``.nii.gz`` everywhere.  macOS' ``._*`` companions are ignored and counted.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import DataError, LungsegError, Problem, UsageError
from .nifti_names import case_name, is_nifti
from .place import place
from .records import read_json

LABEL_SUFFIX = "_label"
_MEND = "Complete the folder, or correct dataset.json."


@dataclass(frozen=True)
class Case:
    """One patient's scan.

    Args:
        name: the case's name, by its file (or, with a folder a case, by that folder).
        image: path of the scan.
        label: path of the label, or None.
    """

    name: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Tree:
    """The cases of a folder, and everything that is wrong with its layout.

    Args:
        root: the folder.
        cases: the cases whose files are all there, sorted by name.
        problems: what is missing, double or unreadable; every item, not only the first.
        ignored: macOS ``._*`` files that were passed over.
    """

    root: Path
    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    ignored: int

    @property
    def exit_code(self) -> int:
        """0 where there are at most warnings."""
        return DataError.exit_code if any(problem.severity == "error" for problem in self.problems) else 0

    def relative(self, path: Path) -> str:
        """``path`` below the root, with forward slashes: safe to write into a result."""
        return path.relative_to(self.root).as_posix()


def read_tree(root: str | Path) -> Tree:
    """Find the cases of a folder.

    Raises:
        UsageError: there is no such folder, or nothing in it looks like a data set.
    """
    root = place(root)
    if not root.is_dir():
        what = "is a file, where a folder is wanted" if root.exists() else "there is no such folder"
        raise UsageError.of("missing-folder", what, file=root, mend="Name the folder that holds imagesTr and labelsTr.")
    problems: list[Problem] = []
    if (root / "imagesTr").is_dir() or (root / "dataset.json").is_file():
        cases = _task06(root, problems)
    else:
        cases = [*_folders(root, problems), *_flat(root, problems)]
    cases = _distinct(_with_plain_names(cases, problems), problems)
    if not cases and not problems:
        mend = "See data/README.md for the layouts that are understood."
        raise UsageError.of(
            "no-cases", "holds no scans", expected="imagesTr/*.nii.gz, */image.nii.gz or *.nii.gz", file=root, mend=mend
        )
    ignored = sum(1 for path in root.rglob("._*") if path.is_file())
    return Tree(root, tuple(sorted(cases, key=lambda case: case.name)), tuple(problems), ignored)


def _task06(root: Path, problems: list[Problem]) -> list[Case]:
    listed = _listed(root, problems) if (root / "dataset.json").is_file() else None
    if listed is None:
        labelled = [(image, _sibling(root / "labelsTr", image)) for image in scans_of(root / "imagesTr")]
        listed = [*labelled, *((image, None) for image in scans_of(root / "imagesTs"))]
    cases = []
    for image, label in ((_as_stored(image), None if label is None else _as_stored(label)) for image, label in listed):
        missing = [path for path in (image, label) if path is not None and not path.is_file()]
        for path in missing:
            kind = "image" if path is image else "label"
            problems.append(_problem(f"missing-{kind}", f"the {kind} is missing", path, case=case_name(image)))
        if not missing:
            cases.append(Case(case_name(image), image, label))
    return cases


def _listed(root: Path, problems: list[Problem]) -> list[tuple[Path, Path | None]] | None:
    """The pairs of dataset.json; None where it can not be used, which is then among the problems."""
    path = root / "dataset.json"
    try:
        content = read_json(path)
        pairs = [
            *((_entry(root, item["image"]), _entry(root, item["label"])) for item in content["training"]),
            *((_entry(root, item["image"] if isinstance(item, dict) else item), None) for item in content["test"]),
        ]
    except LungsegError as error:
        problems.append(error.problem)
        return None
    except (KeyError, TypeError, ValueError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        problems.append(
            _problem(
                "bad-dataset-json",
                "is no data set description",
                path,
                "training: [{image, label}], test: [image]",
                found,
            )
        )
        return None
    for key, kind in (("numTraining", "training"), ("numTest", "test")):
        if key in content and content[key] != len(content[kind]):
            problems.append(
                _problem(
                    "dataset-json-count",
                    f"{key} is not the number of {kind} cases listed",
                    path,
                    str(len(content[kind])),
                    str(content[key]),
                    severity="warning",
                )
            )
    named = {_as_stored(path) for pair in pairs for path in pair if path is not None}
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        for extra in sorted(set(scans_of(root / folder)) - named):
            problems.append(
                _problem(
                    "not-listed",
                    "is not in dataset.json and is left out",
                    extra,
                    case=case_name(extra),
                    severity="warning",
                )
            )
    return pairs


def _entry(root: Path, name: Any) -> Path:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no file name")
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or "\0" in name or not is_nifti(relative):
        raise ValueError(f"{name!r} names no scan below the folder")
    return root / relative.as_posix()


def _as_stored(path: Path) -> Path:
    """The path of a file in the form that its folder has: an accent may be a letter's part there, or stand alone."""
    if path.is_file() or path.name.isascii() or not path.parent.is_dir():
        return path
    alike = unicodedata.normalize("NFC", path.name)
    return next((one for one in path.parent.iterdir() if unicodedata.normalize("NFC", one.name) == alike), path)


def _folders(root: Path, problems: list[Problem]) -> list[Case]:
    cases = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        scans = {case_name(path): path for path in scans_of(folder)}
        if "image" in scans:
            cases.append(Case(case_name(folder), scans["image"], scans.get("label")))
        elif "label" in scans:
            case = case_name(folder)
            problems.append(_problem("missing-image", "there is a label without an image", folder, case=case))
    return cases


def _flat(root: Path, problems: list[Problem]) -> list[Case]:
    scans = {case_name(path): path for path in scans_of(root)}
    labels = {name for name in scans if name.endswith(LABEL_SUFFIX)}
    for name in sorted(labels):
        if name.removesuffix(LABEL_SUFFIX) not in scans:
            mend = "Put its image beside it, or take the label away."
            problem = _problem("missing-image", "there is a label without an image", scans[name], case=name)
            problems.append(replace(problem, mend=mend))
    return [Case(name, path, scans.get(name + LABEL_SUFFIX)) for name, path in scans.items() if name not in labels]


def _with_plain_names(cases: list[Case], problems: list[Problem]) -> list[Case]:
    """Without cases whose name can not be that of a folder of results: it is another folder's, or of a file of ours."""
    plain = []
    for case in cases:
        if case.name in ("", ".", "..", "manifest.json") or "\\" in case.name or case.name.startswith(".lungseg"):
            what = "its name can not be that of a case"
            problems.append(_problem("bad-case-name", what, case.image, "such as lung_001.nii.gz", case.image.name))
        else:
            plain.append(case)
    return plain


def _distinct(cases: list[Case], problems: list[Problem]) -> list[Case]:
    """Without cases of the same name; capitals do not count, because on many disks they do not either."""
    by_name: dict[str, Case] = {}
    doubled = set()
    for case in cases:
        key = case.name.casefold()
        first = by_name.setdefault(key, case)
        if first is not case:
            doubled.add(key)
            but = "" if case.name == first.name else ", but for capital letters"
            problems.append(
                _problem(
                    "duplicate-case",
                    f"two scans have the same case name{but}",
                    case.image,
                    "one scan a name",
                    f"also {first.image.name} in {first.image.parent.name}",
                    case=case.name,
                )
            )
    return [case for key, case in by_name.items() if key not in doubled]


def scans_of(folder: Path) -> list[Path]:
    """The NIfTI files of a folder by their names, sorted; none where there is no such folder."""
    return sorted(path for path in folder.iterdir() if is_nifti(path)) if folder.is_dir() else []


def _sibling(folder: Path, image: Path) -> Path:
    """The label of an image, by name; ``.nii`` and ``.nii.gz`` may be mixed."""
    for suffix in (".nii.gz", ".nii"):
        label = _as_stored(folder / (case_name(image) + suffix))
        if label.is_file():
            return label
    return folder / image.name


def _problem(code: str, what: str, path: Path, expected: str = "", found: str = "", **fields: Any) -> Problem:
    return Problem(code, what, expected, found, _MEND, str(path), **fields)


def is_data_name(path: Path) -> bool:
    """Whether a file stands where a scan or label of one of the layouts would."""
    name = case_name(path)
    return (
        path.resolve().parent.name in ("imagesTr", "imagesTs", "labelsTr")
        or name in ("image", "label")
        or name.endswith(LABEL_SUFFIX)
    )


def find_case(tree: Tree, name: str) -> Case:
    """The case called ``name``.

    Raises:
        UsageError: the tree has none, or its files are incomplete.
    """
    for case in tree.cases:
        if case.name == name:
            return case
    raise UsageError.of("unknown-case", "has no such case", found=name, file=tree.root, mend=_MEND)
