"""Search: the loop of `quantize: auto` for one target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from edgebert.artifact import Artifact
from edgebert.errors import EdgebertError
from edgebert.rewrites import FOR_ONNXRUNTIME_ALONE, REWRITES
from edgebert.runtimes.target import Target
from edgebert.search_record import LayerSensitivity, SearchRecord, Trial
from edgebert.stages.base import RunContext, Scored, Trials
from edgebert.stages.quantize.methods import Method
from edgebert.stages.quantize.repair import (
    SENSITIVITY_ROWS,
    WEIGHT_REPAIRS,
    fallback_steps,
    sensitivity_of,
    weighted_products,
)
from edgebert.stages.quantize.workshop import Form, Plan, Workshop

FASTER = 1.005
"""A change is kept when it is at least so much faster: a smaller gain could be noise."""
TIMED_METHODS = 0.8
"""A method that is slower than this share of the fastest's speed is not repaired."""


def settings_of(target: Target) -> list[tuple[str, dict[str, Any]]]:
    """What of the runtime's settings is tried for a target: what it is called, and the fields of Target."""
    if target.runtime == "openvino":
        buckets = [] if target.length_bucket or target.padding == "max_length" else [4, 16]
        return [
            *((f"buckets of {step} tokens", {"length_bucket": step}) for step in buckets),
            ("bfloat16 beside INT8", {"precision": "bf16"}),
        ]
    found: list[tuple[str, dict[str, Any]]] = [
        ("without SkipLayerNormFusion", {"disabled_optimizers": ("SkipLayerNormFusion",)}),
        ("without BiasGeluFusion", {"disabled_optimizers": ("BiasGeluFusion",)}),
        ("denormals as zero", {"denormals_as_zero": True}),
        ("without an arena", {"arena": False}),
    ]
    if target.threads > 1:
        found.append(("threads that sleep between queries", {"spinning": False}))
        found.append((f"{target.threads // 2} of {target.threads} threads", {"threads": target.threads // 2}))
    return found


@dataclass
class Candidate:
    """An INT8 file that was scored and timed."""

    plan: Plan
    scored: Scored
    speed: float
    """Over the first one of the search."""

    @property
    def rank(self) -> tuple[int, float]:
        """Fewer failed gates first, then faster."""
        return (len(self.scored.failures), -self.speed)


@dataclass
class Search:
    """One search. `run` does all of it."""

    source: Artifact
    context: RunContext
    target: Target
    methods: Sequence[Method]
    common: Mapping[str, Any]
    tuning: dict[str, Any] = field(default_factory=dict)
    tried: list[Trial] = field(default_factory=list)
    sensitivity: tuple[LayerSensitivity, ...] = ()

    @cached_property
    def trials(self) -> Trials:
        """What measures."""
        return self.context.trials(self.target, self.source)

    @cached_property
    def shop(self) -> Workshop:
        """What makes the files."""
        return Workshop(self.source, self.context, self.target, WEIGHT_REPAIRS, self.common)

    @property
    def tuned(self) -> Target:
        """The target with what was found so far."""
        return self.target.with_tuning(self.tuning)

    @property
    def metric(self) -> str:
        """The task's first."""
        return self.context.task.metrics[0]

    def run(self) -> tuple[Path, SearchRecord]:
        """The winner's file, and how it was found."""
        with self.context.progress.step(f"search for {self.target.name}"):
            plan = Plan(Form(), self.methods[0])
            self._tune_settings(plan)
            plan = self._tune_graph(plan)
            candidates = self._methods(plan)
            best = min(candidates, key=lambda candidate: candidate.rank)
            repairs: tuple[str, ...] = ()
            if best.scored.failures:
                best, repairs = self._repair(candidates)
        return self.shop.quantized(best.plan), self._record(best, repairs)

    def _record(self, best: Candidate, repairs: tuple[str, ...]) -> SearchRecord:
        return SearchRecord(
            method=best.plan.method.name,
            rewrites=best.plan.form.rewrites,
            repairs=repairs,
            kept_float=best.plan.keep_float,
            tuning=self.tuning,
            passed=not best.scored.failures,
            rows=len(self.trials.rows),
            trials=tuple(self.tried),
            sensitivity=self.sensitivity,
        )

    def _note(self, what: str, *, kept: bool, ratio: float | None = None, score: float | None = None, note: str = "") -> None:
        self.tried.append(
            Trial(
                what=what,
                kept=kept,
                ratio=None if ratio is None else round(ratio, 4),
                score=None if score is None else round(score, 6),
                note=note,
            )
        )
        figures = [f"{ratio:.2f}x as fast"] if ratio is not None else []
        figures += [f"{self.metric} {score:.4f}"] if score is not None else []
        self.context.progress.note(f"{self.target.name}: {what}: {', '.join([*figures, 'kept' if kept else 'not kept'])}")

    def _ratios(self, name: str, models: Sequence[tuple[Path, Target]]) -> list[float]:
        """Speed of every model but the first over the first one's."""

        def measure() -> list[float]:
            speeds = self.trials.time(models)
            return [speeds.ratio(place) for place in range(1, len(models))]

        return [
            float(ratio) for ratio in self.shop.remembered(f"{name} {[target.identity() for _, target in models]}", measure)
        ]

    def _tune_settings(self, plan: Plan) -> None:
        """Each setting alone against the target's own; those that are faster together, in their order, while it stays so."""
        file = self.shop.quantized(plan)
        options = settings_of(self.target)
        targets = [self.target.with_tuning(fields) for _, fields in options]
        ratios = self._ratios(f"settings {plan.key}", [(file, self.target), *((file, target) for target in targets)])
        ordered = sorted(zip(ratios, options, strict=True), key=lambda pair: -pair[0])
        for ratio, (what, fields) in ordered:
            kept = ratio >= FASTER
            if kept and self.tuning:
                joined = self.target.with_tuning(_joined(self.tuning, fields))
                ratio = self._ratios(f"setting {what} {plan.key}", [(file, self.tuned), (file, joined)])[0]
                kept = ratio >= FASTER
            if kept:
                self.tuning = _joined(self.tuning, fields)
            self._note(what, kept=kept, ratio=ratio)

    def _tune_graph(self, plan: Plan) -> Plan:
        """Rewrites in their order, each on top of those that were kept."""
        for rewrite in REWRITES:
            if rewrite in FOR_ONNXRUNTIME_ALONE and self.target.runtime != "onnxruntime":
                continue
            challenger = plan.with_form(rewrites=(*plan.form.rewrites, rewrite))
            try:
                files = [self.shop.quantized(plan), self.shop.quantized(challenger)]
            except EdgebertError as error:
                self._note(f"rewrite {rewrite}", kept=False, note=error.message)
                continue
            ratio = self._ratios(f"rewrite {plan.key} {challenger.key}", [(file, self.tuned) for file in files])[0]
            kept = ratio >= FASTER or (rewrite == "mask" and ratio >= 1 / FASTER)  # the others build on it
            self._note(f"rewrite {rewrite}", kept=kept, ratio=ratio)
            plan = challenger if kept else plan
        return plan

    def _methods(self, plan: Plan) -> list[Candidate]:
        """Every method that does not look at the score, on the same graph; scored and timed."""
        plans = []
        for method in self.methods:
            for settings in method.searched:
                one = Plan(plan.form, method, settings)
                try:
                    self.shop.quantized(one)
                    plans.append(one)
                except EdgebertError as error:
                    self._note(_title(one), kept=False, note=error.message)
        return self._candidates(plans, "method")

    def _candidates(self, plans: Sequence[Plan], kind: str, against: Plan | None = None) -> list[Candidate]:
        """The plans scored, and timed against one of them."""
        reference = against or plans[0]
        files = [self.shop.quantized(plan) for plan in (reference, *plans)]
        ratios = self._ratios(f"{kind} {[plan.key for plan in (reference, *plans)]}", [(file, self.tuned) for file in files])
        found = [Candidate(plan, self._score(plan), ratio) for plan, ratio in zip(plans, ratios, strict=True)]
        best = min(found, key=lambda candidate: candidate.rank)
        for candidate in found:
            self._note(
                f"{kind} {_title(candidate.plan)}",
                kept=candidate is best,
                ratio=candidate.speed,
                score=candidate.scored.metrics[self.metric],
                note="; ".join(candidate.scored.failures),
            )
        return found

    def _score(self, plan: Plan) -> Scored:
        return self.trials.score(self.shop.quantized(plan), self.tuned)

    def _repair(self, candidates: list[Candidate]) -> tuple[Candidate, tuple[str, ...]]:
        """Changes of the weights first, for they cost no time; then layers that stay float."""
        fastest = max(candidate.speed for candidate in candidates)
        candidates = [candidate for candidate in candidates if candidate.speed >= TIMED_METHODS * fastest]
        best = min(candidates, key=lambda candidate: (len(candidate.scored.failures), -candidate.scored.metrics[self.metric]))
        repairs: tuple[str, ...] = ()
        for name in WEIGHT_REPAIRS:
            plans = [c.plan.with_form(repairs=(*best.plan.form.repairs, name)) for c in candidates]
            try:
                repaired = self._candidates(plans, f"repair {name}:", against=candidates[0].plan)
            except EdgebertError as error:
                self._note(f"repair {name}", kept=False, note=error.message)
                continue
            first = min(repaired, key=lambda candidate: candidate.rank)
            if self._better(first, best):
                best, candidates, repairs = first, repaired, (*repairs, name)
            if not best.scored.failures:
                return best, repairs
        searched = best
        for scored in self._scored(best, candidates[0].plan):
            if self._better(scored, best):
                best = scored
            if not best.scored.failures:
                return best, repairs
        found = self._fall_back(searched)  # what looks at the score itself is written in another form
        return (found, (*repairs, "fallback")) if found is not searched and self._better(found, best) else (best, repairs)

    def _scored(self, best: Candidate, against: Plan) -> Iterator[Candidate]:
        """The methods that look at the score themselves: minutes each, so they come late."""
        for method in self.methods:
            if method.scored:
                try:
                    yield from self._candidates([Plan(best.plan.form, method)], "method", against=against)
                except EdgebertError as error:
                    self._note(f"method {method.name}", kept=False, note=error.message)

    def _better(self, challenger: Candidate, best: Candidate) -> bool:
        ours, theirs = challenger.scored, best.scored
        if len(ours.failures) != len(theirs.failures):
            return len(ours.failures) < len(theirs.failures)
        return ours.metrics[self.metric] > theirs.metrics[self.metric]

    def _fall_back(self, best: Candidate) -> Candidate:
        """The most sensitive products stay float, ever more of them, until the gates hold."""
        products = weighted_products(self.shop.onnx(best.plan.form))
        self.sensitivity = self._sensitivity(best.plan, products)
        by_name = {name.removesuffix("/MatMul").removesuffix("/Gemm"): name for name in products}
        order = [by_name[layer.name] for layer in self.sensitivity]
        original = best
        for count in fallback_steps(len(order)):
            plan = Plan(best.plan.form, best.plan.method, best.plan.settings, tuple(order[:count]))
            challenger = self._candidates([plan], f"fallback of {count}:", against=original.plan)[0]
            challenger.speed *= original.speed
            if self._better(challenger, best):
                best = challenger
            if not challenger.scored.failures:
                return challenger
        return best

    def _sensitivity(self, plan: Plan, products: Mapping[str, int]) -> tuple[LayerSensitivity, ...]:
        """Each product alone in INT8, most sensitive first."""
        fp32, total = self.trials.baseline(SENSITIVITY_ROWS), sum(products.values())
        found = []
        with self.context.progress.step("sensitivity of each layer", len(products)) as step:
            for name, size in products.items():
                alone = Plan(plan.form, plan.method, plan.settings, tuple(other for other in products if other != name))

                def measure(alone: Plan = alone, name: str = name, size: int = size) -> dict[str, Any]:
                    scored = self.trials.score(self.shop.quantized(alone), self.tuned, SENSITIVITY_ROWS)
                    self.shop.drop(alone)  # dozens of files, each needed once
                    return sensitivity_of(name, scored, fp32, self.metric, size / total).model_dump()

                found.append(LayerSensitivity.model_validate(self.shop.remembered(f"sensitivity {alone.key}", measure)))
                step.advance()
        return tuple(sorted(found, key=lambda layer: (-layer.lost, -layer.divergence)))


def _joined(tuning: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Both; optimisers that either switches off stay off."""
    both = {**tuning, **fields}
    if "disabled_optimizers" in tuning and "disabled_optimizers" in fields:
        both["disabled_optimizers"] = tuple(dict.fromkeys((*tuning["disabled_optimizers"], *fields["disabled_optimizers"])))
    return both


def _title(plan: Plan) -> str:
    return " ".join([plan.method.name, *(str(value) for _, value in plan.settings)])
