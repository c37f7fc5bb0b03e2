"""Selection: the rows on which a run chose among models, which are not those on which it was judged. Part of a report."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgebert.core.strict import Frozen

Source = Literal["data.select", "data.train", "data.eval"]


class Selection(Frozen):
    """The rows that carried the searches of a run: `quantize: auto`, methods that use the score, `prune: {to: {keep: ...}}`."""

    source: Source
    """The recipe's data set for it, rows held out of its training data, or, where it has neither, the eval set itself."""
    rows: int = Field(ge=0)
    data: str
    """sha256 of the prepared rows."""
    also_in_eval: int = Field(0, ge=0)
    """Number of these rows whose text is in data.eval too."""

    also_in_train: int = Field(0, ge=0)
    """Number of these rows whose text is in data.train too."""

    @property
    def sentence(self) -> str:
        """Which rows chose, and what follows for the scores on data.eval."""
        if self.source == "data.eval":
            return (
                f"The search chose on the {self.rows:,} rows of data.eval that also judge its result, so its score is somewhat "
                "too good. Give data.select, or data.train to hold rows out of."
            )
        named = "rows of data.select" if self.source == "data.select" else "rows held out of data.train"
        shared = {"data.eval": self.also_in_eval, "data.train": self.also_in_train}
        also = "".join(f", of which {count:,} are in {name}, too" for name, count in shared.items() if count)
        return f"The search chose on {self.rows:,} {named}{also}; data.eval was looked at once, for the verdict."
