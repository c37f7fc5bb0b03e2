"""Colours by name, light and dark, and the styles of series, bars, labels and axes in pictures.

Contrast on the background is at least 4.5:1 for text and 3:1 for marks (WCAG 2.2, 1.4.3 and 1.4.11). Series differ by marks
and dashes as well, so that nobody has to tell two colours apart.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.report.entry import Entry

LIGHT = {
    "page": "#f5f6f8",
    "surface": "#ffffff",
    "ink": "#1a2230",
    "soft": "#556072",
    "line": "#d8dde5",
    "accent": "#0b5cad",
    "good": "#0b6b3a",
    "good-ground": "#e3f4ea",
    "bad": "#b3261e",
    "bad-ground": "#fce9e7",
    "warn": "#7a4d00",
    "warn-ground": "#fdf1d8",
    "grey": "#6b7686",
    "series-1": "#0b62b0",
    "series-2": "#c2410c",
    "series-3": "#0f766e",
    "series-4": "#8e24aa",
    "series-5": "#8a6100",
    "series-6": "#475569",
    "series-7": "#be185d",
    "series-8": "#4d7c0f",
}
DARK = {
    "page": "#10141a",
    "surface": "#191f28",
    "ink": "#e7ebf1",
    "soft": "#a5b0c1",
    "line": "#343e4c",
    "accent": "#82baff",
    "good": "#62d394",
    "good-ground": "#14301f",
    "bad": "#ff958b",
    "bad-ground": "#3a1a18",
    "warn": "#f0c36a",
    "warn-ground": "#33270f",
    "grey": "#8d99ab",
    "series-1": "#6cb2ff",
    "series-2": "#ff9a66",
    "series-3": "#5fd3c4",
    "series-4": "#dd9bf0",
    "series-5": "#e6c25c",
    "series-6": "#b6c2d4",
    "series-7": "#ff8fb8",
    "series-8": "#b0d468",
}
SERIES = 8
"""Number of series colours."""
FILLED = ("circle", "diamond", "triangle-up", "hexagon", "star", "triangle-down", "pentagon", "cross")
OPEN = ("square-open", "diamond-open", "circle-open", "hexagon-open")
DASHES = {"baseline": "dot", "intermediate": "dashdot"}


@dataclass(frozen=True)
class Style:
    """Colour, symbol and dash of one entry in every picture of its report."""

    colour: str
    symbol: str
    dash: str


def style(entry: Entry, index: int) -> Style:
    """The style of the entry with that index in its report: open marks and dots for FP32, other dashes from the ninth on."""
    symbols = FILLED if entry.role == "candidate" else OPEN
    dash = DASHES.get(entry.role) or ("solid", "dash", "longdash")[index // SERIES % 3]
    return Style(f"--series-{index % SERIES + 1}", symbols[index % len(symbols)], dash)


def css(colours: dict[str, str]) -> str:
    """The CSS declarations of one palette."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def all_css() -> str:
    """The CSS of both palettes: dark where the system asks for it, either where the reader chooses it, light in print."""
    rules: Sequence[tuple[str, dict[str, str]]] = (
        (":root{color-scheme:light;%s}", LIGHT),
        ("@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;%s}}", DARK),
        ("@media screen{:root[data-theme=dark]{color-scheme:dark;%s}}", DARK),
    )
    return "\n".join(rule % css(colours) for rule, colours in rules)


NEXT_LINE = "<br>"
LONGEST = 60
"""Longest text in a picture, in characters."""


def plain(text: object, longest: int = LONGEST) -> str:
    """A text on one line, escaped for plotly and cut to a length. Quotes have no meaning for plotly and stay."""
    line = " ".join(str(text).split())
    return html.escape(line if len(line) <= longest else f"{line[: longest - 1]}…", quote=False)


def lines(texts: Iterable[str]) -> str:
    """Texts below one another, each escaped."""
    return NEXT_LINE.join(plain(text) for text in texts)


def tick(text: str) -> str:
    """A label beside an axis: a line for the runtime, the name and the load each, so that it is narrow on a phone."""
    name, _, load = text.partition(", ")
    runtime, slash, rest = name.partition("/")
    return lines(part for part in (runtime + slash, rest, load) if part)


def label_axis(labels: Sequence[str]) -> dict[str, Any]:
    """A vertical axis with a label at each index, the first at the top."""
    return {"tickvals": list(range(len(labels))), "ticktext": list(labels), "range": [len(labels) - 0.4, -0.6]}


def bar_series(
    values: Sequence[float | None], marker: dict[str, Any], hover: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Horizontal bars, the first at the top, with a text for each that is shown when the pointer is over it."""
    text = {"text": list(hover), "textposition": "none", "hovertemplate": "%{text}<extra></extra>"} if hover else {}
    bars = {"type": "bar", "orientation": "h", "x": list(values), "y": list(range(len(values))), "marker": marker}
    return {**bars, **text, **more}


def rounded(value: float) -> float:
    """A number to five digits, so that a page is small."""
    return float(f"{value:.5g}")
