"""Numbers of a comparison as text, and shares and points read from text."""

from __future__ import annotations

import math
import re

from edgebert.errors import InputError
from edgebert.report.compare.findings import Verdict
from edgebert.report.metric_table import Kind

WORSE: dict[Kind, Verdict] = {"time": "slower", "rate": "slower", "amount": "larger"}
BETTER: dict[Kind, Verdict] = {"time": "faster", "rate": "faster", "amount": "smaller"}
BLANKS = re.compile(r"[^\S ]+")


def plain(line: str) -> str:
    """One line of text without line breaks, control characters or commands to a CI system, whatever names hold.

    GitHub runs lines that begin with `::`, and older runners what follows `##[`.
    """
    text = "".join(letter for letter in BLANKS.sub(" ", line) if letter.isprintable())
    text = text.replace("##[", "# #[")
    return text.replace("::", ": :", 1) if text.lstrip().startswith("::") else text


def cost_sign(kind: Kind) -> int:
    """1 where more is worse, -1 where more is better."""
    return -1 if kind == "rate" else 1


def direction(kind: Kind, log_cost: float) -> str:
    """The word for a change of cost: `slower`, `smaller`."""
    return WORSE[kind] if log_cost > 0 else BETTER[kind]


def amount(log_cost: float) -> str:
    """The size of a change, the same in both directions: `4.6 %`, and `3.30x` from a factor of 1.5 on."""
    factor = math.exp(abs(log_cost))
    return f"{factor:.2f}x" if factor >= 1.5 else f"{(factor - 1) * 100:.1f} %"


def change(kind: Kind, log_cost: float) -> str:
    """A change with its direction: `4.6 % slower`, `3.30x faster`."""
    return f"{amount(log_cost)} {direction(kind, log_cost)}"


def span(kind: Kind, low: float, high: float) -> str:
    """An interval of log cost: `3.1 % to 6.2 % slower`, `0.4 % faster to 0.9 % slower`."""
    if low * high > 0:
        first, last = sorted((low, high), key=abs)
        return f"{amount(first)} to {amount(last)} {direction(kind, high)}"
    return f"{change(kind, low) if low else amount(0)} to {change(kind, high) if high else amount(0)}"


def points(difference: float) -> str:
    """A difference of two shares: `-0.23 points`."""
    return f"{difference * 100:+.2f} points"


def share(value: float) -> str:
    """A share as `2 %`."""
    return f"{value * 100:g} %"


def parse_points(text: str, option: str) -> float:
    """Reads points of a score: `0.5%`, half a point, is 0.005.

    Raises:
        InputError: the text is no share, or has no `%`: a bare 0.5 may mean half a point or half of all answers.
    """
    if not text.strip().endswith("%"):
        raise InputError(f"{option} {text!r} has no unit.", hint="Write points of the score with %, such as 0.5%.")
    return parse_share(text, option)


def parse_share(text: str, option: str) -> float:
    """Reads a share: `2%`, `2 %` or `0.02` is 0.02.

    Raises:
        InputError: the text is none of these. A bare number of 1 or more is refused: it may mean percent or a factor.
    """
    stripped = text.strip()
    number = stripped.removesuffix("%").strip()
    try:
        value = float(number) / (100 if stripped.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise InputError(f"{option} {text!r} is no share below 1.", hint="Write 2% or 0.02.")
    return value
