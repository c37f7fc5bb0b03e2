"""The pieces of a vocabulary that texts of some languages are made of. No torch.

Kept are, besides single characters and what the tokenizer needs:

- the pieces of the most frequent words, in lower case, capitalised and in capitals, after a space and after a sign;
- pieces of one to three letters of the languages, of which other words are spelled;
- numbers and signs, which no list of words has: digits and signs of Latin texts, and of the languages' own scripts.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebert.models.languages import is_letter, letters_of, texts_of
from edgebert.models.tokenizer_limits import open_tokenizer
from edgebert.models.vocabulary import token_ids, vocabulary_kind

SHORT = 3
"""Letters of a piece that is kept whatever words it is of."""
BLOCK = 10_000
"""Texts that are tokenised at once."""
SIGNS = ((0x20, 0x24F), (0x2000, 0x2BFF), (0x3000, 0x303F))
"""(first, last) of Latin letters with their signs, of punctuation, currencies and symbols, and of CJK punctuation."""


def language_pieces(folder: Path, tokenizer: Mapping[str, Any], languages: Collection[str]) -> set[str]:
    """The pieces to keep for texts of the languages.

    Args:
        folder: with tokenizer.json.
        tokenizer: its content, the result of `edgebert.models.vocabulary.read_tokenizer`.
        languages: codes that `edgebert.models.languages.known_languages` has.

    Raises:
        MissingPackage: wordfreq is not installed.
    """
    letters = frozenset().union(*(letters_of(language) for language in languages))
    texts = itertools.chain.from_iterable(texts_of(language) for language in languages)
    return spelling_pieces(tokenizer, letters) | pieces_of(folder / "tokenizer.json", texts)


def pieces_of(file: Path, texts: Iterable[str]) -> set[str]:
    """The pieces that a tokenizer.json makes of texts."""
    opened, seen, waiting = open_tokenizer(file), set[int](), iter(texts)
    opened.no_truncation()
    opened.no_padding()
    while block := list(itertools.islice(waiting, BLOCK)):
        seen.update(*(found.ids for found in opened.encode_batch(block, add_special_tokens=False)))
    return {str(opened.id_to_token(index)) for index in seen}


def spelling_pieces(tokenizer: Mapping[str, Any], letters: Collection[str]) -> set[str]:
    """Pieces of signs alone, and those of one to three characters with letters of the languages."""
    scripts = {_script(letter) for letter in letters}
    kept = set[str]()
    for piece, text in _readable(tokenizer):
        word = [character for character in text if is_letter(character)]
        signs = (character for character in text if not is_letter(character))
        short = len(text) <= SHORT and all(letter in letters for letter in word)
        if (short or not word) and all(_is_sign(character, scripts) for character in signs):
            kept.add(piece)
    return kept


def _readable(tokenizer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(piece, the characters of a text that it stands for, spaces around it left out); without pieces of half a character."""
    kind, bytewise = vocabulary_kind(tokenizer), _is_bytewise(tokenizer)
    read: Callable[[str], str] = _of_bytes if bytewise else str
    prefix = str(tokenizer["model"].get("continuing_subword_prefix") or "") if kind.name != "Unigram" else ""
    for piece in token_ids(tokenizer):
        text = read(piece.removeprefix(prefix)).replace("\u2581", " ").strip()
        if "\ufffd" not in text:
            yield piece, text


def _is_bytewise(tokenizer: Mapping[str, Any]) -> bool:
    """Whether pieces are written in the letters that stand for bytes, as those of byte-level BPE are."""
    parts = [tokenizer.get("pre_tokenizer") or {}, tokenizer.get("decoder") or {}]
    inner = [step for part in parts for name in ("pretokenizers", "decoders") for step in part.get(name, ())]
    return any(part.get("type") == "ByteLevel" for part in (*parts, *inner))


def _byte_letters() -> dict[str, int]:
    """Letter of byte-level BPE -> byte: printable Latin-1 stands for itself, the others for letters from U+0100 on (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(0x100) if byte not in printable)
    return {**{chr(byte): byte for byte in printable}, **{chr(0x100 + place): byte for place, byte in enumerate(others)}}


BYTE_LETTERS = _byte_letters()


def _of_bytes(piece: str) -> str:
    """The characters of a piece of bytes; U+FFFD where a character is not whole, and special tokens as they are."""
    if any(letter not in BYTE_LETTERS for letter in piece):
        return piece
    return bytes(BYTE_LETTERS[letter] for letter in piece).decode(errors="replace")


def _script(character: str) -> str:
    """The first word of a character's name, which is that of its script: LATIN, ARABIC, DEVANAGARI."""
    return unicodedata.name(character, "").partition(" ")[0].partition("-")[0]


def _is_sign(character: str, scripts: Collection[str]) -> bool:
    """Whether texts in the scripts have the character, which is no letter."""
    return any(first <= ord(character) <= last for first, last in SIGNS) or _script(character) in scripts
