"""Findings on the models' answers to the same eval examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgebert.report.compare.accuracy import Difference, compare_scores, compare_shares
from edgebert.report.compare.comparable import accuracy_obstacle
from edgebert.report.compare.compared_metrics import AGREEMENT
from edgebert.report.compare.findings import CompareOptions, Finding
from edgebert.report.compare.pairing import Pair
from edgebert.report.compare.verdicts import judge_answers
from edgebert.report.entry import Entry
from edgebert.report.report import Report
from edgebert.tasks.metric import ANSWER_METRICS, Predictions


def answer_findings(ref: Report, changed: Report, pair: Pair, options: CompareOptions) -> Iterator[Finding]:
    """Findings on the task's scores and on agreement with FP32, each where at least one side has it."""
    names = [name for name in _names(ref, changed, pair) if not options.metrics or name in options.metrics]
    obstacle = accuracy_obstacle(ref, changed, pair)
    for name in names:
        values = ref.value(pair.ref, name), changed.value(pair.changed, name)
        if None in values:
            if values != (None, None):
                lacking = "REF" if values[0] is None else "CHANGED"
                reason = f"{lacking} has no {name}"
                yield Finding(metric=name, verdict="incomparable", reason=reason, ref=values[0], changed=values[1])
        elif obstacle:
            yield Finding(metric=name, verdict="incomparable", reason=obstacle, ref=values[0], changed=values[1])
        else:
            difference = _difference(ref, changed, pair, name, options.seed)
            yield _finding(name, difference, options.accuracy_band, pair)


def _names(ref: Report, changed: Report, pair: Pair) -> list[str]:
    """Names of the metrics. Agreement is left out where one of the two is FP32 itself."""
    names = list(dict.fromkeys((*ref.task_metrics, *changed.task_metrics)))
    return names if "baseline" in (pair.ref.role, pair.changed.role) else [*names, AGREEMENT]


def _difference(ref: Report, changed: Report, pair: Pair, name: str, seed: int) -> Difference:
    ours, theirs, right = _predictions(pair.ref), _predictions(pair.changed), np.array(ref.references)
    if name == "accuracy":
        return compare_shares(ours == right, theirs == right)
    if name == AGREEMENT:
        fp32 = ref.baseline_of(pair.ref), changed.baseline_of(pair.changed)
        return compare_shares(ours == _predictions(fp32[0]), theirs == _predictions(fp32[1]))
    return compare_scores(ours, theirs, right, ANSWER_METRICS[name].score, seed)


def _predictions(entry: Entry | None) -> Predictions:
    assert entry is not None and entry.predictions is not None  # a score was computed of them
    return np.array(entry.predictions)


def _finding(name: str, difference: Difference, band: float, pair: Pair) -> Finding:
    examples = len(pair.ref.predictions or ())
    same = _same_model(pair) and pair.ref.predictions == pair.changed.predictions and not difference.value
    verdict, reason = judge_answers(difference, band)
    if same:
        verdict, reason = "equivalent", "the same model gave the same answers"
    return Finding(
        metric=name,
        verdict=verdict,
        reason=reason,
        ref=difference.ref,
        changed=difference.changed,
        difference=difference.value,
        interval=(difference.low, difference.high),
        p_value=difference.p_value,
        at_worst=0.0 if same else max(-difference.low, 0.0),
        samples=(examples, examples),
        exact=same,
    )


def _same_model(pair: Pair) -> bool:
    """Whether both are the same file: equal answers of different models may be chance."""
    return pair.ref.artifact == pair.changed.artifact and pair.ref.size_bytes == pair.changed.size_bytes
