"""Makes the queries of a job from its rows, and people's answers from outputs."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.measure.latency.scenarios import Query, Text
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task
from edgebert.tasks.base import Array, Encoded, collate

if TYPE_CHECKING:
    from edgebert.measure.latency.job import RoundJob


class QueryMaker:
    """Tokenises and collates rows as the job's model is served; token ids are only collated."""

    def __init__(self, job: RoundJob) -> None:
        """Opens the tokenizer.

        Raises:
            BundleError: the file is not a tokenizer.
        """
        self._target: Target = job.target
        self._max_length, self._pad_id = job.max_length, job.pad_id
        self._serving: Serving | None = None
        if job.tokenizer is not None and job.task is not None:
            self._serving = Serving(get_task(job.task), job.labels, job.max_length, job.pad_id, Path(job.tokenizer))
            self._tokenizer = self._serving.open_tokenizer()

    @property
    def reads_text(self) -> bool:
        """Whether rows are text, and not token ids."""
        return self._serving is not None

    def encode(self, rows: Sequence[Any]) -> list[Encoded]:
        """Tokenises rows."""
        if self._serving is None:
            return [Encoded(tuple(ids), (0,) * len(ids)) for ids in rows]
        return self._serving.encode(self._tokenizer, rows)

    def query(self, texts: Sequence[Text]) -> Query:
        """One query of tokenised texts, in batches of the target."""
        size = self._target.batch
        groups = [[encoded for _, encoded in texts[start : start + size]] for start in range(0, len(texts), size)]
        return Query(tuple(map(self._batch, groups)), tuple(texts))

    def query_of(self, rows: Sequence[Any]) -> Query:
        """One query, made from its rows."""
        return self.query(list(zip(rows, self.encode(rows), strict=True)))

    def texts(self, rows: Sequence[Any], at_once: int) -> tuple[list[Text], list[int]]:
        """All rows tokenised, and the nanoseconds of each `at_once` of them; no times for token ids."""
        encoded: list[Encoded] = []
        times: list[int] = []
        for start in range(0, len(rows), at_once):
            before = time.perf_counter_ns()
            block = self.encode(rows[start : start + at_once])
            times.append(time.perf_counter_ns() - before)
            encoded += block
        return list(zip(rows, encoded, strict=True)), times if self.reads_text else []

    def queries(self, texts: Sequence[Text], at_once: int) -> list[Query]:
        """Queries of `at_once` texts each."""
        return [self.query(texts[start : start + at_once]) for start in range(0, len(texts), at_once)]

    def answer(self, outputs: Mapping[str, Array]) -> None:
        """Turns a batch's outputs into answers for people: labels, or their numbers where the job names too few.

        Does nothing where the outputs are not the task's: other names, or a shape that is not (texts, classes), as of a
        graph that labels each token.
        """
        if self._serving is None or not set(self._serving.task.outputs) <= set(outputs):
            return
        task, labels = self._serving.task, self._serving.labels
        shape = outputs[task.outputs[0]].shape
        if len(shape) != 2 or not shape[1]:
            return
        classes = shape[1]
        task.answer(outputs, labels if len(labels) >= classes else numbers(classes))

    def _batch(self, encoded: Sequence[Encoded]) -> dict[str, Array]:
        length = self._target.padded_length(max(map(len, encoded)), self._max_length)
        return collate(encoded, length=length, pad_id=self._pad_id)


@functools.cache
def numbers(count: int) -> tuple[str, ...]:
    """Labels for a model without names for them: `0`, `1`, ..."""
    return tuple(map(str, range(count)))


def by_length(texts: Sequence[Text]) -> list[Text]:
    """Texts sorted by their tokens, the longest first, so that little is padded and the last query is short."""
    return sorted(texts, key=lambda text: -len(text[1]))


def read_rows(path: Path, count: int | None = None) -> list[Any]:
    """The first rows of a file of `write_rows`, or all."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(_lines(file), count)]


def _lines(file: Iterator[str]) -> Iterator[str]:
    return (line for line in file if line.strip())
