"""Words of a text and the tokens that belong to them, by characters: for lists of words, and for plain text."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Encoding

NO_WORD = -1
Span = tuple[int, int]
"""Characters [start, end) of a text."""
ASCII_WORD = re.compile(r"[a-zA-Z0-9]+|[^\sa-zA-Z0-9]")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, ideographs and kana, which are not spaced: each is a word of its own, or one with those that it
shares a token with."""


def word_spans(words: Sequence[str]) -> list[Span]:
    """Characters of each word in the text that they make when joined by spaces."""
    spans: list[Span] = []
    start = 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def plain_words(text: str) -> list[Span]:
    """Words of a plain text as BERT's tokenizers cut it: a run without blanks and punctuation, a single sign of punctuation, a
    single character of a script without spaces."""
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


def whole_words(text: str, windows: Sequence[Encoding]) -> list[Span]:
    """The words of a plain text. Words that share a token, as ideographs may, are one."""
    words = WordIndex(plain_words(text))
    joined = {
        word
        for window in windows
        for start, end in window.offsets
        if end > start and NO_WORD not in (first := words.at(start), last := words.at(end - 1))
        for word in range(first + 1, last + 1)
    }
    whole: list[Span] = []
    for word, (start, end) in enumerate(words.spans):
        if word in joined:
            whole[-1] = whole[-1][0], end
        else:
            whole.append((start, end))
    return whole


class WordIndex:
    """Finds the word of a character, and the words of a window's tokens."""

    def __init__(self, spans: Sequence[Span]) -> None:
        """Takes the characters of each word, ascending and apart."""
        self.spans = spans
        self._starts = [start for start, _ in spans]
        self._beginning = {start: word for word, start in enumerate(self._starts)}

    def at(self, character: int) -> int:
        """Index of the word that holds a character; NO_WORD where none does."""
        index = bisect_right(self._starts, character) - 1
        return index if index >= 0 and character < self.spans[index][1] else NO_WORD

    def of_tokens(self, window: Encoding) -> tuple[int, ...]:
        """The word of each token, that of its last character, because its first may be the space before the word; a token that
        is nothing but that space belongs to the word after it."""
        words = []
        for (start, end), special in zip(window.offsets, window.special_tokens_mask, strict=True):
            word = self.at(end - 1) if end > start else NO_WORD
            words.append(NO_WORD if special else self._beginning.get(end, NO_WORD) if word == NO_WORD else word)
        return tuple(words)
