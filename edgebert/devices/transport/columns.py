"""Tables of devices, as the commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Columns as wide as their widest cell; the last one as it is.

    Args:
        right: places of the columns that end flush.
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def hint_lines(hints: Iterable[str | None]) -> list[str]:
    """What to do, each once. Every line is indented: none can pass for a device's row."""
    return [f"  {line}" for hint in dict.fromkeys(hints) if hint for line in hint.splitlines()]
