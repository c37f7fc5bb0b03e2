"""Extractive summarisation: a document, its best sentences (BertSum, Liu and Lapata 2019, arXiv 1908.08345).

Each sentence stands between a [CLS] and a [SEP] of its own, and segments alternate. The model has one output for each token, of
which that of a sentence's [CLS] is the score of the sentence. A long document is read in windows of whole sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import Array, Column, Encoded, Output, Outputs, Row, Task, set_truncation, without_tabs
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.oracle_summary import has_shared_trigram, oracle
from edgebert.tasks.probabilities import sigmoid
from edgebert.tasks.sentence_split import sentence_spans
from edgebert.tasks.words import Span, word_spans

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


class SummaryOptions(TaskOptions):
    """How summaries are made of scores."""

    sentences: int = Field(3, ge=1, description="Sentences of a summary, at most.")
    trigram_blocking: bool = Field(
        True, description="Leaves a sentence out that shares three words in a row with a better one of the summary."
    )


@dataclass(frozen=True)
class ChosenSentence:
    """A sentence of a summary: its characters [start, end) in the document, and its probability of belonging to it."""

    sentence: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Summary(Answer):
    """The best sentences of a document, in its order."""

    summary: str
    sentences: tuple[ChosenSentence, ...]

    def cells(self) -> tuple[str, ...]:
        """All in one column."""
        return (" ".join(f"[{item.start}:{item.end}] {' '.join(item.sentence.split())}" for item in self.sentences) or "-",)


class ExtractiveSummarisation(Task):
    """Columns `document`, or `sentences`, and `summary`. A prediction is a summary, a reference the right one; beside it, both
    hold the document's first sentences."""

    name = "extractive-summarisation"
    options_type = SummaryOptions
    columns = (
        Column("document", required=False, other_names=("article", "text")),
        Column("sentences", "texts", or_else="document"),
        Column("summary", is_label=True, other_names=("highlights", "abstract")),
    )
    optimum_task = "token-classification"
    head = "classifier"
    architecture = "ForTokenClassification"
    has_labels = False
    head_rows = 1
    outputs = (Output("logits", ("tokens", "numbers"), "sigmoid"),)
    reads = "all"
    prediction = "summary"
    options: SummaryOptions

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has an output for each of several labels, as one of named entities."""
        if outputs != 1:
            return f"the model has {outputs} outputs a token, as for token-classification; scores of sentences need one."
        return super().model_fault(config, outputs)

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises each sentence; one or more windows of whole sentences a row. `words` holds the number of a token's
        sentence, and only a sentence that alone is too long is cut."""
        set_truncation(tokenizer, max_length)
        encoded: list[Encoded] = []
        for number, row in enumerate(rows):
            text, spans = _document(row)
            texts = [without_tabs(text[start:end]) for start, end in spans]
            found = tokenizer.encode_batch(texts)
            encoded += [_window(group, spans, number) for group in _grouped(found, max_length)]
        return encoded

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The summary of each row, and its first sentences."""
        return [
            [" ".join(text[start:end] for start, end in (spans[index] for index in chosen)), _lead(row, self.options.sentences)]
            for row, (text, spans, chosen, _) in zip(rows, self._chosen(outputs, encoded, rows), strict=True)
        ]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The sentences of each summary; `detail` adds nothing."""
        answers: list[Answer] = []
        for text, spans, chosen, scores in self._chosen(outputs, encoded, rows):
            shares = sigmoid(np.array([scores[index] for index in chosen]))
            found = tuple(
                ChosenSentence(text[slice(*spans[index])], *spans[index], float(share))
                for index, share in zip(chosen, shares, strict=True)
            )
            answers.append(Summary(" ".join(item.sentence for item in found), found))
        return answers

    def _chosen(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row]
    ) -> Iterator[tuple[str, list[Span], list[int], dict[int, float]]]:
        """For each row its text, the characters of its sentences, those that are chosen, and sentence -> logit."""
        scores: list[dict[int, float]] = [{} for _ in rows]
        for window, found in zip(encoded, outputs, strict=True):
            firsts = _first_of_each(window).items()
            scores[window.row] |= {sentence: float(found["logits"][token][0]) for sentence, token in firsts}
        for row, of_row in zip(rows, scores, strict=True):
            text, spans = _document(row)
            yield text, spans, self._best(of_row, [text[start:end] for start, end in spans]), of_row

    def _best(self, scores: Mapping[int, float], sentences: Sequence[str]) -> list[int]:
        chosen: list[int] = []
        for index in sorted(scores, key=lambda index: (-scores[index], index)):
            if len(chosen) == self.options.sentences:
                break
            others = [sentences[other] for other in chosen]
            if not (self.options.trigram_blocking and has_shared_trigram(sentences[index], others)):
                chosen.append(index)
        return sorted(chosen)

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The right summary, and the first sentences."""
        return [row["summary"], _lead(row, self.options.sentences)]

    def agrees(self, prediction: Any, other: Any) -> bool:
        """Whether the summaries are the same."""
        return bool(prediction[0] == other[0])

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """The first sentences of each document, which need no model."""
        return [[lead, lead] for _, lead in references]

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """At the first token of each sentence 1.0 for the oracle's and 0.0 for others, NaN elsewhere; shape (tokens, 1)."""
        targets = np.full((len(encoded), 1), np.nan, dtype=np.float32)
        if row.get("summary") is not None:
            text, spans = _document(row)
            right = oracle(tuple(text[start:end] for start, end in spans), row["summary"], self.options.sentences)
            for sentence, token in _first_of_each(encoded).items():
                targets[token] = float(sentence in right)
        return targets

    def loss(self, logits: Any, targets: Any, reduction: Literal["mean", "sum"] = "mean") -> Any:
        """Binary cross-entropy, a scalar tensor; NaN targets do not count.

        Args:
            logits, targets: shape (batch, tokens, 1).
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        counts = ~targets.isnan()
        if not counts.any():
            return logits.sum() * 0.0
        return binary_cross_entropy_with_logits(logits.float()[counts], targets[counts].float(), reduction=reduction)

    def imitate(self, student: Any, teacher: Any, mask: Any, temperature: float) -> Any:
        """Soft labels, yes and no, of each token of the mask.

        Args:
            student, teacher: logits of shape (batch, tokens, 1).
        """
        import torch

        from edgebert.tasks.soft_labels import soft_labels

        if not mask.any():
            return student.sum() * 0.0
        ours, theirs = (torch.cat([torch.zeros_like(logits), logits], dim=-1)[mask] for logits in (student, teacher))
        return soft_labels(ours, theirs, temperature)

    def pseudo_targets(self, logits: Any, mask: Any) -> Any:
        """The teacher's probability for each token, NaN beyond the mask."""
        return logits.float().sigmoid().masked_fill(~mask[..., None], float("nan"))

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """A document of each sentence."""
        return [{"document": sentence} for sentence in sentences]


