"""Tokens that Transformers makes and for which the model's embedding table has no row, so that it gives no answer."""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.errors import SourceError
from edgebert.models.folder import ModelFolder
from edgebert.models.hard_texts import ORDINARY, PAIRS, SINGLE, Texts, shortened
from edgebert.models.token_rows import SAVE, rows_of
from edgebert.models.transformers_tokenizer import UNCUT, TransformersTokenizer


def check_rows(theirs: TransformersTokenizer, model: ModelFolder) -> None:
    """Checks that Transformers' ids of hard texts and pairs have rows; without them the model gives no answer to compare with.

    An added token without a row is no fault of the texts that do not hold it.

    Raises:
        SourceError: an id of an ordinary text has no row, or one that stands around a text or for unknown letters.
    """
    rows = rows_of(model.config)
    alone: list[Texts] = [(text, None) for text in SINGLE]
    for texts in (alone, PAIRS):
        for text, found in zip(texts, theirs.encode(texts, UNCUT), strict=True):
            _check_text(text, found.ids, theirs, model, rows)


def _check_text(text: Texts, ids: Sequence[int], theirs: TransformersTokenizer, model: ModelFolder, rows: float) -> None:
    letters = " ".join(part for part in text if part).casefold()
    for index in dict.fromkeys(index for index in ids if index >= rows):
        token = str(theirs.tokenizer.convert_ids_to_tokens(index))
        if text[0] == ORDINARY or token.casefold() not in letters:
            what = "" if text[1] is None else "the pair that starts with "
            raise SourceError(
                f"{model.path}: Transformers gives {what}{shortened(text[0])} the token {shortened(token)} with id {index}, "
                f"but the model's embedding table has {rows} rows.",
                hint=SAVE,
            )


def added_without_row(theirs: TransformersTokenizer, model: ModelFolder) -> list[str]:
    """Names of Transformers' added tokens for which the model has no row."""
    rows = rows_of(model.config)
    return [token for token, index in theirs.tokenizer.get_added_vocab().items() if index >= rows]
