"""The page: renders the sections of every report into one HTML file that requests nothing from a network, and writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgebert.core.files import write_whole
from edgebert.errors import InputError, MissingPackage
from edgebert.report.page import (
    arithmetic,
    classes,
    conditions,
    differences,
    distribution,
    lineage,
    palette,
    resources,
    scaling,
    side_by_side,
    structure,
    summary,
    tradeoff,
)
from edgebert.report.page.parts import Section
from edgebert.report.page.plotly_bundle import csp_hash, plotly_bundle
from edgebert.report.page.source import PageSource
from edgebert.version import __version__

WHOLE = 24
"""Longest word with hyphens, in characters, that is kept on one line."""
GENERATOR = "edgebert report"
"""Generator in the page's meta element, which identifies a page of edgebert."""
SECTIONS = (
    summary.models,
    classes.section,
    differences.section,
    tradeoff.section,
    distribution.section,
    structure.section,
    scaling.section,
    resources.section,
    arithmetic.section,
    conditions.section,
    lineage.section,
    lineage.again,
)


@dataclass(frozen=True)
class Chapter:
    """Everything that the page shows of one report."""

    key: str
    """Unique on the page: the prefix of its anchors."""
    source: PageSource
    summary: summary.Summary
    failures: Sequence[str]
    warnings: Sequence[str]
    sections: Sequence[Section]


def chapters(sources: Sequence[PageSource]) -> list[Chapter]:
    """A chapter for each report, without the sections that have no data."""
    return [
        Chapter(
            f"r{index}",
            source,
            summary.summary(source),
            summary.failures(source),
            conditions.warnings(source),
            [section for section in (make(source) for make in SECTIONS) if not section.empty],
        )
        for index, source in enumerate(sources, start=1)
    ]


def render(sources: Sequence[PageSource]) -> str:
    """The text of the page.

    Raises:
        MissingPackage: jinja2 or plotly is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise MissingPackage("jinja2", needed_for="Writing the page", extra="compare") from error
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"breakable": breakable, "moment": lineage.moment, "plain_reason": summary.plain_reason}
    read, beside = chapters(sources), side_by_side.section(sources)
    plotly, script = plotly_bundle(), _beside("report.js")
    return environment.from_string(_beside("report.html.j2")).render(
        generator=GENERATOR,
        version=__version__,
        chapters=read,
        beside=None if beside.empty else beside,
        style=Markup(palette.all_css() + _beside("report.css")),  # noqa: S704 - our own files, no data in them
        script=Markup(script),  # noqa: S704 - as above
        hashes=Markup(f"{csp_hash(script.encode())} {plotly.digest}"),  # noqa: S704 - base64
        plotly=Markup(plotly.packed),  # noqa: S704 - base64
        figures=Markup(script_json(figures(read, beside))),  # noqa: S704 - escaped by script_json
    )


def breakable(text: str) -> Any:
    """Escaped text in which lines may break after every slash, and not at the hyphens of short words."""
    from markupsafe import Markup, escape

    whole, after_slash = Markup('<span class="whole">{}</span>'), Markup("/<wbr>")
    parts = re.split(r"([\s/])", text)
    marked = (
        after_slash if part == "/" else whole.format(part) if "-" in part and len(part) <= WHOLE else escape(part)
        for part in parts
    )
    return Markup("").join(marked)


def figures(read: Sequence[Chapter], beside: Section) -> dict[str, Any]:
    """Id of the element in which a figure is drawn -> the plotly figure."""
    return {
        f"{prefix}-{section.key}-{index}": {"data": picture.data, "layout": {**picture.layout, "height": picture.height}}
        for prefix, section in _all_sections(read, beside)
        for index, picture in enumerate(section.pictures, start=1)
    }


def _all_sections(read: Sequence[Chapter], beside: Section) -> Iterator[tuple[str, Section]]:
    yield "all", beside
    for chapter in read:
        yield from ((chapter.key, section) for section in chapter.sections)


def script_json(value: Any) -> str:
    """JSON for inside a script element: nothing in it can end the element, open a comment, or be read as an entity.

    See https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _beside(name: str) -> str:
    """The text of a file in this folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


HEAD = 4096
"""Number of bytes at the beginning of a page that contain its generator."""


def check_out(path: Path, *, force: bool) -> None:
    """Checks, before the work, that a page may be written to a file.

    Raises:
        InputError: the file exists and is no page of edgebert, or is a folder.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder.", hint=f"Name a file: --out {path / 'report.html'}")
    if path.exists() and not force and not is_page(path):
        raise InputError(
            f"{path} exists and is no page of edgebert; it is left alone.",
            hint="Name another file with --out, or overwrite it with --force.",
        )


def is_page(path: Path) -> bool:
    """Whether `edgebert report` wrote the file."""
    try:
        with path.open("rb") as file:
            return f'<meta name="generator" content="{GENERATOR}'.encode() in file.read(HEAD)
    except OSError:
        return False


def write_page(path: Path, text: str, *, force: bool = False) -> None:
    """Writes the page, or nothing.

    Raises:
        InputError: the file exists and is no page of edgebert, or cannot be written.
    """
    check_out(path, force=force)
    write_whole(path, text)
