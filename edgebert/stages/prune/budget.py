"""budget: what a goal asks of a pruned model: its largest cost in MACs or measured milliseconds, and its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from edgebert.data.labels import right_answers
from edgebert.data.prepared import PreparedData
from edgebert.errors import StageError
from edgebert.measure.predictions import Predict, outputs_of
from edgebert.models.load import run_model
from edgebert.models.sizes import Shape
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext
from edgebert.stages.prune.settings import Goal
from edgebert.stages.prune.size_search import Costs, cost
from edgebert.stages.scorer import score_of
from edgebert.tasks.base import Task

BATCH = 32


@dataclass(frozen=True)
class MeanMacs:
    """Mean multiply-accumulates of a head and of a neuron over texts of given lengths. A head's grow with length squared."""

    head: float
    neuron: float

    @classmethod
    def of(cls, shape: Shape, lengths: Sequence[int]) -> Self:
        """Costs for shapes with this shape's hidden size and head size."""
        heads, neurons = map(shape.head_macs, lengths), map(shape.neuron_macs, lengths)
        return cls(sum(heads) / len(lengths), sum(neurons) / len(lengths))

    def attention(self, heads: int) -> float:
        """MACs of this many heads."""
        return heads * self.head

    def ffn(self, neurons: int) -> float:
        """MACs of this many neurons."""
        return neurons * self.neuron


@dataclass(frozen=True)
class Budget:
    """The largest cost of all layers, in the unit of `costs`."""

    costs: Costs
    limit: float
    unit: str
    fixed: float = 0.0
    """Cost outside the layers, which pruning does not lower: embeddings, pooler and head."""
    before: float = 0.0
    """Cost of the layers before pruning."""

    @classmethod
    def of_macs(cls, shape: Shape, lengths: Sequence[int], *, share: float) -> Self:
        """The budget of a share of a shape's MACs."""
        costs = MeanMacs.of(shape, lengths)
        whole = cost(shape, costs)
        return cls(costs, whole * share, "MACs", before=whole)

    def facts(self, shape: Shape) -> dict[str, Any]:
        """Predicted latencies and speed-up of a shape; empty for a budget of MACs, which are counted, not predicted."""
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


def score(model: Any, data: PreparedData, serving: Serving, metric: str | None = None) -> float:
    """A metric of a model on all rows of a data set, in FP32.

    Args:
        metric: name of one of the task's metrics; None: its first.
    """
    task, target = serving.task, Target(runtime="onnxruntime", batch=BATCH)
    rows = data.rows()
    encoded = serving.encode(serving.open_tokenizer(), rows)
    order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index]), index))  # saves padding
    by_length = list(outputs_of(_predictor(model, task), serving, [encoded[index] for index in order], target))
    outputs = [output for _, output in sorted(zip(order, by_length, strict=True), key=lambda pair: pair[0])]
    predictions = task.decode(outputs, encoded, rows, serving.labels)
    return score_of(task, predictions, right_answers(data, task, serving.labels), serving.labels, metric)


def _predictor(model: Any, task: Task) -> Predict:
    """A torch model as a function from a batch of arrays to its outputs as arrays."""

    def predict(batch: Mapping[str, Any]) -> dict[str, Any]:
        with torch.no_grad():
            outputs = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})
        return {output.name: outputs[output.name].numpy() for output in task.outputs}

    return predict
