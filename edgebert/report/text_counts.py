"""TextCounts: how well a tokenizer and the longest input fit the eval texts. Shares are computed when they are read."""

from __future__ import annotations

from pydantic import Field

from edgebert.core.strict import Frozen

MANY_UNKNOWN = 0.05
"""Share of unknown tokens from which on it is said: English text with a vocabulary of its own has less than 0.01."""
MANY_CUT = 0.1
"""Share of texts that were cut from which on it is said."""


class TextCounts(Frozen):
    """Counts over the eval texts, for one tokenizer and longest input."""

    texts: int = Field(ge=1)
    cut: int = Field(ge=0)
    """Texts of which tokens were left out, because they have more than fit."""
    tokens: int = Field(ge=0)
    """Tokens of all texts together that the model read, without special ones."""
    unknown: int = Field(ge=0)
    """Tokens among them that are the tokenizer's unknown token."""

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are unknown, 0 to 1."""
        return self.unknown / self.tokens if self.tokens else 0.0

    @property
    def cut_share(self) -> float:
        """Share of the texts that were cut, 0 to 1."""
        return self.cut / self.texts

    def concerns(self, max_length: int | None = None) -> list[str]:
        """A sentence for each share that is so large that the scores say little about the model."""
        lines = []
        if self.unknown_share >= MANY_UNKNOWN:
            lines.append(
                f"{self.unknown_share:.0%} of the tokens of data.eval are unknown to the tokenizer: its vocabulary is of "
                "another language, script or case than these texts"
            )
        if self.cut_share >= MANY_CUT:
            limit = f" {max_length} tokens" if max_length else ""
            lines.append(f"{self.cut_share:.0%} of the texts of data.eval are longer than task.max_length{limit} and were cut")
        return lines
