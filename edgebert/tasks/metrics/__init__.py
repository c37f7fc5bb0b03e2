"""The metrics of answers. Adding one: a file here, a line in ANSWER_METRICS, a test file.

A task has all metrics of its kind of prediction, in this order; the first decides where one has to. Metrics of several kinds
may share a name where people do, as `macro_f1` of labels and of sets of labels.
"""

from __future__ import annotations

from edgebert.tasks.metrics.accuracy import ACCURACY
from edgebert.tasks.metrics.agreement import AGREEMENT as AGREEMENT
from edgebert.tasks.metrics.base import AnswerMetric as AnswerMetric
from edgebert.tasks.metrics.entity_f1 import ENTITY_F1
from edgebert.tasks.metrics.extracted_answers import ANSWER_F1, EXACT_MATCH
from edgebert.tasks.metrics.fill_mask import MASK_ACCURACY, PERPLEXITY
from edgebert.tasks.metrics.label_sets import MACRO_F1_OF_SETS, MICRO_F1
from edgebert.tasks.metrics.macro_f1 import MACRO_F1
from edgebert.tasks.metrics.number_metrics import MAE, PEARSON, SPEARMAN
from edgebert.tasks.metrics.ranking import MRR_AT_10, NDCG_AT_10
from edgebert.tasks.metrics.retrieval import RECALL_AT_10, SEARCH_NDCG_AT_10
from edgebert.tasks.metrics.roc_auc import ROC_AUC
from edgebert.tasks.metrics.rouge import ROUGE_1, ROUGE_2, ROUGE_L

ANSWER_METRICS: tuple[AnswerMetric, ...] = (
    ACCURACY,
    MICRO_F1,
    MACRO_F1,
    MACRO_F1_OF_SETS,
    ROC_AUC,
    ENTITY_F1,
    SPEARMAN,
    PEARSON,
    MAE,
    MRR_AT_10,
    RECALL_AT_10,
    NDCG_AT_10,
    SEARCH_NDCG_AT_10,
    EXACT_MATCH,
    ANSWER_F1,
    ROUGE_1,
    ROUGE_2,
    ROUGE_L,
    MASK_ACCURACY,
    PERPLEXITY,
)

METRIC_NAMES = tuple(dict.fromkeys(metric.name for metric in ANSWER_METRICS))
"""The names of all metrics, each once: by their order a report says which of the scored ones decides."""


def metrics_of(kind: str) -> tuple[AnswerMetric, ...]:
    """The metrics of a kind of prediction, the deciding one first."""
    return tuple(metric for metric in ANSWER_METRICS if metric.scores(kind))
