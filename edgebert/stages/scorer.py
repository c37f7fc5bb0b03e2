"""Scorer: the task's first metric on the rows that choose, for quantisation methods that measure it while they work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.data.labels import right_answers
from edgebert.data.prepared import PreparedData
from edgebert.measure.predictions import Predict
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Array, Batch, Encoded, Row, Task, collate, split_outputs
from edgebert.tasks.reductions import reduce_rows


def score_of(
    task: Task, predictions: Sequence[Any], references: Sequence[Any], labels: Sequence[Any], metric: str | None = None
) -> float:
    """The value of one of the task's metrics over all examples.

    Args:
        metric: its name; None: the first.
    """
    chosen = next(one for one in task.metrics if metric in (None, one.name))
    return reduce_rows(chosen.reduction, chosen.statistics(predictions, references, labels))


@dataclass(frozen=True)
class Scorer:
    """The tokenised rows that choose, with the right answer to each row."""

    task: Task
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    encoded: tuple[Encoded, ...]
    references: tuple[Any, ...]

    @classmethod
    def of(cls, serving: Serving, data: PreparedData) -> Scorer:
        """The scorer of a data set, tokenised as the model is served."""
        rows = data.rows()
        encoded = serving.encode(serving.open_tokenizer(), rows)
        right = right_answers(data, serving.task, serving.labels)
        return cls(serving.task, serving.labels, tuple(rows), tuple(encoded), tuple(right))

    def batches(self) -> Iterator[Batch]:
        """Each window alone and unpadded: padding would enter the ranges of activations."""
        for item in self.encoded:
            yield collate([item], length=len(item), pad_id=0)

    def __call__(self, predict: Predict) -> float:
        """Score of a predictor on all rows."""
        return self.score([predict(batch) for batch in self.batches()])

    def score(self, outputs: Sequence[Mapping[str, Array]]) -> float:
        """Score of the outputs for the first batches, in order; rows of which windows are missing do not count.

        NNCF asks for the first batch alone, to try the function, and for all.
        """
        count = len(outputs)
        whole = self.encoded[count].row if count < len(self.encoded) else len(self.rows)
        encoded = [item for item in self.encoded[:count] if item.row < whole]
        found = [split_outputs(self.task, answer, [item])[0] for answer, item in zip(outputs, encoded, strict=False)]
        predictions = self.task.decode(found, encoded, self.rows[:whole], self.labels)
        return score_of(self.task, predictions, self.references[:whole], self.labels)
