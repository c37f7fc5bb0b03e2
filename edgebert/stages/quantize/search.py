"""Search: the search of `quantize: {method: auto}` for one target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgebert.core.store import Artifact
from edgebert.errors import EdgebertError, StageError
from edgebert.report.search_record import LayerSensitivity, SearchRecord
from edgebert.runtimes.target import Target
from edgebert.stages.base import RunContext
from edgebert.stages.quantize.builder import Builder, Form, Plan
from edgebert.stages.quantize.fallback import fall_back
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.repair import NOT_IN_WEIGHTS, ONLY_WHEN_ROUNDED, repairs_of
from edgebert.stages.quantize.search_log import Candidate, SearchLog, title
from edgebert.stages.quantize.tuning import changes, exact, tune_graph, tune_settings

REPAIRED = 0.8
"""Least speed of a candidate that is repaired, as a share of the fastest candidate's."""


@dataclass
class Search:
    """The search for one target; `run` does all of it."""

    source: Artifact
    context: RunContext
    target: Target
    methods: Sequence[type[Method]]
    common: Mapping[str, Any]
    """Parameters that all files share."""
    sensitivity: tuple[LayerSensitivity, ...] = ()
    reference: Plan | None = None
    """The plan that speeds are relative to: the first method on the best graph."""

    @cached_property
    def log(self) -> SearchLog:
        """Measures candidates and records the trials."""
        trials = self.context.trials(self.target, self.source)
        builder = Builder(self.source, self.context, self.target, self.common, trials.allowed_drop)
        return SearchLog(self.context, self.target, builder, trials)

    def run(self) -> tuple[Path, SearchRecord, bool]:
        """The winner's file, the record of the search, and whether the winner's sums saturate on no CPU.

        Raises:
            StageError: no method makes a model that runs.
        """
        with self.context.progress.step(f"search for {self.target.name}"):
            plan = self._first()
            tuned = tune_settings(self.log, plan)
            plan = self.reference = tune_graph(self.log, plan, tuned)
            candidates = self._methods(plan, tuned)
            safe, undone = exact(self.target, tuned)
            if undone and min(candidates, key=_rank).scored.failures:
                self.log.note(f"{', '.join(undone)}, for its answers", kept=False)
                tuned = safe
                candidates = self._methods(plan, tuned)
            best = min(candidates, key=_rank)
            if best.scored.failures:
                best = self._repair(candidates, tuned)
        builder = self.log.builder
        return builder.quantized(best.plan), self._record(best, tuned), builder.method(best.plan).any_cpu

    def _first(self) -> Plan:
        """The plan of the first method that works, on the graph as it is exported."""
        faults = []
        for method in self.methods:
            if method.searched:
                try:
                    plan = Plan(Form(), method)
                    self.log.builder.quantized(plan)
                    return plan
                except EdgebertError as error:
                    faults.append(error.message)
                    self.log.note(f"method {method.method_name()}", kept=False, why=error.message)
        raise StageError(f"No method quantises the model for {self.target.name}: {'; '.join(faults)}")

    def _methods(self, plan: Plan, target: Target) -> list[Candidate]:
        """Candidates of every method that does not use the score, on the same graph."""
        candidates: list[Candidate] = []
        for method in self.methods:
            for settings in method.searched:
                variant = Plan(plan.form, method, settings)
                try:
                    candidates += self.log.candidates([variant], target, plan)
                except EdgebertError as error:
                    self.log.note(f"method {title(variant)}", kept=False, why=error.message)
        if not candidates:
            raise StageError(f"No method makes a model that runs on {self.target.name}.")
        self.log.note_all("method", candidates, min(candidates, key=_rank))
        return candidates

    def _repair(self, candidates: list[Candidate], target: Target) -> Candidate:
        """Tries repairs of the weights, then methods that use the score, then products that stay float."""
        fastest = max(candidate.speed for candidate in candidates)
        candidates = [candidate for candidate in candidates if candidate.speed >= REPAIRED * fastest]
        best = min(candidates, key=_rank)
        for name in repairs_of(self.log.builder.family):
            repairs = (*best.plan.form.repairs, name)
            plans = [one.plan.with_form(repairs=repairs) for one in candidates if name in one.plan.method.repairs]
            repaired = self._made(plans, target, f"repair {name}:")
            if not repaired:
                continue
            first = min(repaired, key=_rank)
            kept = first.better_than(best)
            self.log.note_all(f"repair {name}:", repaired, first if kept else None)
            if kept:
                best, candidates = first, repaired
            if not best.scored.failures:
                return best
        for method in self.methods:
            if method.scored:
                for scored in self._made([Plan(_float_safe(best.plan).form, method)], target, "method"):
                    kept = scored.better_than(best)
                    self.log.note_all("method", [scored], scored if kept else None)
                    best = scored if kept else best
        return best if not best.scored.failures else self._fallen_back(best, candidates, target)

    def _fallen_back(self, best: Candidate, candidates: Sequence[Candidate], target: Target) -> Candidate:
        """Leaves products in float in the best candidate, of methods that do not use the score: others write other graphs."""
        base = min(candidates, key=_rank)
        plan = _float_safe(base.plan)
        made = [base] if plan == base.plan else self._made([plan], target, "fallback")
        if not made:
            return best
        repaired, self.sensitivity = fall_back(self.log, made[0], target)
        return repaired if repaired and repaired.better_than(best) else best

    def _made(self, plans: Sequence[Plan], target: Target, kind: str) -> list[Candidate]:
        """Candidates of those plans that can be made."""
        candidates: list[Candidate] = []
        for plan in plans:
            try:
                candidates += self.log.candidates([plan], target, self.reference or plan)
            except EdgebertError as error:
                self.log.note(f"{kind} {title(plan)}", kept=False, why=error.message)
        return candidates

    def _record(self, best: Candidate, tuned: Target) -> SearchRecord:
        form, from_folder = best.plan.form, not best.plan.method.from_graph
        return SearchRecord(
            method=title(best.plan),
            rewrites=() if from_folder else form.rewrites,
            repairs=(
                *(name for name in form.repairs if not (from_folder and name in NOT_IN_WEIGHTS)),
                *(["fallback"] if best.plan.excluded_nodes else []),
            ),
            excluded_nodes=best.plan.excluded_nodes,
            tuning=changes(self.target, tuned),
            passed=not best.scored.failures,
            rows=len(self.log.trials.rows),
            baseline_score=round(self.log.trials.baseline().score, 6),
            trials=tuple(self.log.tried),
            sensitivity=self.sensitivity,
        )


def _rank(candidate: Candidate) -> tuple[float, ...]:
    return candidate.rank


def _float_safe(plan: Plan) -> Plan:
    """The plan without repairs that are wrong where a product stays float."""
    return plan.with_form(repairs=tuple(name for name in plan.form.repairs if name not in ONLY_WHEN_ROUNDED))
