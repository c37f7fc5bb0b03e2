"""Findings on the models' answers to the same eval examples."""

from __future__ import annotations

from collections.abc import Iterator

from edgebert.report.compare.accuracy import Difference, as_gain, compare_scores, compare_shares
from edgebert.report.compare.comparable import accuracy_obstacle
from edgebert.report.compare.findings import CompareOptions, Finding
from edgebert.report.compare.pairing import Pair
from edgebert.report.compare.verdicts import judge_answers
from edgebert.report.metric_table import METRICS
from edgebert.report.report import Report
from edgebert.report.row_statistics import RowStatistics
from edgebert.tasks.metrics import AGREEMENT


def answer_findings(ref: Report, changed: Report, pair: Pair, options: CompareOptions) -> Iterator[Finding]:
    """Findings on the task's scores and on agreement with FP32, each where at least one side has it."""
    names = [name for name in _names(ref, changed, pair) if not options.metrics or name in options.metrics]
    obstacle = accuracy_obstacle(ref, changed, pair)
    for name in names:
        values = pair.ref.score(name), pair.changed.score(name)
        if None in values:
            if values != (None, None):
                lacking = "REF" if values[0] is None else "CHANGED"
                reason = f"{lacking} has no {name}"
                yield Finding(metric=name, verdict="incomparable", reason=reason, ref=values[0], changed=values[1])
        elif apart := obstacle or _other_statistics(pair, name) or _other_function(ref, changed, name):
            yield Finding(metric=name, verdict="incomparable", reason=apart, ref=values[0], changed=values[1])
        else:
            less = name in ref.less_is_better or (name in METRICS and METRICS[name].less_is_better)
            yield _finding(name, pair, options, less_is_better=less)


def _other_statistics(pair: Pair, name: str) -> str | None:
    """Why a metric's statistics cannot be compared, as of reports of versions that compute it in two ways; else None."""
    ours, theirs = (entry.statistics[name].reduction for entry in (pair.ref, pair.changed))
    return None if ours == theirs else f"{name} is computed in another way: {ours} -> {theirs}"


def _other_function(ref: Report, changed: Report, name: str) -> str | None:
    """Why values of a metric of the user's own cannot be compared: its functions are of other files; else None."""
    ours, theirs = (report.metric_sources.get(name) for report in (ref, changed))
    return None if ours == theirs else f"the file of {name} is not the same for both: it may compute something else"


def _names(ref: Report, changed: Report, pair: Pair) -> list[str]:
    """Names of the metrics. Agreement is left out where one of the two is FP32 itself."""
    names = list(dict.fromkeys((*ref.task_metrics, *changed.task_metrics)))
    return names if "baseline" in (pair.ref.role, pair.changed.role) else [*names, AGREEMENT.name]


def _difference(ref: RowStatistics, changed: RowStatistics, seed: int) -> Difference:
    if ref.of_shares and changed.of_shares:
        return compare_shares(ref.columns[0].values == 1, changed.columns[0].values == 1)
    return compare_scores(ref, changed, seed)


def _finding(name: str, pair: Pair, options: CompareOptions, *, less_is_better: bool) -> Finding:
    ref, changed = pair.ref.statistics[name], pair.changed.statistics[name]
    difference = _difference(ref, changed, options.seed)
    same = _same_model(pair) and ref == changed
    gain = as_gain(difference) if less_is_better else difference
    verdict, reason = judge_answers(gain, options.accuracy_band)
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
        at_worst=0.0 if same else max(-gain.low, 0.0),
        samples=(ref.examples, changed.examples),
        exact=same,
    )


def _same_model(pair: Pair) -> bool:
    """Whether both are the same file: equal answers of different models may be chance."""
    return pair.ref.artifact == pair.changed.artifact and pair.ref.size_bytes == pair.changed.size_bytes
