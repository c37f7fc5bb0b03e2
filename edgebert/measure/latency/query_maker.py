"""Makes the queries of a job from its rows, and people's answers from outputs."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgebert.measure.latency.scenarios import Query, Text
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task
from edgebert.tasks.base import Array, Encoded, Task, collate, split_outputs

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
            self._serving = Serving(
                task=get_task(job.task, job.task_options),
                labels=job.labels,
                max_length=job.max_length,
                pad_id=job.pad_id,
                tokenizer=Path(job.tokenizer),
                truncation_side=job.truncation_side,
                tokenizer_sha256=job.tokenizer_sha256,
            )
            self._tokenizer = self._serving.open_tokenizer()

    @property
    def reads_text(self) -> bool:
        """Whether rows are text, and not token ids."""
        return self._serving is not None

    def encode(self, rows: Sequence[Any]) -> list[tuple[Encoded, ...]]:
        """The windows of each row: one, unless the row is too long and its task reads all of it."""
        if self._serving is None:
            return [(Encoded(tuple(ids), (0,) * len(ids), row),) for row, ids in enumerate(rows)]
        return windows_of(self._serving.encode(self._tokenizer, rows), len(rows))

    def query(self, texts: Sequence[Text]) -> Query:
        """One query of tokenised texts, in batches of the target."""
        size, encoded = self._target.batch, [window for _, windows in texts for window in windows]
        groups = [encoded[start : start + size] for start in range(0, len(encoded), size)]
        return Query(tuple(map(self._batch, groups)), tuple(texts))

    def query_of(self, rows: Sequence[Any]) -> Query:
        """One query, made from its rows."""
        return self.query(list(zip(rows, self.encode(rows), strict=True)))

    def texts(self, rows: Sequence[Any], at_once: int) -> tuple[list[Text], list[int]]:
        """All rows tokenised, and the nanoseconds of each `at_once` of them; no times for token ids."""
        encoded: list[tuple[Encoded, ...]] = []
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

    def answer(self, outputs: Sequence[Mapping[str, Array]], query: Query) -> None:
        """Turns the outputs of a query's batches into answers for people: labels, or numbers where the job names too few.

        Does nothing where the outputs are not the task's: other names or axes, as of a graph without a head.
        """
        if self._serving is None or not all(_are_of(self._serving.task, batch) for batch in outputs):
            return
        task, labels = self._serving.task, self._serving.labels
        classes = outputs[0][task.outputs[0].name].shape[-1] if task.has_labels else 0
        encoded = _numbered([windows for _, windows in query.texts])
        size = self._target.batch
        found = [
            item
            for index, batch in enumerate(outputs)
            for item in split_outputs(task, batch, encoded[index * size : (index + 1) * size])
        ]
        rows = [row for row, _ in query.texts]
        task.answer(found, encoded, rows, labels if len(labels) >= classes else numbers(classes))

    def _batch(self, encoded: Sequence[Encoded]) -> dict[str, Array]:
        length = self._target.padded_length(max(map(len, encoded)), self._max_length)
        return collate(encoded, length=length, pad_id=self._pad_id)


@functools.cache
def numbers(count: int) -> tuple[str, ...]:
    """Labels for a model without names for them: `0`, `1`, ..."""
    return tuple(map(str, range(count)))


def by_length(texts: Sequence[Text]) -> list[Text]:
    """Texts sorted by their tokens, the longest first, so that little is padded and the last query is short."""
    return sorted(texts, key=lambda text: -sum(map(len, text[1])))


def windows_of(encoded: Sequence[Encoded], rows: int) -> list[tuple[Encoded, ...]]:
    """The windows of each row, from those of all rows in order."""
    groups: list[list[Encoded]] = [[] for _ in range(rows)]
    for window in encoded:
        groups[window.row].append(window)
    return [tuple(group) for group in groups]


def _numbered(groups: Sequence[tuple[Encoded, ...]]) -> list[Encoded]:
    """The windows of some rows in order, which may have been encoded apart, with the index of their row among these."""
    return [
        window if window.row == row else replace(window, row=row) for row, windows in enumerate(groups) for window in windows
    ]


def _are_of(task: Task, outputs: Mapping[str, Array]) -> bool:
    """Whether a batch's outputs have the task's names, and the axes of each."""
    wanted = {output.name: 1 + len(output.axes) for output in task.outputs}
    return all(name in outputs and outputs[name].ndim == axes and outputs[name].shape[-1] for name, axes in wanted.items())


def read_rows(path: Path, count: int | None = None) -> list[Any]:
    """The first rows of a file of `write_rows`, or all."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(_lines(file), count)]


def _lines(file: Iterator[str]) -> Iterator[str]:
    return (line for line in file if line.strip())
