"""Regression: one sentence or a pair, one number."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Array, Column, Encoded, Output, Outputs, Row
from edgebert.tasks.texts import PAIR, TEXT, TextTask

SAME = 0.05
"""Share of the other's size, or of 1 where that is smaller, by which two numbers may differ and still be the same."""


@dataclass(frozen=True)
class Number(Answer):
    """The number that the model gives a text."""

    score: float

    def cells(self) -> tuple[str, ...]:
        """The number."""
        return (f"{self.score:.4f}",)


class Regression(TextTask):
    """Columns `text`, optionally `text_pair`, and `score`, a number."""

    name = "regression"
    columns = (TEXT, PAIR, Column("score", "number", is_label=True, other_names=("label", "similarity_score", "similarity")))
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    problem_type = "regression"
    has_labels = False
    head_rows = 1
    outputs = (Output("logits", ("numbers",), "numbers"),)
    prediction = "number"

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has several outputs."""
        if outputs != 1:
            return f"the model has {outputs} outputs, and regression is of one number."
        return super().model_fault(config, outputs)

    def config_fields(self) -> Mapping[str, Any]:
        """What tells Transformers and transformers.js that the outputs are no labels that exclude each other."""
        return {"problem_type": self.problem_type}

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The number, as a float."""
        return [float(item["logits"][0]) for item in outputs]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The number of each row; `detail` adds nothing to it."""
        return [Number(float(item["logits"][0])) for item in outputs]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The row's number."""
        return float(row["score"])

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether the numbers differ by SAME at most."""
        return bool(abs(prediction - other) <= SAME * max(1.0, abs(other)))

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The mean of the numbers, for every row."""
        return [statistics.fmean(references)] * len(references)

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where all numbers are equal, so that no order is right or wrong."""
        if len(set(references)) < 2:
            raise ValueError(f"has the same number in every row: {references[0]:g}")

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The row's number, of shape (1,); NaN where it has none."""
        score = row.get("score")
        return np.array([np.nan if score is None else score], dtype=np.float32)

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Mean squared error, a scalar tensor; NaN targets do not count.

        Args:
            logits, targets: shape (batch, 1).
        """
        from torch.nn.functional import mse_loss

        counts = ~targets.isnan()
        if not counts.any():
            return logits.sum() * 0.0
        return mse_loss(logits.float()[counts], targets[counts], reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Mean squared difference from the teacher's numbers, of shape (batch, 1); there is nothing to soften."""
        from torch.nn.functional import mse_loss

        return mse_loss(student.float(), teacher.float())

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's numbers, of shape (batch, 1)."""
        return logits
