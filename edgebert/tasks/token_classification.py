"""Token classification: a text or a list of words, a tag for each word, entities with their characters.

The label of a word is that of its first token; other tokens have no target. A row that is too long for the model is read in
windows that overlap by a quarter, and a word that lies in two of them has its label from the one that shows more of its
surroundings.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from edgebert.tasks.base import IGNORED, Answer, Array, Column, Encoded, Output, Outputs, Row, Task, cut_at
from edgebert.tasks.metrics.entity_f1 import OUTSIDE, entities_of
from edgebert.tasks.probabilities import softmax

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Span = tuple[int, int]
"""Characters [start, end) of a text."""
TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)
NO_WORD = -1
ASCII_WORD = re.compile(r"[a-zA-Z0-9]+|[^\sa-zA-Z0-9]")
UNSPACED = re.compile("[\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
"""Ideographs and kana, which are not spaced: each is a word of its own."""


@dataclass(frozen=True)
class Entity:
    """A named entity: its type, its characters [start, end) in the text, and the mean probability of its words' tags."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Entities(Answer):
    """The entities of a text, in order. A list of words is the text of these words with a space between."""

    entities: tuple[Entity, ...]

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

    def check_model_labels(self, labels: Sequence[str]) -> None:
        """Raises ValueError for a label that is not of the scheme, so that its words would be of no entity."""
        if strange := next((label for label in labels if not TAG.fullmatch(label)), None):
            raise ValueError(f"the model's label {strange!r} is not of the BIO scheme: O, B-type, I-type, and at will E-, S-")

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises `words`, joined by spaces, or `text`; one or more windows a row, with offsets and words."""
        room = max_length - tokenizer.num_special_tokens_to_add(False)
        cut_at(tokenizer, max_length, stride=max(0, min(max_length // 4, room - 1)))
        texts = [_text_of(row) for row in rows]
        encoded: list[Encoded] = []
        for number, (row, text, first) in enumerate(zip(rows, texts, tokenizer.encode_batch(texts), strict=True)):
            windows = [first, *first.overflowing]
            spans = _word_spans(row["words"]) if row.get("words") is not None else _words_in(text, windows)
            encoded += [_window(window, number, spans) for window in windows]
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
        self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: Sequence[Row], labels: Sequence[str]
    ) -> list[Answer]:
        """The entities of each row."""
        groups = _windows_of_rows(encoded, len(rows))
        found = zip(rows, groups, _logits_of_words(outputs, encoded, rows), strict=True)
        return [Entities(tuple(_entities(row, windows, words, labels))) for row, windows, words in found]

    def reference(self, row: Row, indices: Mapping[str, int], labels: Sequence[str]) -> Any:
        """The model's names of the row's tags."""
        return [labels[indices[tag]] for tag in row["tags"]]

    def targets(self, encoded: Encoded, row: Row, indices: Mapping[str, int]) -> Array:
        """The index of the tag at the first token of each word, IGNORED elsewhere; shape (tokens,)."""
        targets = np.full(len(encoded), IGNORED, dtype=np.int64)
        if row.get("tags") is None:
            return targets
        spans = _word_spans(row["words"])
        firsts = _first_of_each(encoded.words)
        for number, (word, token) in enumerate(firsts.items()):
            if number or encoded.offsets[token][0] <= spans[word][0]:  # a window may begin within a word
                targets[token] = indices[row["tags"][word]]
        return targets

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence as a text."""
        return [{"text": sentence} for sentence in sentences]


def _text_of(row: Row) -> str:
    words = row.get("words")
    return str(row["text"]) if words is None else " ".join(words)