def _document(row: Row) -> tuple[str, list[Span]]:
    """The text of a row and the characters of its sentences; sentences of their own are joined by blanks."""
    if row.get("sentences") is not None:
        return " ".join(row["sentences"]), word_spans(row["sentences"])
    return row["document"], sentence_spans(row["document"])


def _lead(row: Row, count: int) -> str:
    text, spans = _document(row)
    return " ".join(text[start:end] for start, end in spans[:count])


def _grouped(found: Sequence[Encoding], max_length: int) -> Iterator[list[tuple[int, Encoding]]]:
    """Sentences with their numbers, as many together as fit."""
    group: list[tuple[int, Encoding]] = []
    size = 0
    for number, item in enumerate(found):
        if group and size + len(item.ids) > max_length:
            yield group
            group, size = [], 0
        group.append((number, item))
        size += len(item.ids)
    if group:
        yield group


def _window(group: Sequence[tuple[int, Encoding]], spans: Sequence[Span], row: int) -> Encoded:
    shifted = [(spans[number][0], item) for number, item in group]
    return Encoded(
        ids=tuple(token for _, item in group for token in item.ids),
        type_ids=tuple(place % 2 for place, (_, item) in enumerate(group) for _ in item.ids),
        row=row,
        offsets=tuple((base + start, base + end) for base, item in shifted for start, end in item.offsets),
        words=tuple(number for number, item in group for _ in item.ids),
        cut=any(item.overflowing for _, item in group),
    )


def _first_of_each(window: Encoded) -> dict[int, int]:
    """Sentence -> its first token in a window."""
    firsts: dict[int, int] = {}
    for token, sentence in enumerate(window.words):
        firsts.setdefault(sentence, token)
    return firsts
