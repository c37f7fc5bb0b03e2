"""Texts on which tokenizers differ: a short list for every model, and a long one of every piece and kind of character."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Texts = tuple[str, str | None]
"""A text, and the second of a pair or None."""
ORDINARY = "The film was good, and the soup was not."
"""A text that every tokenizer has to make tokens of."""
SINGLE = (
    ORDINARY,
    "a",
    "ALL CAPITALS, Some Capitals, mIxEd",
    "Café naïve Ångström Straße İstanbul ΣΊΣΥΦΟΣ ﬁne №5 ½ ²",
    "cafe\u0301 e\u0323\u0302 한글 \u1112\u1161\u11ab",
    "東京タワー 中文 学習 こんにちは 𠀀 ｆｕｌｌ　ｗｉｄｔｈ",
    "Привет мир नमस्ते สวัสดี مرحبا שלום",
    "😀👍🏽👩‍👩‍👧 ✈️ \u2603 🇩🇪",
    "  two  spaces \u00a0nbsp\u2009thin\u3000wide  ",
    "line\nfeed\r\nreturn\x0bvertical\x0cform\u2028separator\x85next",
    "zero\u200bwidth soft\u00adhyphen \ufeffmark \u200cjoin\u200d \u202eright",
    "control\x01\x07 char\x7f \ufffd \x00nul",
    "don't I'm we'll it's o'clock 'quoted' “curly” ‘quotes’",
    "e-mail: a.b@c.de, https://x.org/y?z=1#k; $5.00 + 3% = #1 ^_^ `code` ~ | \\ <b>",
    "1234567890 3.14 1,000,000 0x1F 10^9",
    "x" * 120 + " " + "un" * 60,
    " ",
    "\u200b",
    "...",
    "!?",
    "##ing ## Ġthe ▁the @@",
)
PAIRS: tuple[Texts, ...] = (
    (ORDINARY, "It was an awful lamp"),
    ("Café", "naïve"),
    ("a", "b"),
    ("a", "x " * 30),
    ("x " * 30, "東京"),
)
LONG = tuple(" ".join(f"{word}{number}" for number in range(120)) for word in ("good film ", "Größe, 東京 ", "x"))
"""Texts longer than a short limit; where they are cut shows the side of truncation."""
AROUND = ("a TOKEN b", "aTOKENb", "TOKEN", " TOKEN, the TOKENTOKEN film", " TOKEN\n ")
MOST_SPECIAL = 100
PIECES_PER_TEXT = 32
SAMPLED_SCRIPTS = (
    (0x3400, 0x9FFF, 64),
    (0xAC00, 0xD7A3, 64),
    (0xA000, 0xA4CF, 16),
    (0x10000, 0x1F2FF, 64),
    (0x20000, 0x3FFFF, 997),
)
"""(first, last, step) of blocks whose characters a tokenizer treats alike, so that some of each are enough."""


def short_list(special: Iterable[str]) -> list[Texts]:
    """Hard texts and pairs, with a tokenizer's added and special tokens inside a text, some of them where there are many."""
    every = sorted(set(special))
    some = every[:: len(every) // MOST_SPECIAL + 1]
    inside = [form.replace("TOKEN", token) for token in some for form in AROUND]
    inside += [changed for token in some for changed in (token.lower(), token.upper(), token[:-1])]
    return [*((text, None) for text in (*SINGLE, *inside, *LONG)), *PAIRS, *((text, ORDINARY) for text in LONG)]


def long_list(tokenizer: Tokenizer) -> Iterator[list[str]]:
    """Blocks of texts with every piece of a vocabulary, and with characters of every block of Unicode."""
    ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    pieces = tokenizer.decode_batch([[index] for index in ids], skip_special_tokens=False)
    yield from _joined([piece for piece in pieces if piece.strip()])
    yield from _joined([f"a{character}b {character}" for character in _characters()])


def _joined(pieces: Sequence[str]) -> Iterator[list[str]]:
    texts = [" ".join(pieces[start : start + PIECES_PER_TEXT]) for start in range(0, len(pieces), PIECES_PER_TEXT)]
    for start in range(0, len(texts), 1000):
        yield texts[start : start + 1000]


def _characters() -> Iterator[str]:
    skipped = {point for first, last, step in SAMPLED_SCRIPTS for point in range(first, last + 1) if (point - first) % step}
    for point in range(1, 0x40000):
        if point not in skipped and unicodedata.category(chr(point)) not in ("Cn", "Co", "Cs"):
            yield chr(point)


def shortened(text: str, most: int = 60) -> str:
    """A text for a message: escaped, and cut in the middle where it is long."""
    shown = ascii(text) if not text.isprintable() else repr(text)
    return shown if len(shown) <= most else f"{shown[: most // 2]} ... {shown[-most // 3 :]}"
