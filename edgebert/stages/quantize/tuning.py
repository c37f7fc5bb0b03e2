"""Tuning: settings of the runtime and rewrites of the graph, of which those are kept that are faster on the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.errors import EdgebertError
from edgebert.runtimes.isa import host_cpu
from edgebert.runtimes.target import Target
from edgebert.stages.export import FOR_ONNXRUNTIME_ALONE, REWRITES
from edgebert.stages.quantize.builder import Plan
from edgebert.stages.quantize.search_log import SearchLog

FASTER = 1.005
"""Least speed-up of a change that is kept: a smaller one could be noise."""

Setting = tuple[str, dict[str, Any]]
"""(name of a setting, fields of Target)."""


def settings_of(target: Target) -> list[Setting]:
    """The runtime's settings to try for a target, without those that it has already."""
    options = _openvino(target) if target.runtime == "openvino" else _onnxruntime(target)
    return [(what, fields) for what, fields in options if joined(target, fields) != target]


def _openvino(target: Target) -> list[Setting]:
    fixed = target.length_bucket or target.padding == "max_length"
    options: list[Setting] = [] if fixed else [(f"buckets of {step} tokens", {"length_bucket": step}) for step in (4, 16)]
    return options + ([("bfloat16 beside INT8", {"precision": "bf16"})] if host_cpu().bfloat16 else [])


def _onnxruntime(target: Target) -> list[Setting]:
    options: list[Setting] = [
        ("without SkipLayerNormFusion", {"disabled_optimizers": ("SkipLayerNormFusion",)}),
        ("without BiasGeluFusion", {"disabled_optimizers": ("BiasGeluFusion",)}),
        ("denormals as zero", {"denormals_as_zero": True}),
        ("without an arena", {"arena": False}),
    ]
    if target.threads > 1:
        options.append(("threads that sleep between queries", {"spinning": False}))
        options.append((f"{target.threads // 2} of {target.threads} threads", {"threads": target.threads // 2}))
    return options


def joined(target: Target, fields: Mapping[str, Any]) -> Target:
    """The target with these fields; optimisers that it has switched off stay off."""
    off = tuple(dict.fromkeys((*target.disabled_optimizers, *fields.get("disabled_optimizers", ()))))
    return target.with_tuning({**fields, "disabled_optimizers": off})


def changes(target: Target, tuned: Target) -> dict[str, Any]:
    """Fields of a tuned target that differ from the target's own, as plain JSON."""
    ours = target.model_dump(mode="json")
    return {name: value for name, value in tuned.model_dump(mode="json").items() if value != ours[name]}


def tune_settings(log: SearchLog, plan: Plan) -> Target:
    """Times each setting alone against the target's own, then adds the faster ones, fastest first, while each still helps."""
    target, file = log.target, log.builder.quantized(plan)
    options = settings_of(target)
    models = [(file, target), *((file, joined(target, fields)) for _, fields in options)]
    alone = log.ratios(f"settings {plan.key}", models) if options else []
    tuned = target
    for ratio, (what, fields) in sorted(zip(alone, options, strict=True), key=lambda pair: -pair[0]):
        if ratio >= FASTER and tuned != target:
            both = [(file, tuned), (file, joined(tuned, fields))]
            ratio = log.ratios(f"setting {what} {plan.key}", both)[0]
        if ratio >= FASTER:
            tuned = joined(tuned, fields)
        log.note(what, kept=ratio >= FASTER, ratio=ratio)
    return tuned


def tune_graph(log: SearchLog, plan: Plan, target: Target) -> Plan:
    """Tries the rewrites in their order, each on top of those that were kept."""
    for rewrite in REWRITES:
        if rewrite in FOR_ONNXRUNTIME_ALONE and target.runtime != "onnxruntime":
            continue
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
