"""Whether the settings of a config are of the kind that its dataclass says; a file may hold anything."""

from __future__ import annotations

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import UsageError

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "nothing"}


def check_types(config: Any) -> None:
    """Check each setting of a config, and of those within it.

    Args:
        config: one of the dataclasses of :mod:`lungseg.config`.

    Raises:
        UsageError: a setting is of another kind, or none of those that may be chosen.
    """
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if is_dataclass(hint) and isinstance(value, hint):  # type: ignore[arg-type]
            check_types(value)
        elif not _fits(value, hint):
            what = f"the setting {name} can not be meant"
            raise UsageError.of("bad-setting", what, expected=_in_words(hint), found=str(value)[:200])


def _fits(value: Any, hint: Any) -> bool:
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in parts
    if get_origin(hint) is UnionType:
        return any(_fits(value, part) for part in parts)
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is hint


def _in_words(hint: Any) -> str:
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(parts)
    if get_origin(hint) is UnionType:
        return " or ".join(map(_in_words, parts))
    if get_origin(hint) is tuple:
        return f"({', '.join('...' if part is Ellipsis else _in_words(part) for part in parts)})"
    return _WORDS.get(hint, "a table")
