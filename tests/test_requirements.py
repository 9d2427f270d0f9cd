"""Every package that `make setup` installs is pinned, and what the package asks for is met by the pins."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement

from .locked import ROOT, installed, needed, normal, pins

DIRECT, REST = pins("requirements.txt"), pins("constraints.txt")


def test_every_line_is_one_version() -> None:
    for name, version in {**DIRECT, **REST}.items():
        assert version and version[0].isdigit() and "*" not in version and "," not in version, name
    assert not set(DIRECT) & set(REST)


def test_what_the_package_asks_for_is_met_by_the_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(DIRECT[normal(wanted.name)]), text


def test_all_that_is_needed_in_turn_is_pinned_as_installed() -> None:
    other = [name for name, version in DIRECT.items() if installed(name) != version]
    if other:
        pytest.skip(f"this environment was not made by `make setup`: {', '.join(other)} differ")
    pinned = {**REST, **DIRECT}
    found = needed(list(DIRECT))
    assert len(found) > len(DIRECT)
    assert {name: pinned.get(name) for name in found} == found, "run `make lock` in a fresh .venv"
