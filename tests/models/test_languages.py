"""Letters, words and pieces of languages: what a vocabulary keeps that is cut to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_words import use_fake_words
from tiny_families import tiny_folder
from tokenizers import Tokenizer

from edgebert.errors import MissingPackage
from edgebert.models import languages
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.language_pieces import language_pieces, spelling_pieces
from edgebert.models.languages import known_languages, letters_of, texts_of, unknown_languages, words_of
from edgebert.models.tokenizer_files import rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, read_tokenizer, special_tokens

SPECIAL = {"unk_token": "<unk>"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lists of a few words in the place of wordfreq's."""
    yield from use_fake_words(monkeypatch)


def unigram(*pieces: str) -> dict[str, object]:
    return {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], *([piece, -1.0] for piece in pieces)]}}


def test_letters_are_those_in_use_with_their_capitals_and_marks(fake: None) -> None:
    assert {"f", "F"} <= letters_of("en") and "é" not in letters_of("en")
    assert {"ß", "S", "Ö"} <= letters_of("de")
    assert "\u0947" in letters_of("hi")  # a vowel sign


def test_words_are_tried_as_they_may_be_written(fake: None) -> None:
    assert words_of("de") == ("suppe", "strasse", "straße", "öl")
    assert words_of("en", 2) == ("the", "film")
    assert list(texts_of("ar")) == ["(كتاب كتاب"]
    assert list(texts_of("en"))[:3] == ["(the the", "(The The", "(THE THE"]


def test_unknown_languages_are_named(fake: None) -> None:
    assert unknown_languages(["de", "xx", "en"]) == ["xx"]


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "is_installed", lambda name: False)
    with pytest.raises(MissingPackage, match="needs the package wordfreq, which is not installed"):
        languages.known_languages.__wrapped__()


def test_the_real_lists_have_words_and_letters() -> None:
    assert {"ar", "de", "en", "es", "zh"} <= {*known_languages()}
    assert "και" in words_of("el") and any(word.endswith("ς") for word in words_of("el"))
    assert {"ω", "Ω", "ή"} <= letters_of("el") and "ж" not in letters_of("el")


def test_short_pieces_numbers_and_signs_stay_and_no_others() -> None:
    kept = ["▁su", "fil", "▁(", "1990", "٣", '",', "▁", "→"]
    cut = ["film", "жы", "éa", "३", "▁мир", "\u1100"]
    found = spelling_pieces(unigram(*kept, *cut), frozenset("sufilmكت"))
    assert found & {*kept, *cut} == set(kept)


def test_pieces_of_other_kinds_are_read_as_text() -> None:
    wordpiece = {"model": {"type": "WordPiece", "vocab": {"##su": 0, "su": 1, "##supp": 2}, "continuing_subword_prefix": "##"}}
    assert spelling_pieces(wordpiece, frozenset("su")) == {"##su", "su"}
    vocab = {"Ġsu": 0, "Ã¶l": 1, "Ã": 2, "Ġsupp": 3, "Ġ12": 4, "Ð¼Ð": 5, "<pad>": 6}
    bytewise = {"pre_tokenizer": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": vocab, "merges": []}}
    assert spelling_pieces(bytewise, frozenset("suöl")) == {"Ġsu", "Ã¶l", "Ġ12"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_texts_of_the_languages_read_as_before(family: Family, fake: None, tmp_path: Path) -> None:
    source = tiny_folder(family.model_type, "Model", tmp_path / "source")
    tokenizer = read_tokenizer(source)
    pieces = language_pieces(source, tokenizer, ("en", "de"))
    kept = choose_vocabulary(tokenizer, {}, 1, special=special_tokens(source), also=pieces)
    rewrite_tokenizer(source, tmp_path / "cut", kept)
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (source, tmp_path / "cut"))
    assert after.get_vocab_size() < before.get_vocab_size()
    for text in ("(soup film", "the Film (The SOUP", "Suppe (öl"):
        assert after.encode(text).tokens == before.encode(text).tokens
    assert json.loads((tmp_path / "cut" / "tokenizer.json").read_text())["model"] != tokenizer["model"]


def test_turkish_capitals_are_dotted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "words_of", lambda language: ("istanbul",))
    assert [text.split()[1] for text in languages.texts_of("tr")] == ["istanbul", "İstanbul", "İSTANBUL"]
    assert [text.split()[1] for text in languages.texts_of("de")] == ["istanbul", "Istanbul", "ISTANBUL"]
