"""run: prunes in one step or gradually. Finished steps are kept, so that a killed run continues after the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edgebert.core.store import Artifact
from edgebert.models.load import copy_tokenizer, load_model, save_model
from edgebert.models.sizes import Shape, mean_macs
from edgebert.models.surgery import everything, prune, shape_of
from edgebert.stages.base import RunContext
from edgebert.stages.distill.augmentation import augmented
from edgebert.stages.distill.learn import learn
from edgebert.stages.distill.losses import pairing
from edgebert.stages.distill.teacher_outputs import Teacher
from edgebert.stages.distill.teachers import open_teachers
from edgebert.stages.examples import Examples
from edgebert.stages.prune.budget import Budget, budget_for, score
from edgebert.stages.prune.cut import NothingFits, PruneSamples, cut, draw
from edgebert.stages.prune.finished import Finished
from edgebert.stages.prune.size_search import Costs, cost
from edgebert.stages.prune.trim import trim

if TYPE_CHECKING:
    from edgebert.stages.prune.settings import PruneSettings

FACTOR = 1.25
"""Factor by which each step of `to: {keep: ...}` divides the MACs."""
MAX_STEPS = 30


@dataclass
class _PruneWork:
    """Models, examples and samples that all steps share."""

    stage: PruneSettings
    source: Artifact
    context: RunContext

    @property
    def finished(self) -> Finished:
        """Models and scores of finished steps, those of a killed run included."""
        return Finished(self.context.work, self.context.task)

    @cached_property
    def examples(self) -> Examples:
        """Training and transfer rows."""
        return self.context.examples(self.source)

    @cached_property
    def taught(self) -> Examples:
        """Examples of the recovery: training and transfer rows, and rows made up from them."""
        return augmented(self.examples, self.stage.recovery, self.context)

    @cached_property
    def lengths(self) -> list[int]:
        """Number of tokens of each row of data.eval, which stands for the texts that will be served."""
        return Examples((self.context.data["eval"],), self.context.serving(self.source)).lengths

    @cached_property
    def samples(self) -> PruneSamples:
        """Samples for importance and repair. The teacher labels unlabelled rows: the pruned model errs more each step."""
        assert self.context.teacher is not None
        teacher = None if self.examples.labelled and not self.context.task.in_pairs else self.teacher
        theirs = Examples(self.examples.sets, self.context.serving(self.context.teacher))
        if teacher is not None:
            self.examples.require_same_windows(theirs, "the teacher")
        return draw(self.examples, teacher, self.stage.samples, self.context.seed, theirs)

    @cached_property
    def teacher(self) -> Any:
        """The model that candidates are judged against."""
        assert self.context.teacher is not None
        return load_model(self.context.teacher.path, self.context.task)

    def score(self, model: Any, artifact: Artifact) -> float:
        """Score on the rows that choose of a model that has the artifact's tokenizer; `to: {keep: ...}` keeps a share of it."""
        metric = self.stage.to.metric if self.stage.to else None
        return score(model, self.context.data["select"], self.context.serving(artifact), metric)

    def teachers(self, student: Any) -> list[Teacher]:
        """Teachers of the recovery between steps."""
        return open_teachers(("teacher",), student, self.source, self.context, self.taught, self.stage.recovery)

    def recovered(self, model: Any, number: int) -> Any:
        """The model after a little distillation."""
        teachers = self.teachers(model)
        work = self.context.work / f"recover-{number}"
        work.mkdir(exist_ok=True)
        learn(
            model,
            teachers,
            pairing(self.stage.recovery, model, teachers[0].model),
            self.taught,
            self.stage.recovery,
            seed=self.context.seed + number,
            work=work,
            progress=self.context.progress,
            title=f"recover ({number})",
        )
        return model


def run(stage: PruneSettings, source: Artifact, context: RunContext) -> Mapping[str, Any]:
    """Writes the pruned model and its tokenizer into the context's folder; returns the facts."""
    work = _PruneWork(stage, source, context)
    model = load_model(source.path, context.task)
    before = shape_of(model)
    facts: dict[str, Any] = {}
    if stage.sizes:
        pruned = cut(stage, model, None, 0.0, work.samples, context.seed, context.progress)
    elif stage.to:
        pruned, facts = _to_goal(work, model)
    else:
        pruned = prune(model, everything(model))
    lengths = work.lengths
    copy_tokenizer(source.path, context.out)
    examples = work.examples if stage.vocabulary and stage.vocabulary.examples else None
    pruned, trimmed = trim(stage, pruned, context, context.serving(source), examples)
    save_model(pruned, context.out)
    return {
        **facts,
        **trimmed,
        **_size_facts(before, shape_of(pruned), lengths),
        "parameters": sum(p.numel() for p in pruned.parameters()),
    }


