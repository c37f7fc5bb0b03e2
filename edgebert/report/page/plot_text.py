"""Texts inside plotly figures, which it reads as markup of its own: names are escaped, lines are joined with its tag."""

from __future__ import annotations

import html
from collections.abc import Iterable

NEXT_LINE = "<br>"
LONGEST = 60


def plain(text: object, longest: int = LONGEST) -> str:
    """A text that is shown as it is, cut where it is very long. Quotes mean nothing to plotly, and stay."""
    line = " ".join(str(text).split())
    return html.escape(line if len(line) <= longest else f"{line[: longest - 1]}…", quote=False)


def lines(texts: Iterable[str]) -> str:
    """Texts one below the other, each escaped."""
    return NEXT_LINE.join(plain(text) for text in texts)


def tick(text: str) -> str:
    """A name beside an axis: a line for its runtime, for itself and for its load, so that it is narrow on a phone."""
    name, _, load = text.partition(", ")
    runtime, slash, rest = name.partition("/")
    return lines(part for part in (runtime + slash, rest, load) if part)
