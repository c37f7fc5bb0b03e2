"""Token classification: a text or a list of words, a tag for each word, entities with their characters.

The label of a word is that of its first token; other tokens have no target. A row that is too long for the model is read in
windows that overlap by a quarter, and a word that lies in two of them has its label from the one that shows more of its
surroundings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.tasks.answers import PLAIN, Answer, Detail
from edgebert.tasks.base import (
    IGNORED,
    NO_WORD,
    Array,
    Column,
    Encoded,
    Output,
    Outputs,
    Row,
    Task,
    cut_into_windows,
    without_tabs,
)
from edgebert.tasks.metrics.entity_f1 import OUTSIDE, entities_of
from edgebert.tasks.probabilities import ranked, softmax
from edgebert.tasks.words import Span, WordIndex, whole_words, word_spans

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)


@dataclass(frozen=True)
class Entity:
    """A named entity: its type, its characters [start, end) in the text, and the mean probability of its words' tags."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class TaggedWord:
    """A word, its characters [start, end) in the text, and what the model says of its tag."""

    text: str
    start: int
    end: int
    probabilities: dict[str, float] = field(hash=False)
    """Tag -> probability, the most probable first."""
    logits: dict[str, float] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Entities(Answer):
    """The entities of a text, in order. A list of words is the text of these words with a space between."""

    entities: tuple[Entity, ...]
    words: tuple[TaggedWord, ...] | None = None
    """Every word that has a token, where probabilities or logits were asked for."""

    def cells(self) -> tuple[str, ...]:
        """All entities in one column."""
        shown = (f"{item.label}[{item.start}:{item.end}] {item.text} {item.score:.4f}" for item in self.entities)
        return ("; ".join(shown) or "-",)


class TokenClassification(Task):
    """Columns `words` and `tags`, one tag for each word; without labels `text` may stand for `words`."""

    name = "token-classification"
    columns = (
        Column("words", "words", other_names=("tokens",), or_else="text"),
        Column("text", required=False),
        Column("tags", "tags", is_label=True, other_names=("ner_tags", "labels")),
    )
    optimum_task = "token-classification"
    head = "classifier"
    architecture = "ForTokenClassification"
    outputs = (Output("logits", ("tokens", "labels")),)
    reads = "all"
    prediction = "tags"

    def check_row(self, row: Row) -> None:
        """Raises ValueError if the row has tags without words, or not as many of both."""
        words, tags = row.get("words"), row.get("tags")
        if tags is not None and words is None:
            raise ValueError("has `tags`, but no `words` that they belong to")
        if tags is not None and words is not None and len(words) != len(tags):
            raise ValueError(f"has {len(words)} words and {len(tags)} tags; every word needs one")

    def check_label(self, label: str) -> None:
        """Raises ValueError for a tag that is neither of the scheme nor a number of one of the model's."""
        if not TAG.fullmatch(label) and not label.isdecimal():
            raise ValueError(f"the tag {label!r} is not of the BIO scheme: O, B-type, I-type, and at will E-type, S-type")

    def model_fault(self, config: Mapping[str, Any], outputs: int) -> str | None:
        """Also that the model has one output, as one that scores sentences."""
        if outputs == 1:
            return "the model has one output a token, as for extractive-summarisation; tags need one for each."
        return super().model_fault(config, outputs)

    def check_model_labels(self, labels: Sequence[str]) -> None:
        """Also raises ValueError for a label that is not of the scheme, so that its words would be of no entity."""
        super().check_model_labels(labels)
        strange = next((label for label in labels if not TAG.fullmatch(label)), None)
        if strange is not None:
            raise ValueError(f"the model's label {strange!r} is not of the BIO scheme: O, B-type, I-type, and at will E-, S-")

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises `words`, joined by spaces, or `text`; one or more windows a row, with offsets and words."""
        room = max_length - tokenizer.num_special_tokens_to_add(False)
        cut_into_windows(tokenizer, max_length, stride=max(0, min(max_length // 4, room - 1)))
        texts = [_text_of(row) for row in rows]
        encoded: list[Encoded] = []
        found = tokenizer.encode_batch(list(map(without_tabs, texts)))
        for number, (row, text, first) in enumerate(zip(rows, texts, found, strict=True)):
            encoded += _windows(text, row, number, first)
        return encoded

    def decode(
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Any]:
        """The tag of each word; of a word without a token, O."""
        return [
            [labels[best] if best is not None else OUTSIDE for best in _best(words)]
            for words in _logits_of_words(outputs, encoded, rows)
        ]

    def answer(
        self,
        outputs: Sequence[Outputs],
        encoded: Sequence[Encoded],
        rows: Sequence[Row],
        labels: Sequence[str],
        detail: Detail = PLAIN,
    ) -> list[Answer]:
        """The entities of each row; its words as well where `detail` asks for more."""
        groups = _windows_of_rows(encoded, len(rows))
        answers: list[Answer] = []
        for row, windows, words in zip(rows, groups, _logits_of_words(outputs, encoded, rows), strict=True):
            spans = _spans_of(row, windows)
            tagged = tuple(_tagged(_text_of(row), spans, words, labels, detail)) if detail.is_asked else None
            answers.append(Entities(tuple(_entities(_text_of(row), spans, words, labels)), tagged))
        return answers

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The model's names of the row's tags."""
        return [labels[indices[tag]] for tag in row["tags"]]

    def guesses(self, references: Sequence[Any]) -> list[Any]:
        """No entity in any row."""
        return [[OUTSIDE] * len(tags) for tags in references]

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The index of the tag at the first token of each word, IGNORED elsewhere; shape (tokens,)."""
        targets = np.full(len(encoded), IGNORED, dtype=np.int64)
        if row.get("tags") is None:
            return targets
        for word, token in _first_of_each(encoded).items():
            targets[token] = indices[row["tags"][word]]
        return targets

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence as a text."""
        return [{"text": sentence} for sentence in sentences]


