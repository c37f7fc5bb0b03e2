"""A baseline that is worthless: a share of its score proves nothing, so that every candidate fails, with the reason.

A recipe that sets an absolute bound itself, `min` on a metric of answers or any on `unknown_share`, has said what is enough.
"""

from __future__ import annotations

from edgebert.report.entry import Entry
from edgebert.report.gates import Gate, GateResult
from edgebert.report.report import Report

HALF = 0.5
"""Share of unknown tokens from which on a model does not read its texts."""


def worthless(report: Report, baseline: Entry | None) -> list[GateResult]:
    """A failed gate for each reason why the baseline's answers are worth nothing; empty for one that answers, or was not
    scored."""
    if baseline is None:
        return []
    found = [_no_better_than_guessing(report, baseline), _does_not_read(report, baseline)]
    return [result for result in found if result is not None]


def guessing_reason(report: Report, baseline: Entry) -> str | None:
    """Why FP32 is no better than an answer without a model; None where it is better, or was not scored."""
    metric = next(iter(report.task_metrics), None)
    if metric is None or metric not in report.guess:
        return None
    score, guess = baseline.score(metric), report.guess[metric].value()
    if score is None or guess is None or score > guess:
        return None
    return (
        f"FP32 is worthless here: its {metric} of {score:.4g} is no better than {guess:.4g}, that of the same commonest answer "
        "to every text. Are its labels in the right order, its texts of the right language, its weights fine-tuned?"
    )


def _no_better_than_guessing(report: Report, baseline: Entry) -> GateResult | None:
    reason = guessing_reason(report, baseline)
    if reason is None or any(gate.metric in report.task_metrics and gate.min is not None for gate in report.gates):
        return None
    metric = report.task_metrics[0]
    return GateResult(Gate(metric=metric, min=report.guess[metric].value()), False, reason)


def _does_not_read(report: Report, baseline: Entry) -> GateResult | None:
    share = baseline.texts.unknown_share if baseline.texts else 0.0
    if share < HALF or any(gate.metric == "unknown_share" for gate in report.gates):
        return None
    reason = f"FP32 does not read these texts: {share:.0%} of their tokens are unknown to its tokenizer"
    return GateResult(Gate(metric="unknown_share", max=HALF), False, reason)
