"""The tasks. Adding one: a file here, a line in TASKS, a test file; the contract tests find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.errors import InputError
from edgebert.tasks.base import Task
from edgebert.tasks.embedding import Embedding
from edgebert.tasks.extractive_summarisation import ExtractiveSummarisation
from edgebert.tasks.fill_mask import FillMask
from edgebert.tasks.multi_label_classification import MultiLabelClassification
from edgebert.tasks.options import TaskOptions
from edgebert.tasks.question_answering import QuestionAnswering
from edgebert.tasks.regression import Regression
from edgebert.tasks.reranking import Reranking
from edgebert.tasks.text_classification import TextClassification
from edgebert.tasks.token_classification import TokenClassification
from edgebert.tasks.zero_shot_classification import ZeroShotClassification

TASKS: tuple[Task, ...] = (
    TextClassification(),
    MultiLabelClassification(),
    Regression(),
    TokenClassification(),
    QuestionAnswering(),
    ExtractiveSummarisation(),
    Reranking(),
    ZeroShotClassification(),
    Embedding(),
    FillMask(),
)


def get_task(name: str, options: TaskOptions | Mapping[str, Any] | None = None) -> Task:
    """The task of that name.

    Args:
        options: its options, or as JSON values those that are not at their defaults; None: the defaults.

    Raises:
        InputError: there is none, or it has no such options, as in a report that a newer edgebert wrote.
    """
    for task in TASKS:
        if task.name == name:
            return task if not options else _configured(task, options)
    hint = f"Known: {', '.join(task.name for task in TASKS)}. Update it: pip install --upgrade edgebert"
    raise InputError(f"This edgebert knows no task {name!r}.", hint=hint)


def _configured(task: Task, options: TaskOptions | Mapping[str, Any]) -> Task:
    try:
        return task.configured(options)
    except ValueError as error:
        hint = "Update it: pip install --upgrade edgebert"
        raise InputError(f"This edgebert does not know these options of {task.name}: {error}", hint=hint) from None
