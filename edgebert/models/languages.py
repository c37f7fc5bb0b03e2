"""The letters and the most frequent words of a language, by the frequency lists of the package wordfreq. No torch.

The lists (Speer 2022, 10.5281/zenodo.7199437) join Wikipedia, subtitles, news, books and the web. They are in lower case;
capitals are made here. They are folded: German "ß" is "ss" there, and the Greek final "ς" is "σ". Chinese is simplified.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from edgebert.core.packages import is_installed
from edgebert.errors import MissingPackage

PACKAGE = "wordfreq"
WORDS = 75_000
"""Words of a language whose pieces stay. With 50,000, German and English prose lost more than one token in a thousand."""
LETTERS = 0.9999
"""Share of the letters of running text that the letters of a language make up; the rest are those of loanwords."""


def unknown_languages(languages: Collection[str]) -> list[str]:
    """Those that wordfreq has no list of.

    Raises:
        MissingPackage: wordfreq is not installed.
    """
    known = known_languages()
    return [language for language in languages if language not in known]


@cache
def known_languages() -> tuple[str, ...]:
    """Codes of all languages that there is a list of, such as `de`, from a to z.

    Raises:
        MissingPackage: wordfreq is not installed.
    """
    return tuple(sorted(_wordfreq().available_languages("best")))


@cache
def words_of(language: str, count: int = WORDS) -> tuple[str, ...]:
    """The most frequent words, the most frequent first, each as it is written in lower case."""
    found = _wordfreq().top_n_list(language, count, wordlist="best")
    return tuple(dict.fromkeys(spelling for word in found for spelling in _unfolded(word, language)))


@cache
def letters_of(language: str) -> frozenset[str]:
    """The letters of running text but for the rarest, in lower case and as capitals; marks of letters are among them."""
    use: Counter[str] = Counter()
    for word, share in _wordfreq().get_frequency_dict(language, wordlist="best").items():
        for spelling in _unfolded(word, language)[-1:]:
            for letter in filter(is_letter, spelling):
                use[letter] += share
    left, kept = (1 - LETTERS) * use.total(), set[str]()
    for letter, share in sorted(use.items(), key=lambda entry: (entry[1], entry[0])):
        left -= share
        if left < 0:
            kept |= {letter, *_capitals(letter, language)}
    return frozenset(kept)


def texts_of(language: str) -> Iterator[str]:
    """A text a word and way of writing it, in which the word stands after a sign and after a space."""
    for word in words_of(language):
        for form in dict.fromkeys((word, f"{_capitals(word[0], language)}{word[1:]}", _capitals(word, language))):
            yield f"({form} {form}"


def is_letter(character: str) -> bool:
    """Whether words are made of it: a letter, or a mark of one."""
    return unicodedata.category(character)[0] in "LM"


def _capitals(text: str, language: str) -> str:
    """A text in capitals; in Turkish and Azerbaijani that of i is the dotted one."""
    return (text.replace("i", "İ") if language in ("tr", "az") else text).upper()


def _unfolded(word: str, language: str) -> tuple[str, ...]:
    """The word, and how it may have been written before it was folded."""
    if language == "de" and "ss" in word:
        return word, word.replace("ss", "ß")
    if language == "el" and word.endswith("σ"):
        return word, f"{word[:-1]}ς"
    return (word,)


def _wordfreq() -> Any:
    if not is_installed(PACKAGE):
        raise MissingPackage(PACKAGE, needed_for="Cutting a vocabulary to languages")
    import wordfreq

    return wordfreq
