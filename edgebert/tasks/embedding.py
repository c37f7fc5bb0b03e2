"""Embedding: text to vector, judged by the order of pairs or by what a search among passages finds."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Array, Column, Encoded, Output, Outputs, Row, Task, Text, cut_at, without_tabs
from edgebert.tasks.embedding_options import QUERY, EmbeddingOptions, Vectors
from edgebert.tasks.metrics import AnswerMetric, metrics_of
from edgebert.tasks.vectors import Matrix, as_compared, cosines, int8, packed, shortened, signs, unpacked

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VECTOR, TOKENS = "sentence_embedding", "last_hidden_state"
"""Names of the graph's outputs, by which sentence-transformers, optimum and Transformers.js know them."""
SAME = 0.02
"""Distance of two cosines up to which they are the same to those who rank by them."""
ALIKE = 0.98
"""Cosine of two models' vectors of a text from which on they are the same."""
SHOWN = 4
DIGITS = 6


@dataclass(frozen=True)
class Vector(Answer):
    """The vector of a text: floats, whole numbers from -127 to 127, or bytes of 8 signs each."""

    vector: tuple[float, ...] | tuple[int, ...]
    similarity: float | None = None
    """Cosine with the second text of a pair."""

    def cells(self) -> tuple[str, ...]:
        """The first numbers, or of a pair the cosine."""
        if self.similarity is not None:
            return (f"{self.similarity:.4f}",)
        first = " ".join(f"{number:.4g}" for number in self.vector[:SHOWN])
        return (f"{first} … ({len(self.vector)})" if len(self.vector) > SHOWN else first,)


