"""What the packages of requirements.txt need in turn; ``python tests/locked.py`` prints it, see `make lock`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
HEAD = "# What the packages of requirements.txt need in turn, as they were tested; made by `make lock`."


def normal(name: str) -> str:
    """A package's name as all its spellings have it in common (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> dict[str, str]:
    """The pinned versions of a file."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines())
    requirements = [Requirement(line) for line in lines if line]
    return {normal(one.name): str(one.specifier).removeprefix("==") for one in requirements}


def installed(name: str) -> str | None:
    """The version that is installed, without the tag of a local build (``2.13.0+cpu``)."""
    try:
        return distribution(name).version.split("+")[0]
    except PackageNotFoundError:
        return None


def needed(names: list[str]) -> dict[str, str]:
    """Name and installed version of everything that these packages need here, themselves among them."""
    found: dict[str, str] = {}
    left = [(name, frozenset[str]()) for name in names]
    seen = set()
    while left:
        name, extras = left.pop()
        version = installed(name)
        if (normal(name), extras) in seen or version is None:
            continue
        seen.add((normal(name), extras))
        found[normal(name)] = version
        left += list(_needs(name, extras))
    return found


def _needs(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in distribution(name).requires or []:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one.name, frozenset(one.extras)


if __name__ == "__main__":
    direct = pins("requirements.txt")
    rest = {name: version for name, version in needed(list(direct)).items() if name not in direct}
    print("\n".join([HEAD, *(f"{name}=={version}" for name, version in sorted(rest.items()))]))
