"""What a model answers to a labelled file, at the batch and padding that it is measured at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgebert.core.progress import Progress
from edgebert.core.quiet import quiet_libraries
from edgebert.errors import DataError, InputError, StageError
from edgebert.measure.bench.models import Subject
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task
from edgebert.tasks.base import Row


def references(rows: Sequence[Row], subject: Subject) -> tuple[int, ...]:
    """The right label of each row, as its place among the subject's labels.

    Raises:
        InputError: the subject's labels are not known.
        DataError: a label is not one of them.
    """
    if subject.task is None or not subject.labels or subject.serving is None:
        hint = "--label needs a classifier with its config.json and its tokenizer; drop it to measure latency alone."
        raise InputError(f"{subject.name} does not say what its answers mean.", hint=hint)
    task = get_task(subject.task)
    places = []
    for number, row in enumerate(rows, start=1):
        place = task.label_index(row["label"], subject.labels)
        if place is None:
            known = ", ".join(subject.labels)
            raise DataError(
                f"Row {number} has the label {row['label']!r}; {subject.name} knows {known}.", hint="Correct the row."
            )
        places.append(place)
    return tuple(places)


def predict(
    subject: Subject, target: Target, rows: Sequence[Row], progress: Progress, *, whole_batches: bool = False
) -> tuple[int, ...]:
    """One prediction for each row, in order.

    Args:
        whole_batches: the last batch is filled up with its last text, for a graph that takes no other number.

    Raises:
        StageError: the model answers NaN or infinity.
    """
    serving = subject.serving
    assert serving is not None  # `references` saw to it
    found: list[int] = []
    encoded = serving.encode(serving.open_tokenizer(), rows)
    encoded += [encoded[-1]] * (-len(encoded) % target.batch if whole_batches else 0)
    with progress.step(f"predict with {subject.name}", len(rows)) as step, quiet_libraries():
        session = get_runtime(target.runtime).open(subject.model, target)
        for batch in serving.batches(encoded, target):
            outputs = session.predict(batch)
            if not all(np.isfinite(value).all() for value in outputs.values()):
                raise StageError(f"{subject.name} answers NaN or infinity, at row {len(found) + 1} at the latest.")
            found += [int(value) for value in serving.task.predict(outputs)]
            step.advance(len(batch["input_ids"]))
    return tuple(found[: len(rows)])
