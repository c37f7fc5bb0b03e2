"""Which rows chose among models, and whether FP32 knew them, in sentences."""

from __future__ import annotations

import math

from edgebert.report.report import Report

SURE = 3.0
"""Standard errors by which FP32's score on the rows that chose has to exceed that on data.eval to be no chance."""
LEAST = 0.01


def selection_lines(report: Report) -> list[str]:
    """The sentences; empty where nothing was chosen by scores."""
    if report.selection is None:
        return []
    return [report.selection.sentence, *_known_rows(report)]


def _known_rows(report: Report) -> list[str]:
    """A sentence where FP32 scores so much better on the rows that chose that it was probably trained on them."""
    metric = report.task_metrics[0] if report.task_metrics else None
    for entry in report.entries:
        chosen, baseline = entry.search.baseline_score if entry.search else None, report.baseline_of(entry)
        judged = baseline.score(metric) if baseline and metric else None
        if report.selection is None or chosen is None or judged is None or report.selection.source == "data.eval":
            continue
        if chosen - judged > max(LEAST, SURE * _error(judged, report.selection.rows, report.examples)):
            return [
                f"FP32 has {metric} {chosen:.4f} on the rows that chose and {judged:.4f} on data.eval: it was probably trained "
                "on them, and a search on known rows sees too little of what INT8 costs. Give data.select rows that are new."
            ]
    return []


def _error(share: float, rows: int, examples: int) -> float:
    """Standard error of the difference of two shares near this one."""
    return math.sqrt(max(share * (1 - share), 0.0) * (1 / max(rows, 1) + 1 / max(examples, 1)))
