"""Regression: one sentence or a pair, one number or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Array, Column, Encoded, Output, Outputs, Row
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.texts import PAIR, TEXT, TextTask

SAME = 0.05
"""Share of the other's size, or of 1 where that is smaller, by which two numbers may differ and still be the same."""


class RegressionOptions(TaskOptions):
    """How many numbers a row has."""

    seen_outside: ClassVar[frozenset[str]] = frozenset({"numbers"})

    numbers: int = Field(1, ge=1, le=1000, description="Numbers that the model estimates; of several, `score` holds a list.")


@dataclass(frozen=True)
class Number(Answer):
    """The number that the model gives a text; a list where it gives several."""

    score: float | list[float] = field(hash=False)

    def cells(self) -> tuple[str, ...]:
        """The number, or the numbers."""
        values = self.score if isinstance(self.score, list) else [self.score]
        return (" ".join(f"{value:.4f}" for value in values),)


class Regression(TextTask):
    """Columns `text`, optionally `text_pair`, and `score`, a number."""

    name = "regression"
    options_type = RegressionOptions
    options: RegressionOptions
    columns = (TEXT, PAIR, Column("score", "number", is_label=True, other_names=("label", "similarity_score", "similarity")))
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    problem_type = "regression"
    has_labels = False
    head_rows = 1
    outputs = (Output("logits", ("numbers",), "numbers"),)
    prediction = "number"

    def __init__(self, options: TaskOptions | None = None) -> None:
        """Takes its options; of several numbers the column is one of lists."""
        super().__init__(options)
        if (count := self.options.numbers) > 1:
            lists = Column("score", "numbers", is_label=True, other_names=("scores", "label", "labels"))
            self.columns, self.head_rows = (TEXT, PAIR, lists), count

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has another number of outputs."""
        if outputs != self.options.numbers:
            count = self.options.numbers
            wanted = "one number" if count == 1 else f"{count} numbers"
            hint = f"; where all are numbers, task: {{name: regression, numbers: {outputs}}}" if outputs > 1 else ""
            return f"the model has {outputs} outputs, and regression is of {wanted}{hint}."
        return super().model_fault(config, outputs)

    def check_row(self, row: Row) -> None:
        """Raises ValueError where a row has more or fewer numbers than the task."""
        score = row.get("score")
        if isinstance(score, list) and len(score) != self.options.numbers:
            raise ValueError(f"`score` has {len(score)} numbers, and the task {self.options.numbers}")

    def _of(self, logits: Array) -> Any:
        values = [float(value) for value in logits]
        return values if self.options.numbers > 1 else values[0]

    def config_fields(self) -> Mapping[str, Any]:
        """What tells Transformers and transformers.js that the outputs are no labels that exclude each other."""
        return {"problem_type": self.problem_type}

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The number, as a float; of several a list."""
        return [self._of(item["logits"]) for item in outputs]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The number of each row; `detail` adds nothing to it."""
        return [Number(self._of(item["logits"])) for item in outputs]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The row's number, or its numbers."""
        return self._of(np.atleast_1d(row["score"]))

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether the numbers differ by SAME at most."""
        ours, theirs = np.asarray(prediction), np.asarray(other)
        return bool((np.abs(ours - theirs) <= SAME * np.maximum(1.0, np.abs(theirs))).all())

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The mean of the numbers, for every row."""
        return [self._of(np.atleast_1d(np.mean(references, axis=0, dtype=np.float64)))] * len(references)

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where all numbers are equal, so that no order is right or wrong."""
        numbers = np.array(references, dtype=np.float64).reshape(len(references), -1)
        for place, column in enumerate(numbers.T, start=1):
            if len(set(column.tolist())) < 2:
                which = f", in place {place}" if numbers.shape[1] > 1 else ""
                raise ValueError(f"has the same number in every row: {column[0]:g}{which}")

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The row's numbers, of shape (numbers,); NaN where it has none."""
        score = row.get("score")
        return np.full(self.options.numbers, np.nan if score is None else score, dtype=np.float32)

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Mean squared error, a scalar tensor; NaN targets do not count.

        Args:
            logits, targets: shape (batch, numbers).
        """
        from torch.nn.functional import mse_loss

        counts = ~targets.isnan()
        if not counts.any():
            return logits.sum() * 0.0
        return mse_loss(logits.float()[counts], targets[counts], reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Mean squared difference from the teacher's numbers, of shape (batch, numbers); there is nothing to soften."""
        from torch.nn.functional import mse_loss

        return mse_loss(student.float(), teacher.float())

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's numbers, of shape (batch, numbers)."""
        return logits
