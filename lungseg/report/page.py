"""From a report's content to its one HTML file, which loads nothing from anywhere.

Text is escaped where it is put in (jinja2's autoescape); a content security policy names the hash of the page's own
script and style sheet, so that nothing else would run or load even if a name held markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from lungseg import __version__
from lungseg.errors import NOTICE
from lungseg.files import atomic_path

from .case_file import read_case
from .pictures import Pictures

GENERATOR = '<meta name="generator" content="lungseg '  # how a page is known to be one of ours
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class ViewedCase:
    """A patient that the viewer offers.

    Args:
        text: what the list says.
        z: the slice shown first.
        source: the patient's file (``case_file.write_case``).
        why: a sentence below the list.
        file: where the slices are, relative to the page, if not in it.
    """

    text: str
    z: int
    source: Path
    why: str = ""
    file: str = ""

    @property
    def data(self) -> Callable[[], str] | None:
        """Gives the slices as JSON, when the page comes to them; None where they lie elsewhere."""
        return None if self.file else lambda: embedded(read_case(self.source)[1])


def embedded(pictures: Pictures) -> str:
    """The slices as JSON that can stand inside a ``script`` element: no character of it can end the element."""
    values = pictures.as_dict()
    del values["keys"]
    text = json.dumps(values, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def write_page(out: Path, template: str, values: Mapping[str, Any]) -> None:
    """Fill a template and write the page in one step, a piece at a time.

    Args:
        out: the file; its folder must exist.
        template: ``evaluation.html`` or ``scan.html``.
        values: what the template asks for.
    """
    style, script = (_HERE / "page.css").read_text("utf-8"), (_HERE / "page.js").read_text("utf-8")
    common = {
        "notice": NOTICE,
        "version": __version__,
        "style": style,
        "script": script,
        "policy": (
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
    }
    pieces: Iterator[str] = _templates().get_template(template).generate({**common, **values})
    with atomic_path(out) as temporary, open(temporary, "wb") as file:
        for piece in pieces:
            # A name of a file may hold bytes that are no text.
            file.write(piece.encode("utf-8", "replace"))


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
