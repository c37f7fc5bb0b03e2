"""VocabularyLoss: the tokens that were removed from a model's vocabulary, and what held-out texts lose by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from edgebert.core.strict import Frozen


class VocabularyLoss(Frozen):
    """Facts of the last cut of a vocabulary, counted on the rows of data.eval. Shares are 0 to 1."""

    tokens: int = Field(ge=1)
    """Tokens that stay."""
    tokens_before: int = Field(ge=1)
    held_out_tokens: int = Field(ge=0)
    """Tokens of the texts before the cut, without special ones."""
    held_out_lost_share: float = Field(ge=0, le=1)
    """Share of them whose rows were removed."""
    held_out_unknown_share_before: float = Field(ge=0, le=1)
    held_out_unknown_share: float = Field(ge=0, le=1)
    """Share of the tokens after the cut that are the unknown token."""
    held_out_growth: float = Field(ge=0)
    """Tokens after the cut over those before it."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> VocabularyLoss | None:
        """From the facts of a prune stage; None where it cut no vocabulary."""
        found = {name: facts.get(name) for name in cls.model_fields}
        return None if None in found.values() else cls.model_validate(found)

    def sentence(self) -> str:
        """One line for people."""
        removed = 1 - self.tokens / self.tokens_before
        return (
            f"vocabulary: {self.tokens:,} of {self.tokens_before:,} tokens stay, {removed:.1%} go; "
            f"of the {self.held_out_tokens:,} tokens of data.eval {self.held_out_lost_share:.2%} are lost, "
            f"{self.held_out_unknown_share:.2%} are unknown now and were {self.held_out_unknown_share_before:.2%}, "
            f"and a text has {self.held_out_growth:.3f} times the tokens"
        )