def _size_facts(before: Shape, after: Shape, lengths: list[int]) -> dict[str, Any]:
    return {
        "layers": after.layers,
        "heads": list(after.heads),
        "intermediate_sizes": list(after.intermediate_sizes),
        "macs": round(mean_macs(after, lengths)),
        "macs_before": round(mean_macs(before, lengths)),
    }


def _to_goal(work: _PruneWork, model: Any) -> tuple[Any, dict[str, Any]]:
    assert work.stage.to is not None
    if work.stage.to.keep is not None:
        return _to_gate(work, model, work.stage.to.keep)
    budget = budget_for(work.stage.to, shape_of(model), work.lengths, work.context)
    full, steps = cost(shape_of(model), budget.costs), work.stage.steps
    for number, limit in _limits(full, budget.limit, steps):
        model = _step(work, model, budget.costs, limit, number, recover=number < steps)
    return model, budget.facts(shape_of(model))


def _limits(full: float, last: float, steps: int) -> Iterator[tuple[int, float]]:
    """Yields (step number from 1, its budget); every budget is the same share of the one before."""
    for number in range(1, steps + 1):
        yield number, full * (last / full) ** (number / steps) if number < steps else last


def _step(work: _PruneWork, model: Any, costs: Costs, limit: float, number: int, *, recover: bool) -> Any:
    """The model after one step of gradual pruning; loaded where a killed run had finished it."""
    if (finished := work.finished.model(f"step-{number}")) is not None:
        return finished
    model = _cut(work, model, costs, limit, number)
    if recover:
        model = work.recovered(model, number)
    work.finished.keep_model(f"step-{number}", model)
    work.finished.drop(f"cut-{number}", f"recover-{number}", f"score-{number}")
    return model


def _cut(work: _PruneWork, model: Any, costs: Costs, limit: float, number: int) -> Any:
    """The model of a step before its recovery; kept, because checkpoints of the recovery belong to it."""
    if (finished := work.finished.model(f"cut-{number}")) is not None:
        return finished
    work.finished.drop(f"recover-{number}")
    model = cut(work.stage, model, costs, limit, work.samples, work.context.seed, work.context.progress)
    work.finished.keep_model(f"cut-{number}", model)
    return model


def _to_gate(work: _PruneWork, model: Any, keep: float) -> tuple[Any, dict[str, Any]]:
    """Prunes and recovers until the score on the rows that choose falls below the share of the teacher's.

    Returns the last model above it. Where no step is above it, that is the model as it came; the recipe's gates then judge the
    result of later stages.
    """
    context = work.context
    assert context.teacher is not None
    least = keep * work.score(work.teacher, context.teacher)
    budget = Budget.of_macs(shape_of(model), work.lengths, share=1.0)
    full = cost(shape_of(model), budget.costs)
    path: list[dict[str, float]] = []
    whole = best = prune(model, everything(model))
    for number in range(1, MAX_STEPS + 1):
        try:
            model = _step(work, model, budget.costs, full / FACTOR**number, number, recover=True)
        except NothingFits as error:
            context.progress.note(f"step {number}: {error.message}")
            break  # the model is as small as possible
        reached = _score_of_step(work, model, number)
        path.append({"macs_share": round(FACTOR**-number, 4), "score": round(reached, 6)})
        context.progress.note(f"step {number}: 1/{FACTOR**number:.2f} of the MACs, score {reached:.4f} (at least {least:.4f})")
        if reached < least:
            break
        best = model
    if best is whole:
        advice = "; give `recover` more epochs, or lower `to.keep`" if path else ""
        context.progress.note(f"prune: nothing was removed, for not even the first step was good enough{advice}")
    return best, {"path": path, "score_wanted": round(least, 6)}


def _score_of_step(work: _PruneWork, model: Any, number: int) -> float:
    name = f"score-{number}"
    if (finished := work.finished.score(name)) is not None:
        return finished
    reached = work.score(model, work.source)
    work.finished.keep_score(name, reached)
    return reached
