"""score: a metric of a torch model on a data set, for pruning that stops at a gate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edgebert.data.prepared import PreparedData, label_indices
from edgebert.runtimes.serving import Serving
from edgebert.stages.examples import Examples

BATCH = 32


def score(model: Any, data: PreparedData, serving: Serving, metric: str | None = None) -> float:
    """Of all rows, in FP32.

    Args:
        metric: one of the task's; None: its first.
    """
    examples, task = Examples((data,), serving), serving.task
    references = np.array(label_indices(data, task, serving.labels))
    order = sorted(range(len(data)), key=lambda index: (examples.lengths[index], index))
    predictions = np.zeros(len(data), dtype=np.int64)
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            indices = order[start : start + BATCH]
            batch = examples.batch(indices)
            batch.pop("labels")
            found = model(**batch)
            predictions[indices] = task.predict({name: found[name].numpy() for name in task.outputs})
    return task.score(metric or task.metrics[0], predictions, references)
