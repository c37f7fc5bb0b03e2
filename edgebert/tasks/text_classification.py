"""Text classification: one sentence or a pair, one label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgebert.tasks.base import Answer, Array, Column, Encoded, Row, Task, cut_at
from edgebert.tasks.metric import SCORED_BY

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TextClassification(Task):
    """Columns `text`, optionally `text_pair`, and `label`."""

    name = "text-classification"
    columns = (Column("text"), Column("text_pair", required=False), Column("label", is_label=True))
    optimum_task = "text-classification"
    head = "classifier.weight"
    architecture = "ForSequenceClassification"
    outputs = ("logits",)
    metrics = SCORED_BY[name]

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises `text`, or `text` and `text_pair` cut longest first."""
        cut_at(tokenizer, max_length)
        inputs = [(row["text"], row["text_pair"]) if row.get("text_pair") is not None else row["text"] for row in rows]
        return [Encoded(tuple(item.ids), tuple(item.type_ids)) for item in tokenizer.encode_batch(inputs)]

    def label_index(self, label: str, labels: Sequence[str]) -> int | None:
        """By name, else by number: data sets write labels both ways."""
        if label in labels:
            return labels.index(label)
        return next((index for index in range(len(labels)) if label == str(index)), None)

    def predict(self, outputs: Mapping[str, Array]) -> Array:
        """argmax of the logits, shape (examples,)."""
        return np.asarray(outputs["logits"].argmax(axis=-1))

    def answer(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> list[Answer]:
        """The most probable label and its softmax probability."""
        logits = outputs["logits"].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return [Answer(labels[int(row.argmax())], float(row.max())) for row in shares]

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence, paired with its successor where the data has pairs."""
        if "text_pair" not in columns:
            return [{"text": sentence} for sentence in sentences]
        followers = [*sentences[1:], *sentences[:1]]
        return [{"text": text, "text_pair": pair} for text, pair in zip(sentences, followers, strict=True)]
