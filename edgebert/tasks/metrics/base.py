"""AnswerMetric: a metric of predictions, as data: what each example adds to it, and by which reduction examples are summed up.

A report keeps the statistics and the reduction's name. It can then compute the value, and that of any resample of the rows,
without texts, answers or tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.tasks.reductions import Rows


@dataclass(frozen=True)
class AnswerMetric:
    """One metric of predictions against the right answers."""

    name: str
    """Name in gates, reports and `--metric`."""
    title: str
    """Title of its column."""
    meaning: str
    """Explanation of its column."""
    of: str | tuple[str, ...]
    """Kind of predictions that it scores, as a task names its own: `label`, `tags`; or several kinds."""
    reduction: str
    """Name in `edgebert.tasks.reductions.REDUCTIONS`."""
    statistics: Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Rows]
    """(predictions, right answers, the model's labels) -> statistics of each example, of shape (examples, columns of the
    reduction)."""
    less_is_better: bool = False
    """Whether a smaller value is the better one, as of an error. Such a metric is never a task's first."""

    source: str = ""
    """sha256 of the file of a user's own function, which may change under one name; empty for edgebert's metrics."""

    def scores(self, kind: str) -> bool:
        """Whether it scores predictions of a kind."""
        return kind == self.of or (isinstance(self.of, tuple) and kind in self.of)
