"""The rows of a model's embedding table: every token id that a text is given has one. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgebert.errors import SourceError
from edgebert.models.folder import ModelFolder
from edgebert.models.panics import first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAVE = "Save the tokenizer there that the model was trained with: tokenizer.save_pretrained(...)"


def rows_of(config: Mapping[str, Any]) -> float:
    """Rows of the embedding table by a config.json; infinity where it does not say."""
    return config.get("vocab_size") or math.inf


def check_ids(tokenizer: Tokenizer, model: ModelFolder) -> None:
    """Checks that the model's embedding table has a row for every id: of the vocabulary, of what is put around a text and a
    pair, and of the padding.

    Raises:
        SourceError: an id has no row.
    """
    rows, own = rows_of(model.config), tokenizer.truncation
    tokenizer.no_padding()
    tokenizer.no_truncation()
    around = tokenizer.encode("a", "b")
    if own is not None:
        tokenizer.enable_truncation(**own)
    largest = max([*tokenizer.get_vocab().values(), *around.ids], default=0)
    if largest >= rows:
        raise unusable_tokenizer(model, f"has token ids up to {largest}, but the model's embedding table has {rows} rows")
    if (padding := model.config.get("pad_token_id") or 0) >= rows:
        raise SourceError(
            f"{model.path / 'config.json'}: pad_token_id is {padding}, but the model's embedding table has {rows} rows.",
            hint="Name the id of the tokenizer's padding token.",
        )


def unusable_tokenizer(model: ModelFolder, why: str) -> SourceError:
    """The error for a tokenizer that cannot be used with the model."""
    return SourceError(f"The tokenizer in {model.path} {first_line(why)}.", hint=SAVE)