def _text_of(row: Row) -> str:
    words = row.get("words")
    return str(row["text"]) if words is None else " ".join(words)


def _windows(text: str, row: Row, number: int, first: Encoding) -> list[Encoded]:
    """The windows of a row, each with the word that it goes on with."""
    windows = [first, *first.overflowing]
    words = row.get("words")
    index = WordIndex(whole_words(text, windows) if words is None else word_spans(words))
    encoded: list[Encoded] = []
    begun: set[int] = set()
    for window in windows:
        of_tokens = index.of_tokens(window)
        leading = next((word for word in of_tokens if word != NO_WORD), NO_WORD)
        continued = leading if leading in begun else NO_WORD
        begun.update(of_tokens)
        encoded.append(Encoded(tuple(window.ids), tuple(window.type_ids), number, tuple(window.offsets), of_tokens, continued))
    return encoded


def _windows_of_rows(encoded: Sequence[Encoded], rows: int) -> list[list[tuple[int, Encoded]]]:
    """For each row its windows, with their indices."""
    groups: list[list[tuple[int, Encoded]]] = [[] for _ in range(rows)]
    for index, window in enumerate(encoded):
        groups[window.row].append((index, window))
    return groups


def _logits_of_words(outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row]) -> list[list[Array | None]]:
    """For each row the logits of each word's first token; None for a word without a token."""
    found = []
    for row, windows in zip(rows, _windows_of_rows(encoded, len(rows)), strict=True):
        firsts = _first_tokens(windows)
        count = len(row["words"]) if row.get("words") is not None else max(firsts, default=NO_WORD) + 1
        chosen = [firsts.get(word) for word in range(count)]
        found.append([None if at is None else outputs[at[0]]["logits"][at[1]] for at in chosen])
    return found


def _first_tokens(windows: Sequence[tuple[int, Encoded]]) -> dict[int, tuple[int, int]]:
    """Word -> (window, token) of its first token, in the window where that token has more tokens on its poorer side."""
    best: dict[int, tuple[int, tuple[int, int]]] = {}
    for window, item in windows:
        for word, token in _first_of_each(item).items():
            surrounded = min(token, len(item) - 1 - token)
            if word not in best or surrounded > best[word][0]:
                best[word] = surrounded, (window, token)
    return {word: at for word, (_, at) in best.items()}


def _first_of_each(window: Encoded) -> dict[int, int]:
    """Word that begins in a window -> its first token there."""
    firsts: dict[int, int] = {}
    for token, word in enumerate(window.words):
        if word not in (NO_WORD, window.continued):
            firsts.setdefault(word, token)
    return firsts


def _best(words: Sequence[Array | None]) -> list[int | None]:
    return [None if logits is None else int(logits.argmax()) for logits in words]


def _tagged(
    text: str, spans: Mapping[int, Span], words: Sequence[Array | None], labels: Sequence[str], detail: Detail
) -> Iterator[TaggedWord]:
    for word, logits in enumerate(words):
        if logits is not None:
            start, end = spans[word]
            named = dict(zip(labels, map(float, logits), strict=True)) if detail.logits else None
            yield TaggedWord(text[start:end], start, end, ranked(labels, softmax(logits), detail.top_k), named)


def _entities(text: str, spans: Mapping[int, Span], words: Sequence[Array | None], labels: Sequence[str]) -> list[Entity]:
    tags = [labels[best] if best is not None else OUTSIDE for best in _best(words)]
    found = []
    for item in entities_of(tags):
        shares = [softmax(logits).max() for logits in words[item.first : item.last + 1] if logits is not None]
        start, end = spans[item.first][0], spans[item.last][1]
        found.append(Entity(item.type, text[start:end], start, end, float(np.mean(shares))))
    return found


def _spans_of(row: Row, windows: Sequence[tuple[int, Encoded]]) -> dict[int, Span]:
    """Characters of each word that has a token, or of each of the row's words."""
    if row.get("words") is not None:
        return dict(enumerate(word_spans(row["words"])))
    spans: dict[int, Span] = {}
    text = _text_of(row)
    for _, item in windows:
        for word, (start, end) in zip(item.words, item.offsets, strict=True):
            if word != NO_WORD:
                start = end - len(text[start:end].lstrip())
                known = spans.get(word, (start, end))
                spans[word] = min(start, known[0]), max(end, known[1])
    return spans
