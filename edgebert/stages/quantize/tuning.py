"""Tuning: settings of the runtime and rewrites of the graph, of which those are kept that are faster on the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.errors import EdgebertError
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.base import Runtime
from edgebert.runtimes.facts import Tunable
from edgebert.runtimes.target import Target
from edgebert.stages.export.onnx_graph import holding_rewrites
from edgebert.stages.quantize.builder import Plan
from edgebert.stages.quantize.search_log import SearchLog

FASTER = 1.005
"""Least speed-up of a change that is kept: a smaller one could be noise."""


def tunables_of(target: Target) -> list[Tunable]:
    """The runtime's settings to try for a target, without those that it has already."""
    return [setting for setting in get_runtime(target.runtime).tunables(target) if joined(target, setting.fields) != target]


def joined(target: Target, fields: Mapping[str, Any]) -> Target:
    """The target with these fields; what a tuple of it lists already, such as optimisers that are off, stays listed."""
    ours = target.options.model_dump()
    wanted = {
        name: tuple(dict.fromkeys((*ours.get(name, ()), *value))) if isinstance(value, tuple) else value
        for name, value in fields.items()
    }
    return target.with_tuning(wanted)


def exact(target: Target, tuned: Target) -> tuple[Target, list[str]]:
    """A tuned target without the settings that may change answers, and the names of those that it had."""
    ours, had = target.model_dump(mode="json"), []
    for setting in get_runtime(target.runtime).tunables(target):
        if setting.changes_answers and joined(target, setting.fields) != target and joined(tuned, setting.fields) == tuned:
            had.append(setting.what)
            tuned = tuned.with_tuning({name: ours[name] for name in setting.fields})
    return tuned, had


def changes(target: Target, tuned: Target) -> dict[str, Any]:
    """Fields of a tuned target that differ from the target's own, as plain JSON."""
    ours = target.model_dump(mode="json")
    return {name: value for name, value in tuned.model_dump(mode="json").items() if value != ours[name]}


def tune_settings(log: SearchLog, plan: Plan) -> Target:
    """Times each setting alone against the target's own, then adds the faster ones, fastest first, while each still helps."""
    target, file = log.target, log.builder.quantized(plan)
    options = tunables_of(target)
    models = [(file, target), *((file, joined(target, setting.fields)) for setting in options)]
    alone = log.ratios(f"settings {plan.key}", models) if options else []
    tuned = target
    for ratio, setting in sorted(zip(alone, options, strict=True), key=lambda pair: -pair[0]):
        if ratio >= FASTER and tuned != target:
            both = [(file, tuned), (file, joined(tuned, setting.fields))]
            ratio = log.ratios(f"setting {setting.what} {plan.key}", both)[0]
        if ratio >= FASTER:
            tuned = joined(tuned, setting.fields)
        log.note(setting.what, kept=ratio >= FASTER, ratio=ratio)
    return tuned


def operators_of_others(runtime: Runtime) -> frozenset[str]:
    """Rewrites whose operators only other runtimes have."""
    return frozenset().union(*(other.operators for other in RUNTIMES)) - runtime.operators


def tune_graph(log: SearchLog, plan: Plan, target: Target) -> Plan:
    """Tries the rewrites that leave the answers as they are in their order, each on top of those that were kept."""
    foreign = operators_of_others(get_runtime(target.runtime))
    held = holding_rewrites(log.context.task, log.builder.family)
    for rewrite in (rewrite for rewrite in held if rewrite not in foreign):
        challenger = plan.with_form(rewrites=(*plan.form.rewrites, rewrite))
        try:
            files = [log.builder.quantized(plan), log.builder.quantized(challenger)]
            ratio = log.ratios(f"rewrite {plan.key} {challenger.key}", [(file, target) for file in files])[0]
        except EdgebertError as error:
            log.note(f"rewrite {rewrite}", kept=False, why=error.message)
            continue
        kept = ratio >= FASTER or (rewrite == "mask" and ratio >= 1 / FASTER)  # other rewrites are only ever used with it
        log.note(f"rewrite {rewrite}", kept=kept, ratio=ratio)
        log.builder.drop(plan if kept else challenger)
        plan = challenger if kept else plan
    return plan
