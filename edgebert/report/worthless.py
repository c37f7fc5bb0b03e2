"""A baseline that is worthless: a share of its score proves nothing, so that every candidate fails, with the reason.

A recipe that sets an absolute bound itself has said what is enough: any bound on `unknown_share`, and on a metric of answers
a `min` of 0, which asks for nothing, or one above what guessing reaches. A `min` between the two is held by guessing as well.
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
    if reason is None or any(_says_what_is_enough(gate, report) for gate in report.gates):
        return None
    metric = report.task_metrics[0]
    return GateResult(Gate(metric=metric, min=report.guess[metric].value()), False, reason)


def _says_what_is_enough(gate: Gate, report: Report) -> bool:
    """Whether a gate on a metric of answers asks for nothing, or for more than the commonest answer to every text reaches."""
    if gate.metric not in report.task_metrics or gate.min is None:
        return False
    guess = report.guess[gate.metric].value() if gate.metric in report.guess else None
    return gate.min <= 0 or guess is None or gate.min > guess


def _does_not_read(report: Report, baseline: Entry) -> GateResult | None:
    share = baseline.texts.unknown_share if baseline.texts else 0.0
    if share < HALF or any(gate.metric == "unknown_share" for gate in report.gates):
        return None
    reason = f"FP32 does not read these texts: {share:.0%} of their tokens are unknown to its tokenizer"
    return GateResult(Gate(metric="unknown_share", max=HALF), False, reason)
