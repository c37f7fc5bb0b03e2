"""The rows on which a run chooses: data.select, else rows held out of data.train, else data.eval, which then decides twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgebert.compress.resolve import ResolvedRecipe
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import PreparedData, source_hash
from edgebert.data.split import held_out_count, shared_rows, split
from edgebert.errors import DataError
from edgebert.report.selection import Selection, Source


@dataclass(frozen=True)
class Choice:
    """Which rows choose in a run."""

    source: Source
    held_out: int = 0
    """Number of rows that are held out of data.train."""

    def key_parts(self, resolved: ResolvedRecipe) -> dict[str, Any]:
        """What a step's key holds of the rows that it chooses on; of data.eval, what it held before there were others."""
        specs = resolved.specs
        if self.source == "data.train":
            return {"select": [_hash(resolved, "train"), self.held_out]}
        role = "select" if self.source == "data.select" else "eval"
        return {role: _hash(resolved, role)} if role in specs else {}


def _hash(resolved: ResolvedRecipe, role: str) -> str:
    return source_hash(resolved.specs[role], resolved.file.base, resolved.file.recipe.seed)


def choice_of(resolved: ResolvedRecipe, train_rows: int) -> Choice | None:
    """Which rows choose in a run; None where nothing is chosen by scores.

    Args:
        train_rows: rows of data.train; 0 where the run has none.
    """
    if not resolved.searches:
        return None
    if "select" in resolved.specs:
        same = _hash(resolved, "select") == _hash(resolved, "eval")
        return Choice("data.eval" if same else "data.select") if not same or resolved.stages_search else None
    held_out = held_out_count(train_rows)
    if not held_out and not resolved.stages_search:
        return None  # nothing is tuned on the rows that judge
    return Choice("data.train", held_out) if held_out else Choice("data.eval")


def with_select(
    data: dict[str, PreparedData], choice: Choice, resolved: ResolvedRecipe, store: ArtifactStore
) -> dict[str, PreparedData]:
    """The data sets with the one that chooses under `select`, and without its rows in `train`.

    Raises:
        DataError: data.select and data.train hold the same rows.
    """
    if choice.source == "data.eval":
        return {**data, "select": data["eval"]}
    if choice.source == "data.train":
        rest, held = split(data["train"], choice.held_out, task=resolved.task, seed=resolved.file.recipe.seed, store=store)
        return {**data, "train": rest, "select": held}
    if "train" in data and data["train"].artifact.sha256 == data["select"].artifact.sha256:
        raise DataError(
            "data.train and data.select hold the same rows.",
            hint="Drop data.select: rows are then held out of data.train for it.",
        )
    return data


def selection_of(data: dict[str, PreparedData], choice: Choice | None) -> Selection | None:
    """What the report says of the rows that chose; None where nothing was chosen by scores."""
    if choice is None:
        return None
    chosen, own = data["select"], choice.source != "data.eval"
    shared = {f"also_in_{role}": shared_rows(chosen, data[role]) for role in ("eval", "train") if own and role in data}
    return Selection(source=choice.source, rows=len(chosen), data=chosen.artifact.sha256, **shared)
