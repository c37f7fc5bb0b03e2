"""What every benchmark shares: its options, its table, its last line and its exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


def options(description: str, *, store: bool = True) -> argparse.ArgumentParser:
    """`--assets DIR`, `--quick` and `--store DIR`; a benchmark may add its own, or leave the store out."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--assets", type=Path, required=True, help="folder with models/ and the data sets")
    parser.add_argument(
        "--quick", action="store_true", help="the same code on less data, in under 3 minutes; figures do not count"
    )
    if store:
        parser.add_argument("--store", type=Path, metavar="DIR", help="keeps what stages make, for other benchmarks to reuse")
    return parser


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table with its first column left-aligned, the others right-aligned."""
    widths = [max(len(row[index]) for row in [titles, *rows]) for index in range(len(titles))]
    for row in [titles, *rows]:
        first, *others = row
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))


@dataclass
class Figures:
    """Measured figures and their bounds."""

    quick: bool
    said: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)

    def at_least(self, name: str, value: float, bound: float) -> None:
        """Notes a figure that must not be below its bound."""
        self._note(name, value, bound, ">=", value >= bound)

    def at_most(self, name: str, value: float, bound: float) -> None:
        """Notes a figure that must not be above its bound."""
        self._note(name, value, bound, "<=", value <= bound)

    def note(self, name: str, value: float) -> None:
        """Notes a figure without a bound."""
        self.said.append(f"{name}={value:.4g}")

    def _note(self, name: str, value: float, bound: float, sign: str, holds: bool) -> None:
        self.said.append(f"{name}={value:.4g} ({sign} {bound:g})")
        if not holds:
            self.short.append(name)

    def finish(self) -> None:
        """Prints the line of figures and exits: 1 when one falls short, unless the run was a quick one."""
        end = f"; short: {', '.join(self.short)}" if self.short else "; all hold"
        print(("quick run, figures do not count: " if self.quick else "figures: ") + ", ".join(self.said) + end)
        sys.exit(1 if self.short and not self.quick else 0)
