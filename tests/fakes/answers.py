"""Statistics of made-up answers: what a report holds of predictions, right answers and the predictions of FP32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgebert.core.store import hash_json
from edgebert.measure.predictions import agreement_of, statistics_of
from edgebert.report.row_statistics import RowStatistics
from edgebert.tasks import get_task

Answers = Sequence[Any]


def statistics(
    predictions: Answers | None, references: Answers, fp32: Answers = (), labels: Answers = ()
) -> dict[str, RowStatistics]:
    """Statistics of text classification; none without predictions or references, and no agreement without those of FP32."""
    if predictions is None or not references:
        return {}
    scored = statistics_of(
        get_task("text-classification"), predictions, references, labels or sorted({*predictions, *references})
    )
    return {**scored, **({"agreement": agreement_of(get_task("text-classification"), predictions, fp32)} if fp32 else {})}


def hash_of(references: Answers) -> str | None:
    """The hash of the right answers; None where there are none."""
    return hash_json(list(references)) if references else None
