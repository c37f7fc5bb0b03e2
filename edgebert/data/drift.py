"""Notices calibration texts that are unlike the texts that will be served: quantisation ranges set on them do not fit."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgebert.tasks.base import Encoded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EVAL_ROWS = 2000
"""Most rows of data.eval to compare with: 2,000 texts fix the distribution of lengths to 0.04 (KS distance, at 99.9 %)."""
FAR = 0.25
"""Kolmogorov-Smirnov distance of two sets of lengths from which on there is a note."""
CRITICAL = 1.95
"""This times sqrt((n + m) / (n m)) is the distance that two samples of one distribution exceed once in a thousand times."""
UNKNOWN_MORE = 0.02
"""Difference of the shares of unknown tokens from which on there is a note."""
UNKNOWN_LEAST = 5
"""Fewest unknown tokens needed for a note."""


@dataclass(frozen=True)
class Texts:
    """The numbers of a set of texts that are compared."""

    lengths: tuple[int, ...]
    """Tokens of each text."""
    unknown: int = 0
    """Unknown tokens in all texts together."""

    @classmethod
    def of(cls, encoded: Sequence[Encoded], tokenizer: Tokenizer) -> Texts:
        """The numbers of tokenised texts."""
        unknown = unknown_id(tokenizer)
        return cls(tuple(map(len, encoded)), sum(item.ids.count(unknown) for item in encoded) if unknown is not None else 0)

    @property
    def median(self) -> float:
        """Median length in tokens."""
        return float(np.median(self.lengths))

    @property
    def share(self) -> float:
        """Share of unknown tokens, 0 to 1."""
        return self.unknown / sum(self.lengths)


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the token that stands for what the vocabulary lacks; None where there is none, as in byte-level BPE."""
    if name := getattr(tokenizer.model, "unk_token", None):
        return tokenizer.token_to_id(name)
    found = json.loads(tokenizer.to_str())["model"].get("unk_id")  # Unigram names it nowhere else
    return found if isinstance(found, int) else None


def drift(calibration: Texts, served: Texts) -> str | None:
    """A note for the user if two sets of texts clearly differ in length or in unknown tokens; None otherwise.

    Args:
        served: texts like the ones that the model will see: the eval set's.
    """
    differences = []
    if distance(calibration.lengths, served.lengths) > max(FAR, chance(len(calibration.lengths), len(served.lengths))):
        differences.append(f"{calibration.median:g} tokens in the median against {served.median:g}")
    if abs(calibration.share - served.share) > UNKNOWN_MORE and max(calibration.unknown, served.unknown) >= UNKNOWN_LEAST:
        differences.append(f"{calibration.share:.1%} unknown tokens against {served.share:.1%}")
    if not differences:
        return None
    return (
        f"calibration texts are unlike those of data.eval: {', and '.join(differences)}. Ranges found on them may not fit: "
        "give data.calibration rows like the ones that will be served."
    )


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic: the largest difference of two empirical distributions, 0 to 1."""
    first, second = np.sort(one), np.sort(other)
    points = np.concatenate([first, second])
    below = [np.searchsorted(values, points, side="right") / values.size for values in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def chance(one: int, other: int) -> float:
    """The distance that samples of these sizes from one distribution exceed once in a thousand times."""
    return CRITICAL * math.sqrt((one + other) / (one * other))
