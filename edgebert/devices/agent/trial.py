"""Trial: every variant that can run here answers the goldens, is measured in fresh processes, and is judged by the bundle's
own gates.

Accuracy comes from the bundle's report: answers do not change from one machine to the next, as the goldens show. Latency and
memory are measured here. The report that is judged and sent to the workstation is the bundle's own with the measurements and
environment of this device; a metric that could not be measured here fails its gate.

INT8 coverage and the roofline ratio need packages that a device does not have. Their gates keep the result of the machine that
made the bundle, for a variant that failed there passes nowhere, and the report from here has neither. So do gates on times
relative to FP32 where FP32 is not in the bundle, because a stage changed its tokenizer; its answers are in the report.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgebert.bundle.manifest import BundleManifest, ManifestEntry
from edgebert.bundle.opened import OpenBundle
from edgebert.bundle.read import open_bundle_folder
from edgebert.bundle.self_test import golden_inputs, obstacle
from edgebert.core.progress import Progress
from edgebert.devices.agent.protocol import Tried, VariantTrial
from edgebert.devices.agent.self_test import State, self_test
from edgebert.errors import BundleError, EdgebertError, InputError
from edgebert.measure.bench.models import ModelRequest, find_models
from edgebert.measure.bench.queries import QuerySource
from edgebert.measure.bench.run import run
from edgebert.measure.bench.sweep import BenchOptions, Planned, make_plan
from edgebert.report.entry import SAMPLES_FOR, Entry
from edgebert.report.file import NAME, read_report
from edgebert.report.gates import Gate
from edgebert.report.metric_table import metric_named
from edgebert.report.report import Report
from edgebert.report.verdict import JudgedEntry, judge

PERCENTILE = re.compile(r"p\d+_ms")
NOT_MEASURED = ("int8_coverage", "roofline_ratio")
"""Metrics that are not measured on a device."""


@dataclass(frozen=True)
class VariantOutcome:
    """Results of all variants."""

    tried: tuple[Tried, ...]
    chosen: ManifestEntry | None
    """The fastest variant that passed."""
    p50_ms: float | None
    report: Report | None
    """None where nothing could be measured."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why no variant was chosen."""
        return () if self.chosen else tuple(f"{item.variant}: {item.reason}" for item in self.tried)


def hold_trial(folder: Path, manifest: BundleManifest, device: str, trial: VariantTrial, progress: Progress) -> VariantOutcome:
    """Tries a bundle that was read and checked.

    Raises:
        BundleError: its report is missing or damaged, or its tokenizer makes other tokens here.
        StageError: a measuring process failed.
    """
    with open_bundle_folder(folder) as bundle:
        shipped = _report_of(bundle)
        golden_inputs(bundle.serving, bundle.open_tokenizer(), bundle.manifest)
    trial = enough(trial, shipped.gates)
    tested = _self_tests(folder, manifest, progress)
    usable = [variant for variant in manifest.variants if tested[variant.name][0] == "ok"]
    plan, faults = _plan(folder, usable, trial, progress)
    if not plan:
        return VariantOutcome(tuple(_untried(variant, tested, faults) for variant in manifest.variants), None, None, None)
    outcome = run(plan, _options(trial), QuerySource(None, 0), progress)
    if outcome.fault:
        raise outcome.fault
    report = _merged(shipped, outcome.report, manifest, device)
    judged = {item.entry.name: item for item in judge(report).judged_entries} if report.candidates() else {}
    entries = {entry.name: entry for entry in report.entries}
    tried = tuple(
        _tried(variant, tested[variant.name][0], entries[variant.name], judged.get(variant.name))
        if variant.name in entries
        else _untried(variant, tested, faults)
        for variant in manifest.variants
    )
    passed = [item for item in tried if item.passed]
    best = min(passed, key=lambda item: _rank(item, manifest.selected), default=None)
    return VariantOutcome(tried, manifest.variant(best.variant) if best else None, best.p50_ms if best else None, report)


def enough(trial: VariantTrial, gates: Sequence[Gate]) -> VariantTrial:
    """The trial with enough queries for the median, which decides on the fastest variant, and for the gates' percentiles."""
    percents = {50, *(int(gate.metric[1:-3]) for gate in gates if PERCENTILE.fullmatch(gate.metric))}
    samples = max(SAMPLES_FOR[percent] for percent in percents)
    return trial.model_copy(update={"queries": max(trial.queries, math.ceil(samples / trial.rounds))})


def _report_of(bundle: OpenBundle) -> Report:
    if NAME not in bundle.manifest.files:
        raise BundleError(f"The bundle's gates cannot be judged, for it has no {NAME}.")
    held = bundle.held(NAME)
    try:
        return read_report(held)
    except InputError as error:
        reason = error.message.replace(str(held), str(bundle.folder / NAME))
        raise BundleError(f"The bundle's gates cannot be judged, for its report cannot be used: {reason}") from error


