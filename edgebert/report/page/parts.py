"""Parts of a page as plain data: sections, tables, cells, pictures, blocks. The template decides how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.report.metric_table import metric_named

NOT_MEASURED = "n/a"


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    value: float | str | None = None
    """Sort key; None: not measured, sorted last."""
    mark: str | None = None
    """`good` or `bad`, shown by a sign as well as by colour."""


@dataclass(frozen=True)
class PageColumn:
    """One column of a table."""

    title: str
    numeric: bool = True
    meaning: str = ""
    """Explanation of the title in a few words; empty where it needs none."""


@dataclass(frozen=True)
class Table:
    """Rows under a caption. The first cell of a row is its header."""

    caption: str
    columns: tuple[PageColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    sortable: bool = True
    """Whether the reader may sort the rows: not where their order has a meaning."""

    @property
    def meanings(self) -> list[PageColumn]:
        """The columns with an explanation."""
        return [column for column in self.columns if column.meaning]


@dataclass(frozen=True)
class Picture:
    """A plotly figure with a description and a table of its numbers. Colours are names of palette.py, resolved in the page."""

    title: str
    label: str
    """Description for readers who do not see the figure."""
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    table: Table
    height: int = 420
    log_axis: str | None = None
    """`x` or `y`: the axis that the reader may switch to a logarithmic scale."""
    half: bool = False
    """Whether two of these are placed side by side where there is room."""
    opened: bool = False
    """Whether the table of numbers is open from the start."""

    @property
    def logarithmic(self) -> bool:
        """Whether `log_axis` is logarithmic from the start."""
        return bool(self.layout.get(f"{self.log_axis}axis", {}).get("type") == "log")


@dataclass(frozen=True)
class Block:
    """Preformatted text (a recipe, a command), folded away where it is long."""

    title: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A heading and its content. A section without pictures, tables and blocks is left out of the page."""

    key: str
    """Anchor, unique in its report."""
    title: str
    lead: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    """Tables that are opened on demand."""
    blocks: tuple[Block, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.pictures or self.tables or self.folded or self.blocks)


def number(value: float | None, form: str = "") -> Cell:
    """A cell with a number in a given form, or in about three digits; n/a for None."""
    if value is None:
        return Cell(NOT_MEASURED)
    return Cell(form.format(value) if form else short(value), float(value))


def words(text: object) -> Cell:
    """A cell with a text."""
    return Cell(str(text), str(text))


def short(value: float) -> str:
    """A number in about three digits, without an exponent at usual sizes: 0.0123, 1.25, 26.1, 2,391."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def text_columns(*titles: str) -> tuple[PageColumn, ...]:
    """Columns of text."""
    return tuple(PageColumn(title, numeric=False) for title in titles)


def metric_column(name: str) -> PageColumn:
    """The column of a metric, with the title and the meaning of the table of metrics."""
    return PageColumn(metric_named(name).title, meaning=metric_named(name).meaning)


def filled_columns(
    columns: Sequence[PageColumn], rows: Sequence[tuple[Cell, ...]]
) -> tuple[tuple[PageColumn, ...], tuple[tuple[Cell, ...], ...]]:
    """Columns and rows without the columns in which no row has a value; the first column always stays."""
    keep = [index for index in range(len(columns)) if index == 0 or any(row[index].value is not None for row in rows)]
    return tuple(columns[index] for index in keep), tuple(tuple(row[index] for index in keep) for row in rows)
