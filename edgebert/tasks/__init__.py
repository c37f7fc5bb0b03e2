"""The tasks. Adding one: a file here, a line in TASKS, a test file; the contract tests find it."""

from __future__ import annotations

from edgebert.errors import InputError
from edgebert.tasks.base import Task
from edgebert.tasks.text_classification import TextClassification
from edgebert.tasks.token_classification import TokenClassification

TASKS: tuple[Task, ...] = (TextClassification(), TokenClassification())


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: there is none, as in a report that a newer edgebert wrote.
    """
    for task in TASKS:
        if task.name == name:
            return task
    hint = f"Known: {', '.join(task.name for task in TASKS)}. Update it: pip install --upgrade edgebert"
    raise InputError(f"This edgebert knows no task {name!r}.", hint=hint)
