"""Text classification: one sentence or a pair, one label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import IGNORED, Array, Column, Encoded, Output, Outputs, Row
from edgebert.tasks.probabilities import ranked, softmax
from edgebert.tasks.texts import PAIR, TEXT, TextTask


@dataclass(frozen=True)
class PredictedLabel(Answer):
    """The most probable label and its probability, and those of all labels or of the first `top_k`."""

    label: str
    score: float
    probabilities: dict[str, float] = field(default_factory=dict, hash=False)
    """Label -> probability, the most probable first."""
    logits: dict[str, float] | None = field(default=None, hash=False)
    """Label -> logit, in the model's order, where they were asked for."""

    def cells(self) -> tuple[str, ...]:
        """Label and probability."""
        return self.label, f"{self.score:.4f}"


class TextClassification(TextTask):
    """Columns `text`, optionally `text_pair`, and `label`."""

    name = "text-classification"
    columns = (TEXT, PAIR, Column("label", "label", is_label=True))
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    outputs = (Output("logits", ("labels",)),)
    prediction = "label"
    problem_type = "single_label_classification"

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has one output."""
        if outputs == 1:
            return "the model has one output, which is a number and no label: task: regression"
        return super().model_fault(config, outputs)

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The name of the label with the largest logit."""
        return [labels[int(item["logits"].argmax())] for item in outputs]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The most probable label and the softmax probabilities."""
        return [_labelled(item["logits"], labels, detail) for item in outputs]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The model's name of the row's label."""
        return labels[indices[row["label"]]]

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The commonest label, for every row."""
        return [Counter(references).most_common(1)[0][0]] * len(references)

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The index of the row's label, of shape ()."""
        label = row.get("label")
        return np.array(IGNORED if label is None else indices[label], dtype=np.int64)


def _labelled(logits: Array, labels: Sequence[str], detail: Detail) -> PredictedLabel:
    shares = softmax(logits)
    named = dict(zip(labels, map(float, logits), strict=True)) if detail.logits else None
    best = int(shares.argmax())
    return PredictedLabel(labels[best], float(shares[best]), ranked(labels, shares, detail.top_k), named)
