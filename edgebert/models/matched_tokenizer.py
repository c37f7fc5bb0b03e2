"""Makes a model's tokenizer the one that Transformers makes of its folder, or refuses it with the first text that differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebert.errors import SourceError
from edgebert.models.folder import ModelFolder
from edgebert.models.hard_texts import ORDINARY, SINGLE, shortened
from edgebert.models.missing_rows import added_without_row, check_rows
from edgebert.models.panics import library_errors, without_panic
from edgebert.models.token_rows import SAVE, check_ids
from edgebert.models.tokenizer_limits import check_limits
from edgebert.models.transformers_tokenizer import ParsedTokenizer, TransformersTokenizer, first_difference

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAMED = 5
"""Tokens that a note names."""


@dataclass(frozen=True)
class MatchedTokenizer:
    """The outcome of a comparison with Transformers."""

    written: str | None
    """Content of the tokenizer.json to use instead of the model's own; None where that makes the same tokens."""
    notes: tuple[str, ...]
    """What the user should know, a line each."""


def match_tokenizer(ours: Tokenizer, model: ModelFolder) -> MatchedTokenizer:
    """Compares a tokenizer.json with what Transformers makes of the model's folder.

    Args:
        ours: the tokenizer.json that the model has, or that was made from its vocabulary.

    Raises:
        SourceError: Transformers cannot read the folder, or makes tokens that no tokenizer.json makes, or none of plain text.
    """
    theirs = _transformers_tokenizer(model)
    try:
        with library_errors():
            return _compared(theirs, ours, model)
    except ValueError as error:
        raise SourceError(
            f"The tokenizer in {model.path} fails on texts, here or in Transformers: {error}.", hint=SAVE
        ) from None


def _compared(theirs: TransformersTokenizer, ours: Tokenizer, model: ModelFolder) -> MatchedTokenizer:
    check_rows(theirs, model)
    found = first_difference(theirs, ours, model)
    if found is None:
        return MatchedTokenizer(None, tuple(_notes(theirs, ours, model)))
    content = theirs.parsed()
    written = _loaded(content, model)
    if left := first_difference(theirs, written, model):
        raise SourceError(
            f"{model.path}: Transformers makes tokens that a tokenizer.json, which is all that devices have, cannot: {left}.",
            hint=SAVE,
        )
    why = f"the tokenizer was written anew, for tokenizer.json alone makes other tokens than Transformers: {found}"
    return MatchedTokenizer(_text_of(content), (why, *_notes(theirs, written, model)))


def _transformers_tokenizer(model: ModelFolder) -> TransformersTokenizer:
    try:
        theirs = without_panic(lambda: TransformersTokenizer(model))
    except Exception as error:  # Transformers raises many kinds
        first = (str(error).strip().splitlines() or [error.__class__.__name__])[0]
        raise SourceError(f"Transformers cannot read the tokenizer in {model.path}: {first.rstrip('.')}.", hint=SAVE) from error
    if not theirs.is_portable:
        name = type(theirs.tokenizer).__name__
        raise SourceError(
            f"The tokenizer in {model.path} is a {name}, which Transformers runs in Python; devices have no Transformers.",
            hint="Where it has a fast form, save that there; it has a tokenizer.json.",
        )
    return theirs


def _loaded(content: ParsedTokenizer, model: ModelFolder) -> Tokenizer:
    """The tokenizer of what is written, which keeps to the limits of every tokenizer.json.

    Raises:
        ValueError: it asks for too much.
        SourceError: an id of it has no row.
    """
    from tokenizers import Tokenizer

    check_limits(content)
    written = Tokenizer.from_str(_text_of(content))
    check_ids(written, model)
    return written


def _text_of(content: ParsedTokenizer) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _notes(theirs: TransformersTokenizer, tokenizer: Tokenizer, model: ModelFolder) -> Iterator[str]:
    if not tokenizer.encode(ORDINARY).ids:
        raise SourceError(
            f"The tokenizer in {model.path} makes no token of {ORDINARY!r}, so that the model has nothing to read.", hint=SAVE
        )
    nothing = [text for text, found in zip(SINGLE, tokenizer.encode_batch(list(SINGLE)), strict=True) if not found.ids]
    if nothing:
        yield f"the tokenizer makes no token of some texts, such as {shortened(nothing[0])}; they are refused where they come"
    if without := added_without_row(theirs, model):
        named = ", ".join(map(shortened, without[:NAMED])) + (" and others" if len(without) > NAMED else "")
        yield (
            f"Transformers has added tokens for which the model's embedding table has no row: {named}; it gives no answer to a "
            "text with one, and here they are letters like others"
        )
    if theirs.tokenizer.padding_side == "left":
        yield (
            "the tokenizer pads on the left, where heads read the first token and BERT counts positions, so that an answer "
            "would depend on the texts beside it; here texts are padded on the right: each has the answer that Transformers "
            "gives to it alone"
        )
