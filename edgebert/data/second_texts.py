"""Second texts of pairs that nobody reads: a model of pairs that is asked about first texts alone still scores, only lower."""

from __future__ import annotations

from pathlib import Path

from edgebert.data.checked_rows import file_column
from edgebert.data.prepared import data_path, set_name
from edgebert.data.readers import read_rows
from edgebert.data.spec import DataSpec
from edgebert.tasks.base import Task

SECOND = ("sentence2", "hypothesis", "question2", "text2", "text_b", "sentence_b", "sent2", "passage")
"""Names that data sets of pairs give the second text."""


def unread_second_text(spec: DataSpec, role: str, *, base: Path, task: Task) -> str | None:
    """A sentence about a column of second texts that nobody reads; None where there is none, or the set is no file.

    Args:
        role: the role of the data set, which names it.
        base: the folder that relative paths count from.
    """
    optional = next((column for column in task.columns if column.kind == "text" and not column.required), None)
    if optional is None or not spec.path:
        return None
    present = next(iter(read_rows(spec, data_path(spec, base))), {})
    found = {file_column(column, spec, tuple(present)) for column in task.columns}
    second = next((name for name in SECOND if name in present and name not in found), None)
    if second is None or file_column(optional, spec, tuple(present)) in present:
        return None
    return (
        f"{set_name(spec, role, base)} has a column `{second}` that is not read. "
        f"Where the model was made for pairs: columns: {{{optional.name}: {second}}}"
    )
