"""LitData, which only streaming needs: an extra."""

from __future__ import annotations

import importlib.util

from .errors import UsageError


def require_litdata() -> None:
    """Raise :class:`UsageError` where LitData is not installed."""
    if importlib.util.find_spec("litdata") is None:
        raise UsageError.of("no-litdata", "LitData is not installed", mend="Install it: pip install lungseg[stream]")
