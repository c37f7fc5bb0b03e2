"""Text classification: one sentence or a pair, one label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import IGNORED, Array, Column, Encoded, Output, Outputs, Row, Task, cut_at, without_tabs
from edgebert.tasks.probabilities import ranked, softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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


class TextClassification(Task):
    """Columns `text`, optionally `text_pair`, and `label`."""

    name = "text-classification"
    columns = (Column("text"), Column("text_pair", required=False), Column("label", "label", is_label=True))
    optimum_task = "text-classification"
    head = "classifier"
    architecture = "ForSequenceClassification"
    outputs = (Output("logits", ("labels",)),)
    reads = "first"
    prediction = "label"

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises `text`, or `text` and `text_pair` cut longest first; one window a row."""
        cut_at(tokenizer, max_length)
        found = enumerate(tokenizer.encode_batch([_input_of(row) for row in rows]))
        return [Encoded(tuple(item.ids), tuple(item.type_ids), row, cut=bool(item.overflowing)) for row, item in found]

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

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence, paired with its successor where the data has pairs."""
        if "text_pair" not in columns:
            return [{"text": sentence} for sentence in sentences]
        followers = [*sentences[1:], *sentences[:1]]
        return [{"text": text, "text_pair": pair} for text, pair in zip(sentences, followers, strict=True)]


def _input_of(row: Row) -> str | tuple[str, str]:
    """What the tokenizer is given: a text, or a pair."""
    text = without_tabs(row["text"])
    return text if row.get("text_pair") is None else (text, without_tabs(row["text_pair"]))


def _labelled(logits: Array, labels: Sequence[str], detail: Detail) -> PredictedLabel:
    shares = softmax(logits)
    named = dict(zip(labels, map(float, logits), strict=True)) if detail.logits else None
    best = int(shares.argmax())
    return PredictedLabel(labels[best], float(shares[best]), ranked(labels, shares, detail.top_k), named)
