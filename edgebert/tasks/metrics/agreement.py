"""agreement: the share of the examples on which a candidate predicts what FP32 predicts, whatever the kind of prediction."""

from __future__ import annotations

from edgebert.tasks.metrics.accuracy import equal
from edgebert.tasks.metrics.base import AnswerMetric

AGREEMENT = AnswerMetric(
    name="agreement",
    title="agree",
    meaning="share of eval examples on which the candidate predicts what FP32 predicts",
    of="",
    reduction="mean",
    statistics=equal,
)