def _self_tests(folder: Path, manifest: BundleManifest, progress: Progress) -> dict[str, tuple[State, str]]:
    states: dict[str, tuple[State, str]] = {}
    with progress.step("self-test", len(manifest.variants)) as step:
        for variant in manifest.variants:
            reason = obstacle(variant)
            states[variant.name] = ("untested", reason) if reason else self_test(folder, variant)
            step.advance()
    return states


def _options(trial: VariantTrial) -> BenchOptions:
    return BenchOptions(queries=trial.queries, rounds=trial.rounds, warmup=trial.warmup)


def _plan(
    folder: Path, variants: Sequence[ManifestEntry], trial: VariantTrial, progress: Progress
) -> tuple[list[Planned], dict[str, str]]:
    """The measurements of all variants that can be measured, and name -> fault of the others."""
    models = find_models(str(folder), ModelRequest(tuple(item.name for item in variants)), progress) if variants else []
    baselines = {item.name for item in variants if item.role == "baseline"}
    plan: list[Planned] = []
    faults: dict[str, str] = {}
    for model in models:
        role: Literal["baseline", "candidate"] = "baseline" if model.name in baselines else "candidate"
        try:
            plan += make_plan([(model, role)], _options(trial), QuerySource(None, 0), progress)
        except EdgebertError as error:
            faults[model.name] = error.message
    return plan, faults


def _merged(shipped: Report, here: Report, manifest: BundleManifest, device: str) -> Report:
    """The bundle's report with the measurements of this device in place of those of the machine that made it."""
    known = {entry.name: entry for entry in shipped.entries}
    measured = sorted(here.entries, key=lambda entry: (entry.role != "baseline", entry.name != manifest.selected))
    absent = [
        _without_times(entry) for entry in shipped.entries if entry.role == "baseline" and not manifest.variant(entry.name)
    ]
    entries = [_merged_entry(known.get(entry.name), entry) for entry in measured]
    if absent:
        entries = [*absent, *(_of_a_cut_model(entry) for entry in entries)]
    return shipped.model_copy(
        update={
            "edgebert_version": here.edgebert_version,
            "recipe": f"{manifest.name} on {device}",
            "environment": here.environment,
            "gates": tuple(gate for gate in shipped.gates if gate.metric not in NOT_MEASURED and _judged_here(gate, absent)),
            "entries": tuple(entries),
            "command": None,
        }
    )


def _without_times(entry: Entry) -> Entry:
    """An entry that is not measured here: what the machine that made it timed says nothing about this one."""
    return entry.model_copy(update={"rounds": (), "coverage": None})


def _of_a_cut_model(entry: Entry) -> Entry:
    """An entry beside an absent FP32, which a cut model's FP32 graph does not stand for."""
    return entry.model_copy(update={"role": "intermediate"}) if entry.role == "baseline" else entry


def _judged_here(gate: Gate, absent: Sequence[Entry]) -> bool:
    """Whether a gate can be judged on a device, given the baselines that are not in the bundle."""
    metric = metric_named(gate.metric)
    against_fp32 = metric.gate == "relative" or gate.bound[0] not in ("min", "max")
    return not against_fp32 or all(metric.value(entry, entry) is not None for entry in absent)


def _merged_entry(shipped: Entry | None, here: Entry) -> Entry:
    """An entry of the bundle's report with the times of this device. Without one there are no answers to judge."""
    if shipped is None or shipped.artifact != here.artifact:
        return here
    changes = {name: getattr(here, name) for name in ("target", "rounds", "setting", "tokenizer")}
    return shipped.model_copy(update={**changes, "coverage": None})


def _tried(variant: ManifestEntry, state: State, entry: Entry, judged: JudgedEntry | None) -> Tried:
    times = {"variant": variant.name, "self_test": state, "p50_ms": entry.percentile_ms(50), "p90_ms": entry.percentile_ms(90)}
    if variant.role == "baseline" or judged is None:
        reason = "FP32, which the others are compared with" if entry.role == "baseline" else "FP32 of the model that was cut"
        return Tried(**times, passed=False, reason=reason)
    if variant.status != "PASSED":
        return Tried(**times, passed=False, reason=f"it failed where it was made: {'; '.join(variant.reasons) or 'no reason'}")
    reasons = judged.failures or tuple(result.reason for result in judged.results)
    return Tried(**times, passed=judged.passed, reason="; ".join(reasons) or "it has no gates to hold")


def _untried(variant: ManifestEntry, tested: dict[str, tuple[State, str]], faults: dict[str, str]) -> Tried:
    state, reason = tested[variant.name]
    reason = faults.get(variant.name, reason)
    return Tried(variant=variant.name, self_test=state, p50_ms=None, p90_ms=None, passed=False, reason=reason)


def _rank(item: Tried, selected: str) -> tuple[float, bool]:
    """Sort key: the fastest first; of two equal ones, the variant that the bundle selects."""
    return (item.p50_ms if item.p50_ms is not None else float("inf"), item.variant != selected)
