"""What makes the scores of a report doubtful, as text: a worthless baseline, unknown tokens, texts that were cut."""

from __future__ import annotations

from edgebert.report.report import Report
from edgebert.report.verdict import Verdict
from edgebert.report.worthless import guessing_reason


def concern_lines(report: Report, verdict: Verdict) -> list[str]:
    """A sentence for each concern about the best candidate and its baseline; empty where there is none.

    What the verdict already gives as a reason is not said again.
    """
    best = verdict.best.entry
    baseline = report.baseline_of(best)
    said = {result.reason for result in verdict.best.results}
    guessing = guessing_reason(report, baseline) if baseline else None
    lines = [guessing] if guessing and guessing not in said else []
    for entry in (baseline, best):
        lines += entry.texts.concerns() if entry and entry.texts else []
    return list(dict.fromkeys(lines))
