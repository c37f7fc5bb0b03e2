"""cut: one step of pruning: estimates the importance of units, chooses the sizes, removes units and repairs the rest."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from edgebert.core.progress import Progress
from edgebert.errors import StageError
from edgebert.models.load import run_model
from edgebert.models.surgery import Units, everything, prune, shape_of
from edgebert.stages.examples import Examples, same_tokens
from edgebert.stages.prune import importance as importances
from edgebert.stages.prune.importance import Importance, LossOf, mean_loss
from edgebert.stages.prune.reconstruct import reconstruct
from edgebert.stages.prune.settings import Sizes
from edgebert.stages.prune.size_search import Costs, cost, rearrange, search, top
from edgebert.tasks.base import IGNORED, Task, is_target

if TYPE_CHECKING:
    from edgebert.stages.prune.settings import PruneSettings

BATCH = 32
BATCH_TOKENS = 4096
"""Most tokens of a batch: for BERT-base, the gradients of one text of 512 tokens need some hundred megabytes."""
JUDGE_SHARE = 0.2
"""Share of the samples that measure a repair's loss; repair does not see them."""
LAYER_SAMPLES = 512
"""Examples that are enough for the importance of a layer, which is one number."""

Batch = Mapping[str, torch.Tensor]


class NothingFits(StageError):
    """No choice of units is within the budget."""


@dataclass(frozen=True)
class PruneSamples:
    """Examples in batches: those for importance and repair (`fit`), and those that measure the repair's loss (`judge`)."""

    fit: list[Batch]
    judge: list[Batch]
    loss: LossOf
    """(model, batch) -> loss, summed over the examples."""


def draw(examples: Examples, teacher: Any, count: int, seed: int, theirs: Examples | None = None) -> PruneSamples:
    """Draws samples by the seed.

    Args:
        teacher: labels the rows that have no label; None where there are no such rows.
        theirs: the same examples tokenised for the teacher, where its tokenizer is another.
    """
    chosen = examples.sample(count, seed)
    judged = set(chosen[:: round(1 / JUDGE_SHARE)])
    parts = [[index for index in chosen if index not in judged], [index for index in chosen if index in judged]]
    fit, judge = (
        [_labelled(examples, batch, teacher, theirs or examples) for batch in batches(part, examples.lengths)] for part in parts
    )
    return PruneSamples(fit or judge, judge, functools.partial(summed_loss, examples.serving.task))


