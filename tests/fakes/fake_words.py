"""FakeWords: lists of words in the place of wordfreq's, for languages of a few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from edgebert.models import languages

LISTS: Mapping[str, Mapping[str, float]] = {
    "en": {"the": 0.5, "film": 0.3, "soup": 0.19999, "café": 0.00001},
    "de": {"suppe": 0.5, "strasse": 0.3, "öl": 0.2},
    "hi": {"नमस्ते": 1.0},
    "ar": {"كتاب": 1.0},
}


class FakeWords:
    """What `edgebert.models.languages` asks of wordfreq."""

    def available_languages(self, wordlist: str) -> dict[str, str]:
        """Language -> file."""
        return {language: f"{wordlist}_{language}" for language in LISTS}

    def top_n_list(self, language: str, count: int, wordlist: str) -> list[str]:
        """The words, the most frequent first."""
        return sorted(LISTS[language], key=LISTS[language].__getitem__, reverse=True)[:count]

    def get_frequency_dict(self, language: str, wordlist: str) -> Mapping[str, float]:
        """Word -> share of all words."""
        return LISTS[language]


def use_fake_words(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts the fake in the place of wordfreq, for the time of a fixture."""
    cached = (languages.known_languages, languages.words_of, languages.letters_of)
    patch.setattr(languages, "_wordfreq", FakeWords)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()
