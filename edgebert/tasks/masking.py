"""masking: which tokens of a text a masked language model has to guess."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgebert.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPELLINGS = ("[MASK]", "<mask>")
"""How tokenizers spell the mask token. A text may have either, whatever the model's own."""
SHARE = 0.15
"""Share of a text's tokens that are masked, as in BERT's training (Devlin et al. 2019, arXiv 1810.04805)."""


def has_mask(text: str) -> bool:
    """Whether a text holds a mask, in one of its spellings."""
    return any(spelling in text for spelling in SPELLINGS)


def mask_of(tokenizer: Tokenizer) -> tuple[str, int]:
    """The tokenizer's mask token, and its id.

    Raises:
        InputError: it has none.
    """
    for spelling in SPELLINGS:
        if (number := tokenizer.token_to_id(spelling)) is not None:
            return spelling, number
    hint = "Name a masked language model whose tokenizer.json has that token."
    raise InputError(f"The model's tokenizer has no mask token ({' or '.join(SPELLINGS)}).", hint=hint)


def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of the tokens that stand for no text: the unknown token too."""
    return frozenset(number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special)


def drawn(text: str, ids: Sequence[int], special: frozenset[int]) -> tuple[int, ...]:
    """The tokens of a text that are masked: SHARE of those that are not special, at least one, drawn by the text itself, so
    that every model and every run has the same. None where all are special.

    Args:
        ids: ids of the text's tokens.
    """
    open_tokens = [index for index, number in enumerate(ids) if number not in special]
    if not open_tokens:
        return ()
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    count = max(1, round(SHARE * len(open_tokens)))
    chosen = np.random.default_rng(int.from_bytes(digest[:8], "big")).choice(len(open_tokens), count, replace=False)
    return tuple(sorted(open_tokens[index] for index in chosen))