def _word_spans(words: Sequence[str]) -> list[Span]:
    """Characters of each word in the text that they make when joined by spaces."""
    spans: list[Span] = []
    start = 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def _words_in(text: str, windows: Sequence[Encoding]) -> list[Span]:
    """The words of a plain text. Words that share a token, as ideographs may, are one."""
    spans = plain_words(text)
    starts = [start for start, _ in spans]
    joined = set()
    for window in windows:
        for start, end in window.offsets:
            first, last = (_word_at(index, starts, spans) for index in (start, end - 1)) if end > start else (NO_WORD, NO_WORD)
            joined |= set(range(first + 1, last + 1)) if NO_WORD not in (first, last) else set()
    groups = groupby(range(len(spans)), key=lambda index: _leader(index, joined))
    whole = [list(group) for _, group in groups]
    return [(spans[group[0]][0], spans[group[-1]][1]) for group in whole]


def plain_words(text: str) -> list[Span]:
    """Words of a plain text as BERT's tokenizers cut it: a run without blanks and punctuation, a single sign of punctuation, a
    single ideograph."""
    if text.isascii():
        return [match.span() for match in ASCII_WORD.finditer(text)]
    spans: list[Span] = []
    open_word = False
    for index, character in enumerate(text):
        if character.isspace():
            open_word = False
            continue
        joins = not (_is_punctuation(character) or UNSPACED.match(character))
        if joins and open_word:
            spans[-1] = spans[-1][0], index + 1
        else:
            spans.append((index, index + 1))
        open_word = joins
    return spans


def _is_punctuation(character: str) -> bool:
    """Whether BERT cuts a word at it: every sign of ASCII, `$` and `+` too, and Unicode's punctuation."""
    return unicodedata.category(character)[0] == "P" or (character.isascii() and not character.isalnum())


def _leader(index: int, joined: set[int]) -> int:
    """Index of the first of the words that are one with this word."""
    while index in joined:
        index -= 1
    return index


def _word_at(character: int, starts: Sequence[int], spans: Sequence[Span]) -> int:
    """Index of the word that holds a character; NO_WORD where none does."""
    index = bisect_right(starts, character) - 1
    return index if index >= 0 and character < spans[index][1] else NO_WORD


def _window(window: Encoding, row: int, spans: Sequence[Span]) -> Encoded:
    """One window. A token belongs to the word of its last character, because its first may be the space before the word; one
    that is nothing but that space belongs to the word after it."""
    starts = [start for start, _ in spans]
    following = {start: word for word, start in enumerate(starts)}
    words = []
    for (start, end), special in zip(window.offsets, window.special_tokens_mask, strict=True):
        word = _word_at(end - 1, starts, spans) if end > start else NO_WORD
        words.append(NO_WORD if special else following.get(end, NO_WORD) if word == NO_WORD else word)
    return Encoded(tuple(window.ids), tuple(window.type_ids), row, tuple(window.offsets), tuple(words))


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
    best: dict[int, tuple[tuple[int, int], tuple[int, int]]] = {}
    for window, item in windows:
        for word, token in _first_of_each(item.words).items():
            rank = item.offsets[token][0], -min(token, len(item) - 1 - token)
            if word not in best or rank < best[word][0]:
                best[word] = rank, (window, token)
    return {word: at for word, (_, at) in best.items()}


def _first_of_each(words: Sequence[int]) -> dict[int, int]:
    """Word -> its first token in a window."""
    firsts: dict[int, int] = {}
    for token, word in enumerate(words):
        if word != NO_WORD:
            firsts.setdefault(word, token)
    return firsts


def _best(words: Sequence[Array | None]) -> list[int | None]:
    return [None if logits is None else int(logits.argmax()) for logits in words]


def _entities(
    row: Row, windows: Sequence[tuple[int, Encoded]], words: Sequence[Array | None], labels: Sequence[str]
) -> list[Entity]:
    text, spans = _text_of(row), _spans_of(row, windows)
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
        return dict(enumerate(_word_spans(row["words"])))
    spans: dict[int, Span] = {}
    text = _text_of(row)
    for _, item in windows:
        for word, (start, end) in zip(item.words, item.offsets, strict=True):
            if word != NO_WORD:
                start = end - len(text[start:end].lstrip())
                known = spans.get(word, (start, end))
                spans[word] = min(start, known[0]), max(end, known[1])
    return spans
