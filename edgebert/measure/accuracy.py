"""Predictions on the eval set, at the deployed batch and padding."""

from __future__ import annotations

import numpy as np

from edgebert.core.progress import Step
from edgebert.data.prepared import PreparedData
from edgebert.errors import StageError
from edgebert.runtimes.base import Session
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target

BATCHES_AT_ONCE = 256
"""Tokenised together; more would only hold more of the data set in memory."""


def predict_all(session: Session, serving: Serving, data: PreparedData, target: Target, step: Step) -> list[int]:
    """One prediction for each example, in order.

    Raises:
        StageError: the model answers NaN or infinity.
    """
    predictions: list[int] = []
    tokenizer = serving.open_tokenizer()
    for rows in data.blocks(target.batch * BATCHES_AT_ONCE):
        for batch in serving.batches(serving.encode(tokenizer, rows), target):
            outputs = session.predict(batch)
            if not all(np.isfinite(value).all() for value in outputs.values()):
                raise StageError(
                    f"The model answers NaN or infinity on eval example {len(predictions) + 1}.",
                    hint="Quantised: try another method. FP32: the weights or the export are damaged.",
                )
            predictions += [int(value) for value in serving.task.predict(outputs)]
            step.advance(len(batch["input_ids"]))
    return predictions
