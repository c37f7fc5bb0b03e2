"""budget: what a goal allows the encoder to cost, in multiply-accumulates or in measured milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from edgebert.errors import StageError
from edgebert.models.sizes import Shape
from edgebert.stages.base import RunContext
from edgebert.stages.prune.settings import Goal
from edgebert.stages.prune.size_search import Costs, cost


@dataclass(frozen=True)
class MeanMacs:
    """Mean multiply-accumulates over texts of these lengths. A head's grow with the square of a length, too."""

    head: float
    neuron: float

    @classmethod
    def of(cls, shape: Shape, lengths: Sequence[int]) -> Self:
        """For shapes of that hidden size and head size."""
        heads, neurons = map(shape.head_macs, lengths), map(shape.neuron_macs, lengths)
        return cls(sum(heads) / len(lengths), sum(neurons) / len(lengths))

    def attention(self, heads: int) -> float:
        """Of so many heads."""
        return heads * self.head

    def ffn(self, neurons: int) -> float:
        """Of so many neurons."""
        return neurons * self.neuron


@dataclass(frozen=True)
class Budget:
    """A limit in the unit of the costs."""

    costs: Costs
    limit: float
    unit: str
    fixed: float = 0.0
    """What no pruning of layers removes: embeddings, pooler and head."""
    before: float = field(default=0.0)

    @classmethod
    def of_macs(cls, shape: Shape, lengths: Sequence[int], *, share: float) -> Self:
        """A share of a shape's MACs."""
        costs = MeanMacs.of(shape, lengths)
        whole = cost(shape, costs)
        return cls(costs, whole * share, "MACs", before=whole)

    def facts(self, shape: Shape) -> dict[str, Any]:
        """What was predicted for the shape that was found."""
        if self.unit == "MACs":
            return {}
        after = cost(shape, self.costs)
        return {
            "predicted_ms": round(self.fixed + after, 4),
            "predicted_ms_before": round(self.fixed + self.before, 4),
            "predicted_speedup": round((self.fixed + self.before) / (self.fixed + after), 3),
        }


def budget_for(goal: Goal, shape: Shape, lengths: Sequence[int], context: RunContext) -> Budget:
    """The budget of a goal.

    Raises:
        StageError: what pruning cannot remove costs more than the goal allows.
    """
    if goal.macs is not None:
        return Budget.of_macs(shape, lengths, share=goal.macs)
    assert goal.speedup is not None
    costs = context.layer_costs(shape, lengths)
    limit = costs.whole / goal.speedup - costs.rest
    if limit <= 0:
        most = costs.whole / costs.rest
        raise StageError(
            f"prune: a speed-up of {goal.speedup:g} cannot be had: without any layer it would be {most:.1f}.",
            hint="Ask for less, or for fewer MACs: `to: {macs: ...}`.",
        )
    return Budget(costs, limit, "ms", fixed=costs.rest, before=costs.whole - costs.rest)
