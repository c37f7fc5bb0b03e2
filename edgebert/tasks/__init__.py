"""The tasks. Adding one: a file here, a line in TASKS, a test file; the contract tests find it."""

from __future__ import annotations

from edgebert.tasks.base import Task
from edgebert.tasks.metric import metrics_of
from edgebert.tasks.text_classification import TextClassification

TASKS: tuple[Task, ...] = (TextClassification(),)


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: there is none, as in a report that a newer edgebert wrote.
    """
    metrics_of(name)
    return next(task for task in TASKS if task.name == name)
