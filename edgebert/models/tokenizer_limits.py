"""What a tokenizer.json may ask for, checked before the library tokenizers builds it: work and memory stay bounded by the text.

The library builds what the file says: a chain of thirty replacements that each double a text makes a gigabyte of one letter,
padding to 10^10 tokens is allocated, and a bad regular expression ends in a Rust panic that writes to standard error. No torch.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.models.json_file import read_json
from edgebert.models.panics import without_panic

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MOST_STEPS = 64
"""Normalisers, pre-tokenizers or post-processors of a chain; tokenizers in use have ten."""
MOST_GROWTH = 100
"""Times that all steps may lengthen a text together. SentencePiece's NFKC makes 18 letters of one, byte-level BPE four."""
MOST_PIECES = 64
"""Special tokens and texts of a template."""
MOST_PADDING = 1 << 16
"""Tokens that padding may be made for."""
LONGEST_WORD = 1000
"""Letters of a word that WordPiece looks for pieces in, at a cost that is quadratic; 100 is usual."""
PARTS = ("normalizer", "pre_tokenizer", "post_processor")
CHAINS = ("normalizers", "pretokenizers", "processors")
"""Where each part's `Sequence` holds its steps."""


def open_tokenizer(file: Path) -> Tokenizer:
    """Opens a tokenizer.json that keeps to the limits.

    Raises:
        SourceError: the file is no JSON object.
        ValueError: the tokenizer asks for too much, or cannot be built.
    """
    from tokenizers import Tokenizer

    check_limits(read_json(file))
    return without_panic(lambda: Tokenizer.from_file(str(file)))


def check_limits(content: Mapping[str, Any]) -> None:
    """Checks the content of a tokenizer.json.

    Raises:
        ValueError: it asks for work or memory out of proportion to a text.
    """
    steps = {part: list(_steps(content.get(part))) for part in PARTS}
    for part, chain in steps.items():
        if len(chain) > MOST_STEPS:
            raise ValueError(f"its {part} chains {len(chain)} steps; {MOST_STEPS} are allowed")
    if math.prod(growth(step) for chain in steps.values() for step in chain) > MOST_GROWTH:
        raise ValueError(f"its steps lengthen a text more than {MOST_GROWTH} times")
    if any(_pieces(step) > MOST_PIECES for step in steps["post_processor"]):
        raise ValueError(f"it adds more than {MOST_PIECES} special tokens to a text")
    _check_padding(content.get("padding"))
    longest = _mapping(content.get("model")).get("max_input_chars_per_word", 0)
    if type(longest) is not int or longest > LONGEST_WORD:
        raise ValueError(f"it looks for pieces in words of {str(longest)[:40]} letters; {LONGEST_WORD} are allowed")


def _steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of a part, those of chains inside chains included."""
    waiting = [part]
    while waiting:
        step = _mapping(waiting.pop())
        inner = [entry for name in CHAINS if isinstance(step.get(name), list) for entry in step[name]]
        waiting += reversed(inner)
        if step and not inner:
            yield step


def _mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object; an empty one where it is something else, which the library refuses by itself."""
    return value if isinstance(value, dict) else {}


def growth(step: Mapping[str, Any]) -> float:
    """How many times as long a step of a tokenizer can make a text, at most; at least 1."""
    kind = step.get("type")
    if kind == "Replace":
        return max(1.0, _replaced(str(step.get("content") or ""), _mapping(step.get("pattern"))))
    if kind == "Precompiled":
        return max(1.0, _longest_piece(step.get("precompiled_charsmap")))
    if kind == "Prepend":
        return float(max(1, len(str(step.get("prepend") or ""))))
    if kind == "ByteLevel":  # a letter for each byte of UTF-8
        return 4.0
    return float(max(1, _copies(step)))


def _replaced(content: str, pattern: Mapping[str, Any]) -> float:
    """Letters that a replacement leaves of one. What matches nothing matches between all letters."""
    text = pattern.get("String")
    if isinstance(text, str):
        return len(content) / len(text) if text else len(content) + 1
    try:
        between = re.compile(str(pattern.get("Regex"))).match("") is not None
    except (re.error, RecursionError, OverflowError):  # it is of another dialect
        between = True
    return len(content) + between


def _longest_piece(charsmap: Any) -> float:
    """Letters of the longest replacement in SentencePiece's map: 4 bytes of size, a trie of that size, texts that end in 0."""
    try:
        data = base64.b64decode(charsmap or "")
    except (ValueError, TypeError):
        return 1  # the library refuses it
    texts = data[4 + int.from_bytes(data[:4], "little") :]
    return max((len(text.decode(errors="replace")) for text in texts.split(b"\0")), default=1)


def _template(step: Mapping[str, Any]) -> Iterator[list[Mapping[str, Any]]]:
    """The pieces of a template, for single texts and for pairs."""
    for name in ("single", "pair"):
        if isinstance(step.get(name), list):
            yield [_mapping(piece) for piece in step[name]]


def _copies(step: Mapping[str, Any]) -> int:
    """How often a template repeats a text."""
    named = [[str(piece["Sequence"])[:40] for piece in pieces if "Sequence" in piece] for pieces in _template(step)]
    return max((max(Counter(names).values(), default=1) for names in named), default=1)


def _pieces(step: Mapping[str, Any]) -> int:
    """Most special tokens that a template adds, or that one of its names stands for."""
    special = _mapping(step.get("special_tokens")).values()
    counts = [len(ids) for entry in special if isinstance(ids := _mapping(entry).get("ids"), list)]
    return max([*map(len, _template(step)), *counts], default=0)


def _check_padding(padding: Any) -> None:
    fixed = _mapping(_mapping(padding).get("strategy")).get("Fixed")
    for value in (fixed, _mapping(padding).get("pad_to_multiple_of")):
        if value is not None and (type(value) is not int or not 1 <= value <= MOST_PADDING):
            raise ValueError(f"it pads to {str(value)[:40]} tokens; 1 to {MOST_PADDING} are allowed")