class Embedding(Task):
    """Columns `text`, optionally `text_pair`, and `score`: how alike the two are, or none where a text_pair answers its text.

    The texts of a pair are two windows: each has a vector of its own.
    """

    name = "embedding"
    options_type = EmbeddingOptions
    options: EmbeddingOptions
    columns = (
        Column("text", other_names=("query", "question", "anchor", "sentence1")),
        Column("text_pair", required=False, other_names=("passage", "positive", "context", "sentence2"), at_will=True),
        Column("score", "number", required=False, is_label=True, other_names=("label", "similarity_score", "similarity")),
    )
    optimum_task = "feature-extraction"
    head = ""
    architecture = "Model"
    has_labels = False
    in_pairs = True
    pools = True
    outputs = (Output(VECTOR, ("width",), "numbers"),)
    also_exported = (TOKENS,)
    reads = "all"
    prediction = "similarity"

    @property
    def metrics(self) -> tuple[AnswerMetric, ...]:
        """Those of pairs, or of a search."""
        return metrics_of(self.options.judged_by) + self.own_metrics

    @property
    def is_search(self) -> bool:
        """Whether rows are questions with a passage each."""
        return self.options.judged_by == "retrieval"

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises each text alone, with the prompt before it: one window for `text`, a second for `text_pair`."""
        cut_at(tokenizer, max_length)
        texts = [(number, text) for number, row in enumerate(rows) for text in self._texts_of(row)]
        found = tokenizer.encode_batch([text for _, text in texts])
        return [
            Encoded(tuple(item.ids), tuple(item.type_ids), row, cut=bool(item.overflowing))
            for (row, _), item in zip(texts, found, strict=True)
        ]

    def _texts_of(self, row: Row) -> list[str]:
        """The texts of a row, each with what is written before it."""
        options, pair = self.options, row.get("text_pair")
        first, second = options.before_texts(), options.before_texts()
        if self.is_search and pair is not None:
            first, second = options.before_queries(), options.before_passages()
        return [first + without_tabs(row["text"]), *([] if pair is None else [second + without_tabs(pair)])]

    def _vectors(self, outputs: Sequence[Outputs]) -> Matrix:
        """The vectors of all windows as they are given, shape (windows, numbers), before they are rounded."""
        whole = np.stack([item[VECTOR] for item in outputs]).astype(np.float32)
        return shortened(whole, self.options.dimensions, normalize=self.options.normalize is not False)

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """One prediction a row: the cosine of a pair; the packed vectors of a question and its passage, or of a single text."""
        if not outputs:
            return []
        vectors, at = self._vectors(outputs), _windows_of(encoded, len(rows))
        if self.is_search:
            return [self._packed([vectors[window] for window in windows]) for windows in at]
        compared = as_compared(vectors, self.options.vectors)
        firsts, lasts = [windows[0] for windows in at], [windows[-1] for windows in at]
        similar = cosines(compared[firsts], compared[lasts])
        return [round(float(value), DIGITS) for value in similar]

    def _packed(self, vectors: Sequence[Matrix]) -> list[str]:
        """The vectors of a question and its passage; of binary ones the question keeps its numbers, which rank again."""
        kind = self.options.vectors
        first: Vectors = "float32" if kind == "binary" else kind
        return [packed(vector, kind if index else first) for index, vector in enumerate(vectors)]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The vector of each text, and of a pair the cosine as well; `detail` adds nothing to it."""
        if not outputs:
            return []
        vectors, at = self._vectors(outputs), _windows_of(encoded, len(rows))
        compared = as_compared(vectors, self.options.vectors)
        return [
            Vector(
                self._given(vectors[windows[0]]),
                round(float(cosines(compared[windows[:1]], compared[windows[1:]])[0]), DIGITS) if len(windows) > 1 else None,
            )
            for windows in at
        ]

    def _given(self, vector: Matrix) -> tuple[Any, ...]:
        """A vector as it is given out."""
        kind = self.options.vectors
        made = int8(vector) if kind == "int8" else signs(vector) if kind == "binary" else vector
        return tuple(made.tolist())

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The row's score; of a search, what tells its question and its passage from others. None where there is neither."""
        if not self.is_search:
            return None if row.get("score") is None else float(row["score"])
        pair = row.get("text_pair")
        return None if pair is None else [_mark_of(row["text"]), _mark_of(pair)]

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether the cosines differ by SAME at most; of vectors, whether they have a cosine of ALIKE or more."""
        if not self.is_search:
            return bool(abs(prediction - other) <= SAME)
        return bool((cosines(unpacked(prediction), unpacked(other)) >= ALIKE).all())

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The same cosine, or the same vectors, for every row."""
        same: Any = [packed(np.ones(1, dtype=np.float32))] * 2 if self.is_search else 0.0
        return [same] * len(references)

    def check_rows(self, references: Sequence[Any]) -> None:
        """Raises ValueError where a row has no right answer, or no order of the rows is right or wrong."""
        if (missing := next((row for row, value in enumerate(references, start=1) if value is None), None)) is not None:
            need = "text_pair, the passage that answers it" if self.is_search else "score, or task.judged_by: retrieval"
            raise ValueError(f"has rows that can judge nothing, the first is row {missing}: it has no {need}")
        if self.is_search and len({passage for _, passage in references}) < 2:
            raise ValueError("has the same passage in every row")
        if not self.is_search and len(set(references)) < 2:
            raise ValueError(f"has the same score in every row: {references[0]:g}")

    def check_row(self, row: Row) -> None:
        """Raises ValueError for a score without a second text."""
        if row.get("score") is not None and row.get("text_pair") is None:
            raise ValueError("`score` says how alike two texts are, and `text_pair` is missing")

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence alone: what is asked of the model is the vector of a text, whatever judges it."""
        return [{"text": sentence} for sentence in sentences]

    def row_of(self, text: Text, columns: Collection[str] | None = None) -> Row:
        """A text, or a tuple of two, whose cosine is asked for: that needs no model that was made for pairs. In a line of
        input a tab separates two texts only where the model was; see `Task.row_of`."""
        return super().row_of(text, None if isinstance(text, tuple) else columns)

    def serving_note(self) -> str | None:
        """The prompts of a search, where a text alone does not get them."""
        judged = (self.options.before_queries(), self.options.before_passages())
        served = self.options.before_texts()
        if not self.is_search or judged == (served, served):
            return None
        return (
            f"judged with {judged[0]!r} before queries and {judged[1]!r} before passages; a text alone has {served!r} "
            f'before it unless it is asked with another prompt: edgebert run --prompt {QUERY}, in Python prompt="{QUERY}"'
        )

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The row's score, of shape (1,): 1 for a passage that answers its question, NaN for texts without a score."""
        score = 1.0 if self.is_search else row.get("score")
        return np.array([np.nan if score is None or row.get("text_pair") is None else score], dtype=np.float32)

    def combined(self, outputs: Mapping[str, Any]) -> Any:
        """The vectors, of shape (batch, width)."""
        return outputs[VECTOR]

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """See `edgebert.tasks.vector_losses.pair_loss`, and `distance` for targets that are vectors, as of `pseudo_targets`."""
        from edgebert.tasks.vector_losses import distance, pair_loss

        if targets.shape == logits.shape:
            return distance(logits, targets, reduction)
        return pair_loss(logits, targets, search=self.is_search, reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """See `edgebert.tasks.vector_losses.imitation`; there is nothing to soften."""
        from edgebert.tasks.vector_losses import imitation

        return imitation(student, teacher)

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's vectors with noise of as large a norm: targets that the model itself might have been given, were they
        normally distributed around its answer. What a part adds to the gradient of their distance is then its Fisher
        information (Kunstner et al. 2019, arXiv 1905.12558); without noise a teacher would have none."""
        from edgebert.tasks.vector_losses import with_noise

        return with_noise(logits)


def _windows_of(encoded: Sequence[Encoded], rows: int) -> list[list[int]]:
    """The indices of each row's windows."""
    found: list[list[int]] = [[] for _ in range(rows)]
    for index, item in enumerate(encoded):
        found[item.row].append(index)
    return found


def _mark_of(text: str) -> str:
    """What tells a text from others, without holding it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
