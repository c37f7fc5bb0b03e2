"""drift: says when calibration texts are unlike those that will be served: ranges found on the ones do not fit the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgebert.tasks.base import Encoded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EVAL_ROWS = 2000
"""Rows of data.eval to compare with, at most: the lengths of 2,000 texts are known to 0.04 or better (KS, at 99.9 %)."""
FAR = 0.25
"""Kolmogorov-Smirnov distance of two sets of lengths that is worth a note."""
CRITICAL = 1.95
"""Times sqrt((n + m) / (n m)): the distance that two samples of one distribution exceed once in a thousand times."""
UNKNOWN_MORE = 0.02
"""Difference of the shares of unknown tokens that is worth a note,"""
UNKNOWN_LEAST = 5
"""where at least so many were seen."""


@dataclass(frozen=True)
class Texts:
    """What is compared of a set of texts."""

    lengths: tuple[int, ...]
    """Tokens of each text."""
    unknown: int = 0
    """Tokens of all texts that the vocabulary does not have."""

    @classmethod
    def of(cls, encoded: Sequence[Encoded], tokenizer: Tokenizer) -> Texts:
        """Tokenised texts."""
        name = getattr(tokenizer.model, "unk_token", None)
        unknown = tokenizer.token_to_id(name) if name else None
        return cls(tuple(map(len, encoded)), sum(item.ids.count(unknown) for item in encoded) if unknown is not None else 0)

    @property
    def median(self) -> float:
        """Of the lengths."""
        return float(np.median(self.lengths))

    @property
    def share(self) -> float:
        """Of unknown tokens."""
        return self.unknown / sum(self.lengths)


def drift(calibration: Texts, served: Texts) -> str | None:
    """What to tell the user of two sets of texts that clearly differ in length or in unknown tokens, or None.

    Args:
        served: texts like those that the model will see: the eval set's.
    """
    found = []
    if distance(calibration.lengths, served.lengths) > max(FAR, chance(len(calibration.lengths), len(served.lengths))):
        found.append(f"{calibration.median:g} tokens in the median against {served.median:g}")
    if abs(calibration.share - served.share) > UNKNOWN_MORE and max(calibration.unknown, served.unknown) >= UNKNOWN_LEAST:
        found.append(f"{calibration.share:.1%} unknown tokens against {served.share:.1%}")
    if not found:
        return None
    return (
        f"calibration texts are unlike those of data.eval: {', and '.join(found)}. Ranges found on them may not fit: "
        "give data.calibration rows like the ones that will be served."
    )


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic: the largest difference of two empirical distributions, 0 to 1."""
    first, second = np.sort(one), np.sort(other)
    places = np.concatenate([first, second])
    below = [np.searchsorted(values, places, side="right") / values.size for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def chance(one: int, other: int) -> float:
    """The distance that samples of these sizes from one distribution exceed once in a thousand times."""
    return CRITICAL * math.sqrt((one + other) / (one * other))
