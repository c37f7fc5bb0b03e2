"""What a page is made of: sections of tables and pictures. Plain data; the template says how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_MEASURED = "n/a"


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, and by what it is sorted. `good` and `bad` are shown by a sign too, never by colour alone."""

    text: str
    value: float | str | None = None
    mark: str | None = None


@dataclass(frozen=True)
class PageColumn:
    """One column."""

    title: str
    numeric: bool = True
    meaning: str = ""
    """A few words for who does not know the title."""


@dataclass(frozen=True)
class Table:
    """Rows under a caption. The first cell of a row is its header."""

    caption: str
    columns: tuple[PageColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    sortable: bool = True
    """Not where the order of the rows is their meaning."""

    @property
    def meanings(self) -> list[PageColumn]:
        """The columns that are explained."""
        return [column for column in self.columns if column.meaning]


@dataclass(frozen=True)
class Picture:
    """A plotly figure, in words, and its numbers. Colours are names of palette.py, resolved where it is drawn."""

    title: str
    label: str
    """What a reader who does not see it should know."""
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    table: Table
    height: int = 420
    log_axis: str | None = None
    """`x` or `y`, where the reader may ask for a logarithmic one."""
    half: bool = False
    """Two of these stand side by side where there is room."""
    opened: bool = False
    """Whether its numbers are shown from the start."""

    @property
    def logarithmic(self) -> bool:
        """Whether the axis that may be logarithmic begins so."""
        return bool(self.layout.get(f"{self.log_axis}axis", {}).get("type") == "log")


@dataclass(frozen=True)
class Block:
    """A text as it is (a recipe, a command), folded away where it is long."""

    title: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A heading and what belongs under it. Without pictures, tables and blocks it is left out of the page."""

    key: str
    """Unique in its report: the anchor."""
    title: str
    lead: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    """Tables that are opened on demand."""
    blocks: tuple[Block, ...] = field(default=())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.pictures or self.tables or self.folded or self.blocks)


def number(value: float | None, form: str = "") -> Cell:
    """A number in a given form, or in about three digits; n/a where it was not measured."""
    if value is None:
        return Cell(NOT_MEASURED)
    return Cell(form.format(value) if form else short(value), float(value))


def words(text: object) -> Cell:
    """A text."""
    return Cell(str(text), str(text))


def short(value: float) -> str:
    """About three digits, without an exponent where a reader would not want one: 0.0123, 1.25, 26.1, 2,391."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def columns(titles: Iterable[str], *, texts: Sequence[int] = (0,)) -> tuple[PageColumn, ...]:
    """Columns by their titles; those at the places `texts` hold no numbers."""
    return tuple(PageColumn(title, numeric=index not in texts) for index, title in enumerate(titles))
