"""cut: one step of pruning: weigh the units, choose the sizes, remove, repair."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgebert.bert import importance as weigh
from edgebert.bert.importance import Importance, mean_loss
from edgebert.bert.reconstruct import reconstruct
from edgebert.bert.search import Costs, cost, rearrange, search, top
from edgebert.bert.surgery import Units, everything, prune, shape_of
from edgebert.errors import StageError
from edgebert.examples import UNLABELLED, Examples
from edgebert.progress import Progress
from edgebert.stages.prune.settings import Sizes

if TYPE_CHECKING:
    from edgebert.stages.prune import Prune

BATCH = 32
JUDGE_SHARE = 0.2
"""Of the samples, those that judge a repair; they take no part in it."""
LAYER_SAMPLES = 512
"""Enough to weigh a whole layer, which is one number."""

Batch = Mapping[str, torch.Tensor]


class NothingFits(StageError):
    """No choice of units is within the budget."""


@dataclass(frozen=True)
class Samples:
    """Examples in batches: those that importance and repair learn from, and those that judge the repair."""

    fit: list[Batch]
    judge: list[Batch]


def draw(examples: Examples, model: Any, count: int, seed: int) -> Samples:
    """Samples by the seed. Where a row has no label, the model's own answer stands for it."""
    chosen = examples.sample(count, seed)
    judged = set(chosen[:: round(1 / JUDGE_SHARE)])
    parts = [[index for index in chosen if index not in judged], [index for index in chosen if index in judged]]
    fit, judge = (
        [_labelled(examples.batch(part[at : at + BATCH]), model) for at in range(0, len(part), BATCH)] for part in parts
    )
    return Samples(fit or judge, judge)


def _labelled(batch: dict[str, torch.Tensor], model: Any) -> Batch:
    missing = batch["labels"] == UNLABELLED
    if missing.any():
        with torch.no_grad():
            answers = model(**{name: value for name, value in batch.items() if name != "labels"}).logits.argmax(dim=-1)
        batch["labels"] = torch.where(missing, answers, batch["labels"])
    return batch


def summed_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy, summed over the batch's examples."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return functional.cross_entropy(model(**inputs).logits, batch["labels"], reduction="sum")


def weighed(stage: Prune, model: Any, samples: Samples, seed: int, progress: Progress) -> Importance:
    """The importance of every unit."""
    if stage.importance == "magnitude":
        return weigh.magnitude(model)
    if stage.importance == "random":
        return weigh.random(model, seed)
    with progress.step("weigh heads and neurons", sum(len(batch["labels"]) for batch in samples.fit)) as bar:
        found = weigh.fisher(model, samples.fit, summed_loss, tick=bar.advance)
    if stage.sizes:
        return found
    few = samples.fit[:: max(1, len(samples.fit) * BATCH // LAYER_SAMPLES)]
    with progress.step("weigh layers"):
        return dataclasses.replace(found, layers=weigh.layer_losses(model, few, summed_loss))


def choose(stage: Prune, found: Importance, costs: Costs, budget: float) -> dict[int, Units]:
    """The units that stay under a budget.

    Raises:
        NothingFits: so it is.
    """
    if stage.depth and not found.layers:
        found = dataclasses.replace(
            found, layers=tuple(float(h.sum() + n.sum()) for h, n in zip(found.heads, found.neurons, strict=True))
        )
    try:
        return search(found, costs, budget=budget, block=stage.block, layers=stage.depth)
    except ValueError as error:
        raise NothingFits(
            f"prune: {error}.", hint="Ask for less (`to`), allow fewer layers (`depth`), or a smaller `block`."
        ) from error


def chosen_by_size(sizes: Sizes, model: Any, found: Importance) -> dict[int, Units]:
    """The most important units of each layer, in the numbers that the recipe gives.

    Raises:
        StageError: the model has fewer.
    """
    shape = shape_of(model)
    try:
        wanted = sizes.resolved(shape.heads, shape.intermediate_sizes)
    except ValueError as error:  # a stage before it left less than the recipe's model has
        raise StageError(f"prune: {error}.", hint="Count what the stages before it left.") from error
    return {
        place: Units(top(found.heads[place], heads), top(found.neurons[place], neurons))
        for place, (heads, neurons) in wanted.items()
    }


def repaired(stage: Prune, model: Any, kept: dict[int, Units], found: Importance, samples: Samples, progress: Progress) -> Any:
    """The pruned model. Where rearranging units within their layers gives a lower loss after repair, it is kept."""
    choices = [kept]
    if (other := rearrange(kept, found)) != kept:
        choices.append(other)
    best: tuple[float, Any] | None = None
    layers = sum(len(choice) for choice in choices)
    with progress.step("remove and repair", layers) as bar:
        for choice in choices:
            pruned = prune(model, choice)
            if stage.reconstruct:
                reconstruct(pruned, model, choice, samples.fit, tick=bar.advance)
            loss = mean_loss(pruned, samples.judge, summed_loss)
            if best is None or loss < best[0]:
                best = (loss, pruned)
    assert best is not None
    return best[1]


def cut(stage: Prune, model: Any, costs: Costs | None, budget: float, samples: Samples, seed: int, progress: Progress) -> Any:
    """One step.

    Args:
        costs: and the budget in its unit; None where the recipe gives the sizes.
    """
    if costs is not None and cost(shape_of(model), costs) <= budget and not stage.depth:
        return prune(model, everything(model))  # it is small enough as it is
    found = weighed(stage, model, samples, seed, progress)
    if costs is None:
        assert stage.sizes is not None
        kept = chosen_by_size(stage.sizes, model, found)
    else:
        kept = choose(stage, found, costs, budget)
    return repaired(stage, model, kept, found, samples, progress)


def lengths_of(batches: Sequence[Batch]) -> list[int]:
    """Tokens of each example."""
    return [int(length) for batch in batches for length in batch["attention_mask"].sum(dim=1)]
