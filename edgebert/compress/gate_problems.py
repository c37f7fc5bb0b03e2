"""Gates, and metrics that stages are to keep, that cannot be judged in a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.compress.recipe import Recipe
from edgebert.errors import Problem
from edgebert.stages.prune import Prune
from edgebert.tasks.metrics import ANSWER_METRICS, AnswerMetric
from edgebert.tasks.metrics.own import is_own


def metric_problems(recipe: Recipe) -> list[Problem]:
    """Metrics that a prune stage is to keep, or that have a gate, and that the task does not have."""
    known = [*(metric.name for metric in recipe.task.task.metrics), *recipe.metrics]
    of_others = {metric.name for metric in ANSWER_METRICS} - {*known}
    gates = [
        Problem(
            f"gates.{index}.metric",
            f"{recipe.task.name} has no metric `{gate.metric}`.",
            suggestion=f"Take one of {', '.join(known)}.",
        )
        for index, gate in enumerate(recipe.gates)
        if gate.metric in of_others or (is_own(gate.metric) and gate.metric not in known)
    ]
    return (
        gates
        + [
            Problem(
                f"stages.{index}.prune.to.metric",
                f"{recipe.task.name} has no metric `{stage.to.metric}`.",
                suggestion=f"Take one of {', '.join(known)}.",
            )
            for index, stage in enumerate(recipe.stages)
            if isinstance(stage, Prune) and stage.to and stage.to.metric not in (None, *known)
        ]
        + error_problems(recipe, ANSWER_METRICS)
    )


def error_problems(recipe: Recipe, metrics: Sequence[AnswerMetric]) -> list[Problem]:
    """Prune stages that are to keep a share of an error, one of these metrics: less of it is better, not as much."""
    worse = {metric.name for metric in metrics if metric.less_is_better}
    return [
        Problem(
            f"stages.{index}.prune.to.metric",
            f"less `{stage.to.metric}` is better, and prune keeps a share of a metric of which more is.",
            suggestion=f"Take {recipe.task.task.metrics[0].name}.",
        )
        for index, stage in enumerate(recipe.stages)
        if isinstance(stage, Prune) and stage.to and stage.to.metric in worse
    ]


def speedup_problems(recipe: Recipe) -> list[Problem]:
    """Gates that ask a recipe without a compressed candidate for a speed-up: it compares FP32 with itself."""
    return [
        Problem(
            f"gates.{index}.metric",
            "no stage compresses the model, and FP32 is no faster than itself.",
            suggestion="Add `- quantize`, or drop this gate.",
        )
        for index, gate in enumerate(recipe.gates)
        if gate.metric == "speedup" and (gate.min is not None and gate.min > 1)
    ]
