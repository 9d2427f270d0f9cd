"""How many axial slices are dropped at the feet end of a scan, as a user says it."""

from __future__ import annotations

import math

from .errors import UsageError


def check_skip(skip: str) -> str:
    """``skip`` as it stands in a config: ``"30"``, ``"12.5mm"`` or ``"auto"``.

    Raises:
        UsageError: it is none of these.
    """
    text = skip.strip().lower().replace(" ", "")
    try:
        if text == "auto":
            return text
        if text.endswith("mm"):
            length = float(text[:-2])
            if math.isfinite(length) and length >= 0:
                return f"{length:g}mm"
        elif int(text) >= 0:
            return str(int(text))
    except ValueError:
        pass
    raise UsageError.of("bad-skip", "the slices to skip can not be read", expected="30, 12.5mm or auto", found=skip)
