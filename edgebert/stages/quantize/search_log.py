"""Search log: measures the candidates of a search, and records every trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgebert.report.search_record import SearchTrial
from edgebert.runtimes.target import Target
from edgebert.stages.base import CandidateTrials, RunContext, Scored
from edgebert.stages.quantize.builder import Builder, Plan


@dataclass
class Candidate:
    """An INT8 file that was scored and timed."""

    plan: Plan
    scored: Scored
    speed: float
    """Speed relative to the first method of the search."""

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key, best first: by speed for candidates that pass, else by failed gates, then by score, then by speed."""
        failures = len(self.scored.failures)
        return (failures, -self.speed) if not failures else (failures, -self.scored.score, -self.speed)

    def better_than(self, other: Candidate) -> bool:
        """Whether it fails fewer gates, or scores higher where neither passes."""
        return self.rank[:2] < other.rank[:2] if self.scored.failures else bool(other.scored.failures)


@dataclass
class SearchLog:
    """The measurements and trials of one search."""

    context: RunContext
    target: Target
    builder: Builder
    trials: CandidateTrials
    tried: list[SearchTrial] = field(default_factory=list)

    def note(self, what: str, *, kept: bool, ratio: float | None = None, score: float | None = None, why: str = "") -> None:
        """Records a trial, and reports it as progress."""
        rounded = [None if value is None else round(value, 6) for value in (ratio, score)]
        self.tried.append(SearchTrial(what=what, kept=kept, ratio=rounded[0], score=rounded[1], note=why))
        figures = [f"{ratio:.2f}x as fast"] if ratio is not None else []
        figures += [f"{self.context.task.metrics[0].name} {score:.4f}"] if score is not None else []
        self.context.progress.note(f"{self.target.name}: {what}: {', '.join([*figures, 'kept' if kept else 'not kept'])}")

    def note_all(self, kind: str, candidates: Sequence[Candidate], kept: Candidate | None) -> None:
        """Records candidates, of which at most one was kept."""
        for candidate in candidates:
            self.note(
                f"{kind} {title(candidate.plan)}",
                kept=candidate is kept,
                ratio=candidate.speed,
                score=candidate.scored.score,
                why="; ".join(candidate.scored.failures),
            )

    def ratios(self, name: str, models: Sequence[tuple[Path, Target]]) -> list[float]:
        """Speed of every model but the first, relative to the first. Kept by name and targets, so that a kill loses none."""

        def measure() -> list[float]:
            speeds = self.trials.time(models)
            return [speeds.ratio(index) for index in range(1, len(models))]

        key = f"{name} {[target.identity() for _, target in models]}"
        return [float(ratio) for ratio in self.builder.remembered(key, measure)]

    def candidates(self, plans: Sequence[Plan], target: Target, against: Plan) -> list[Candidate]:
        """Candidates of the plans, scored, and timed against another plan.

        Raises:
            StageError: a plan cannot be made or run.
        """
        made = []
        for plan in plans:
            files = [self.builder.quantized(against), self.builder.quantized(plan)]
            scored = self.trials.score(files[1], target)
            speed = 1.0
            if plan != against:
                speed = self.ratios(f"candidates {against.key} {plan.key}", [(file, target) for file in files])[0]
            made.append(Candidate(plan, scored, speed))
        return made


def title(plan: Plan) -> str:
    """A method and its settings, as shown to users."""
    return " ".join([plan.method.method_name(), *(str(value) for _, value in plan.settings)])
