"""Text classification: one sentence or a pair, one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.tasks.base import IGNORED, Answer, Array, Column, Encoded, Output, Outputs, Row, Task, cut_at
from edgebert.tasks.probabilities import softmax

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class PredictedLabel(Answer):
    """The most probable label and its probability."""

    label: str
    score: float

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
        inputs = [(row["text"], row["text_pair"]) if row.get("text_pair") is not None else row["text"] for row in rows]
        found = enumerate(tokenizer.encode_batch(inputs))
        return [Encoded(tuple(item.ids), tuple(item.type_ids), row) for row, item in found]

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The name of the label with the largest logit."""
        return [labels[int(item["logits"].argmax())] for item in outputs]

    def answer(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Answer]:
        """The most probable label and its softmax probability."""
        if not outputs:
            return []
        shares = softmax(np.stack([item["logits"] for item in outputs]))
        return [PredictedLabel(labels[int(row.argmax())], float(row.max())) for row in shares]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The model's name of the row's label."""
        return labels[indices[row["label"]]]

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
