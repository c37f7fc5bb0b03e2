"""The one scoring loop: a model's predictions for rows of text, at the batch and padding that it is deployed with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edgebert.core.progress import ProgressStep
from edgebert.errors import StageError
from edgebert.runtimes.base import Array, Session
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Row

BATCHES_AT_ONCE = 256
"""Batches tokenised together; more would only hold more of the data set in memory."""


def predict_rows(
    session: Session,
    serving: Serving,
    blocks: Iterable[Sequence[Row]],
    target: Target,
    step: ProgressStep,
    *,
    name: str,
    whole_batches: bool = False,
) -> list[int]:
    """One prediction for each row, in order.

    Args:
        blocks: the rows, `target.batch * BATCHES_AT_ONCE` of them in each block but the last.
        name: the model's name, for messages.
        whole_batches: fill the last batch up with its last row, for a graph that takes no other number.

    Raises:
        StageError: the model answers NaN or infinity.
    """
    predictions: list[int] = []
    tokenizer = serving.open_tokenizer()
    for rows in blocks:
        encoded = serving.encode(tokenizer, rows)
        filling = -len(encoded) % target.batch if whole_batches else 0
        for batch in serving.batches([*encoded, *encoded[-1:] * filling], target):
            outputs = session.predict(batch)
            _check_finite(outputs, name, len(predictions))
            predictions += [int(value) for value in serving.task.predict(outputs)]
            step.advance(len(batch["input_ids"]))
        del predictions[len(predictions) - filling :]
    return predictions


def _check_finite(outputs: Mapping[str, Array], name: str, done: int) -> None:
    strange = [np.atleast_1d(~np.isfinite(value)) for value in outputs.values()]
    if rows := [int(np.argwhere(mask)[0, 0]) for mask in strange if mask.any()]:
        raise StageError(
            f"{name} answers NaN or infinity, first on row {done + min(rows) + 1} of the data.",
            hint="Quantised: try another method. FP32: the weights or the export are damaged.",
        )
