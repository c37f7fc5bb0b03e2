"""Shares as users write them."""

from __future__ import annotations

import math

from edgebert.errors import InputError


def parse_points(text: str, option: str) -> float:
    """`0.5%`, half a point of a score, as 0.005.

    Raises:
        InputError: it is not, or has no `%`: a bare 0.5 may be half a point or half of all answers.
    """
    if not text.strip().endswith("%"):
        raise InputError(f"{option} {text!r} has no unit.", hint="Write points of the score with %, such as 0.5%.")
    return parse_share(text, option)


def parse_share(text: str, option: str) -> float:
    """`2%`, `2 %` or `0.02` as 0.02.

    Raises:
        InputError: it is none of these. A bare number of 1 or more is refused, for it may mean percent or times.
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
