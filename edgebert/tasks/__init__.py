"""The tasks. Adding one: a file here, a line in TASKS, a test file; the contract tests find it."""

from __future__ import annotations

from edgebert.errors import InputError
from edgebert.tasks.base import Task
from edgebert.tasks.text_classification import TextClassification

TASKS: tuple[Task, ...] = (TextClassification(),)


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: there is none, as in a report that a newer edgebert wrote.
    """
    found = next((task for task in TASKS if task.name == name), None)
    if found is None:
        known = ", ".join(task.name for task in TASKS)
        raise InputError(
            f"This edgebert knows no task {name!r}.", hint=f"Known: {known}. Update it: pip install --upgrade edgebert"
        )
    return found
