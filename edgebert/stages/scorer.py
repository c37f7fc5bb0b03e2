"""Scorer: the task's first metric on the eval set, for quantisation methods that measure it while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgebert.data.prepared import PreparedData, label_indices
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Array, Batch, Encoded, Task, collate

Predict = Callable[[Batch], Mapping[str, Array]]
"""A batch as `Session.predict` takes it -> output name -> array."""


@dataclass(frozen=True)
class Scorer:
    """The tokenised eval set, with each row's label as an index among the model's labels."""

    task: Task
    encoded: tuple[Encoded, ...]
    references: tuple[int, ...]

    @classmethod
    def of(cls, serving: Serving, data: PreparedData) -> Scorer:
        """The scorer of a data set, tokenised as the model is served."""
        tokenizer = serving.open_tokenizer()
        encoded = [item for rows in data.blocks() for item in serving.encode(tokenizer, rows)]
        return cls(serving.task, tuple(encoded), tuple(label_indices(data, serving.task, serving.labels)))

    def batches(self) -> Iterator[Batch]:
        """Each example alone and unpadded: padding would enter the ranges of activations."""
        for item in self.encoded:
            yield collate([item], length=len(item), pad_id=0)

    def __call__(self, predict: Predict) -> float:
        """Score of a predictor on the whole eval set."""
        return self.score([predict(batch) for batch in self.batches()])

    def score(self, outputs: Sequence[Mapping[str, Array]]) -> float:
        """Score of the outputs for the first batches, in order."""
        predictions = np.concatenate([self.task.predict(answer) for answer in outputs])
        return self.task.score(self.task.metrics[0], predictions, np.asarray(self.references[: len(predictions)]))