def batches(indices: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """The indices in order, in batches of at most BATCH examples and BATCH_TOKENS tokens, padding included."""
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
    """A batch in which the teacher's most probable labels are the targets of examples without a label.

    Where the teacher's tokenizer makes other tokens of an example, its targets for single tokens do not fit, and the example
    stays without targets.
    """
    batch = examples.batch(indices)
    missing = ~is_target(batch["labels"]).reshape(len(indices), -1).any(dim=1)
    if examples.serving.task.in_pairs and teacher is not None:  # what is asked here is of one window, and not of a pair
        return _of_vectors(batch, theirs.batch(indices), teacher, examples.serving.task)
    if teacher is not None and missing.any():  # a window of a labelled row may begin no word
        gone = [index for index, unlabelled in zip(indices, missing.tolist(), strict=True) if unlabelled]
        asked = theirs.batch(gone)
        with torch.no_grad():
            outputs = run_model(teacher, asked)
        task = examples.serving.task
        made = task.pseudo_targets(task.combined(outputs), asked["attention_mask"].bool())
        if task.of_tokens:
            same = same_tokens(examples.encoded(gone), theirs.encoded(gone))
            made = _fitted(made, batch["labels"].shape[1], same)
        batch["labels"][missing] = made.to(batch["labels"].dtype)
    return batch


def _of_vectors(batch: Batch, asked: Batch, teacher: Any, task: Task) -> Batch:
    """A batch whose targets are made of the teacher's outputs for each window, which is `asked` with the teacher's tokens."""
    with torch.no_grad():
        outputs = run_model(teacher, asked)
    return {**batch, "labels": task.pseudo_targets(task.combined(outputs), asked["attention_mask"].bool())}


def _fitted(made: torch.Tensor, length: int, same: Sequence[bool]) -> torch.Tensor:
    """Targets of shape (batch, tokens, ...), cut or padded to a length; those of padding and of examples of other tokens do not
    count."""
    missing = float("nan") if made.is_floating_point() else IGNORED
    further = (0, 0) * (made.dim() - 2)
    fitted = functional.pad(made[:, :length], (*further, 0, max(0, length - made.shape[1])), value=missing)
    return torch.where(torch.tensor(list(same)).reshape(-1, *[1] * (made.dim() - 1)), fitted, missing)


def summed_loss(task: Task, model: Any, batch: Batch) -> torch.Tensor:
    """The task's loss, summed over the examples of a batch."""
    loss: torch.Tensor = task.loss(task.combined(run_model(model, batch)), batch["labels"], "sum")
    return loss


def measured_importance(stage: PruneSettings, model: Any, samples: PruneSamples, seed: int, progress: Progress) -> Importance:
    """The importance of every unit, by the stage's method; for Fisher information, of every layer as well."""
    if stage.importance == "magnitude":
        return importances.magnitude(model)
    if stage.importance == "random":
        return importances.random(model, seed)
    with progress.step("weigh heads and neurons", sum(len(batch["labels"]) for batch in samples.fit)) as bar:
        importance = importances.fisher(model, samples.fit, samples.loss, tick=bar.advance)
    if stage.sizes:
        return importance
    few = samples.fit[:: max(1, sum(len(batch["labels"]) for batch in samples.fit) // LAYER_SAMPLES)]
    with progress.step("weigh layers"):
        return dataclasses.replace(importance, layers=importances.layer_losses(model, few, samples.loss))


def choose(stage: PruneSettings, importance: Importance, costs: Costs, budget: float) -> dict[int, Units]:
    """The units to keep under a budget.

    Raises:
        NothingFits: no choice of units is within the budget.
    """
    if stage.depth and not importance.layers:
        importance = dataclasses.replace(
            importance,
            layers=tuple(float(h.sum() + n.sum()) for h, n in zip(importance.heads, importance.neurons, strict=True)),
        )
    try:
        return search(importance, costs, budget=budget, block=stage.block, layers=stage.depth)
    except ValueError as error:
        raise NothingFits(
            f"prune: {error}.", hint="Ask for less (`to`), allow fewer layers (`depth`), or a smaller `block`."
        ) from error


def chosen_by_size(sizes: Sizes, model: Any, importance: Importance) -> dict[int, Units]:
    """The most important units of each layer, as many as the recipe says.

    Raises:
        StageError: the model has fewer.
    """
    shape = shape_of(model)
    try:
        sizes_of = sizes.resolved(shape.heads, shape.intermediate_sizes)
    except ValueError as error:  # an earlier stage made the model smaller than the recipe's
        raise StageError(
            f"prune: {error}.", hint="Count the layers, heads and neurons that the stages before it left."
        ) from error
    return {
        index: Units(top(importance.heads[index], heads), top(importance.neurons[index], neurons))
        for index, (heads, neurons) in sizes_of.items()
    }


def repaired(
    stage: PruneSettings, model: Any, kept: dict[int, Units], importance: Importance, samples: PruneSamples, progress: Progress
) -> Any:
    """The pruned and repaired model: of the choice as given and as rearranged within layers, the one of lower loss."""
    choices = [kept]
    if (other := rearrange(kept, importance)) != kept:
        choices.append(other)
    best: tuple[float, Any] | None = None
    layers = sum(len(choice) for choice in choices)
    with progress.step("remove and repair", layers) as bar:
        for choice in choices:
            pruned = prune(model, choice)
            if stage.reconstruct:
                reconstruct(pruned, model, choice, samples.fit, tick=bar.advance)
            loss = mean_loss(pruned, samples.judge, samples.loss)
            if best is None or loss < best[0]:
                best = (loss, pruned)
    assert best is not None
    return best[1]


def cut(
    stage: PruneSettings, model: Any, costs: Costs | None, budget: float, samples: PruneSamples, seed: int, progress: Progress
) -> Any:
    """The model after one step of pruning.

    Args:
        costs: costs of layers, in the unit of `budget`; None where the recipe gives the sizes.
    """
    if costs is not None and cost(shape_of(model), costs) <= budget and not stage.depth:
        return prune(model, everything(model))  # it is small enough as it is
    importance = measured_importance(stage, model, samples, seed, progress)
    if costs is None:
        assert stage.sizes is not None
        kept = chosen_by_size(stage.sizes, model, importance)
    else:
        kept = choose(stage, importance, costs, budget)
    return repaired(stage, model, kept, importance, samples, progress)
