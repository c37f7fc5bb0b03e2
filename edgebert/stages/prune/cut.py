"""cut: one step of pruning: weigh the units, choose the sizes, remove, repair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgebert.core.progress import Progress
from edgebert.errors import StageError
from edgebert.models.surgery import Units, everything, prune, shape_of
from edgebert.stages.examples import UNLABELLED, Examples
from edgebert.stages.prune import importance as weigh
from edgebert.stages.prune.importance import Importance, mean_loss
from edgebert.stages.prune.reconstruct import reconstruct
from edgebert.stages.prune.settings import Sizes
from edgebert.stages.prune.size_search import Costs, cost, rearrange, search, top

if TYPE_CHECKING:
    from edgebert.stages.prune.settings import PruneSettings

BATCH = 32
BATCH_TOKENS = 4096
"""Of a BERT-base at 512 tokens, what the gradients need of each text is some hundred megabytes."""
JUDGE_SHARE = 0.2
"""Of the samples, those that judge a repair; they take no part in it."""
LAYER_SAMPLES = 512
"""Enough to weigh a whole layer, which is one number."""

Batch = Mapping[str, torch.Tensor]


class NothingFits(StageError):
    """No choice of units is within the budget."""


@dataclass(frozen=True)
class PruneSamples:
    """Examples in batches: those that importance and repair learn from, and those that judge the repair."""

    fit: list[Batch]
    judge: list[Batch]


def draw(examples: Examples, teacher: Any, count: int, seed: int, theirs: Examples | None = None) -> PruneSamples:
    """Samples by the seed.

    Args:
        teacher: its answer stands for the label of a row that has none; None where there is no such row.
        theirs: the same rows as the teacher reads them, where its tokens are others.
    """
    chosen = examples.sample(count, seed)
    judged = set(chosen[:: round(1 / JUDGE_SHARE)])
    parts = [[index for index in chosen if index not in judged], [index for index in chosen if index in judged]]
    fit, judge = (
        [_labelled(examples, batch, teacher, theirs or examples) for batch in batches(part, examples.lengths)] for part in parts
    )
    return PruneSamples(fit or judge, judge)


def batches(indices: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """The indices in order, cut into batches of BATCH at most that hold no more than BATCH_TOKENS with their padding."""
    part: list[int] = []
    longest = 0
    for index in indices:
        longest = max(longest, lengths[index])
        if part and (len(part) == BATCH or (len(part) + 1) * longest > BATCH_TOKENS):
            yield part
            part, longest = [], lengths[index]
        part.append(index)
    if part:
        yield part


def _labelled(examples: Examples, indices: Sequence[int], teacher: Any, theirs: Examples) -> Batch:
    batch = examples.batch(indices)
    missing = batch["labels"] == UNLABELLED
    if missing.any():
        asked = theirs.batch([index for index, gone in zip(indices, missing.tolist(), strict=True) if gone])
        del asked["labels"]
        with torch.no_grad():
            batch["labels"][missing] = teacher(**asked).logits.argmax(dim=-1)
    return batch


def summed_loss(model: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy, summed over the batch's examples."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return functional.cross_entropy(model(**inputs).logits, batch["labels"], reduction="sum")


def weighed(stage: PruneSettings, model: Any, samples: PruneSamples, seed: int, progress: Progress) -> Importance:
    """The importance of every unit."""
    if stage.importance == "magnitude":
        return weigh.magnitude(model)
    if stage.importance == "random":
        return weigh.random(model, seed)
    with progress.step("weigh heads and neurons", sum(len(batch["labels"]) for batch in samples.fit)) as bar:
        found = weigh.fisher(model, samples.fit, summed_loss, tick=bar.advance)
    if stage.sizes:
        return found
    few = samples.fit[:: max(1, sum(len(batch["labels"]) for batch in samples.fit) // LAYER_SAMPLES)]
    with progress.step("weigh layers"):
        return dataclasses.replace(found, layers=weigh.layer_losses(model, few, summed_loss))


def choose(stage: PruneSettings, found: Importance, costs: Costs, budget: float) -> dict[int, Units]:
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


def repaired(
    stage: PruneSettings, model: Any, kept: dict[int, Units], found: Importance, samples: PruneSamples, progress: Progress
) -> Any:
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


def cut(
    stage: PruneSettings, model: Any, costs: Costs | None, budget: float, samples: PruneSamples, seed: int, progress: Progress
) -> Any:
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
