"""Trials: measures candidates of a search: their answers on rows that choose, and their speed in turns with other models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.packages import quiet_libraries
from edgebert.core.progress import Progress
from edgebert.data.labels import indices_of_labels
from edgebert.data.prepared import PreparedData
from edgebert.measure.latency.turns import take_turns
from edgebert.measure.latency.turns_worker import Timings
from edgebert.measure.predictions import agreement_of, outputs_of, statistics_of
from edgebert.report.gates import Gate, answer_gates, judge_gate
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.base import Scored
from edgebert.tasks.base import Array, Encoded, Output, Outputs, Row, Task
from edgebert.tasks.metrics import AGREEMENT

NO_SHARE = -1e4
"""Logit without a share in a softmax, but finite."""
MOST_ROWS = 4000
"""Most rows that a trial uses, drawn by the seed. The final check uses all rows."""
TIMED_TEXTS = 64
"""Number of queries that models take turns at."""
SECONDS = 2.0
"""Time for each model, in all of its turns."""


@dataclass(frozen=True)
class Reference:
    """The FP32 model on a target."""

    file: Path
    target: Target
    serving: Serving


@dataclass(frozen=True)
class MeasuredTrials:
    """Measures candidates for one target, and judges them by the gates on the task's metrics and on agreement."""

    reference: Callable[[], Reference]
    """Returns the FP32 model on the target, exported when it is first needed."""
    serving: Serving
    """How candidates are served."""
    data: PreparedData
    gates: Sequence[Gate]
    seed: int
    progress: Progress

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that trials use."""
        order = np.random.default_rng(self.seed).permutation(len(self.data))  # a file may be sorted by label
        return list(self.data.rows([int(index) for index in order[:MOST_ROWS]]))

    @cached_property
    def fp32(self) -> list[Outputs]:
        """FP32's outputs for the windows of all rows of the trials."""
        reference = self.reference()
        return self._outputs(reference.file, reference.target, reference.serving, self.rows)

    @cached_property
    def _fp32_encoded(self) -> list[Encoded]:
        serving = self.reference().serving
        return serving.encode(serving.open_tokenizer(), self.rows)

    @property
    def asked(self) -> list[Gate]:
        """The gates on answers; where a recipe has none, 99 % of FP32's score."""
        asked = answer_gates(self.gates, [metric.name for metric in self.serving.task.metrics])
        return asked or [Gate.model_validate({"metric": self.serving.task.metrics[0].name, "min_ratio": 0.99})]

    @property
    def allowed_drop(self) -> float:
        """Largest drop of the task's first metric below FP32's that the gates on it allow; 0.01 where there is none."""
        metric = self.serving.task.metrics[0].name
        fp32 = self.baseline().metrics[metric]
        limits = [
            {"min": value, "min_ratio": fp32 * value, "max_drop": fp32 - value}.get(kind)
            for kind, value in (gate.bound for gate in self.asked if gate.metric == metric)
        ]
        drops = [fp32 - limit for limit in limits if limit is not None]
        return max(0.0, min(drops, default=0.01))

    def score(self, file: Path, target: Target, rows: int | None = None) -> Scored:
        """A candidate's answers, judged.

        Args:
            rows: number of rows to use, from the first; None: all.
        """
        chosen = self.rows[:rows]
        return self.judged(self._outputs(file, target, self.serving, chosen), self._encoded, len(chosen))

    def baseline(self, rows: int | None = None) -> Scored:
        """FP32's own answers, judged."""
        count = len(self.rows[:rows])
        outputs = [output for output, item in zip(self.fp32, self._fp32_encoded, strict=True) if item.row < count]
        return self.judged(outputs, self._fp32_encoded, count)

    def judged(self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: int) -> Scored:
        """The metrics of answers to the first rows, and a reason for each gate that they miss."""
        flat = choices(self.serving.task, outputs)
        if not np.isfinite(flat).all():
            return Scored(flat, {}, -math.inf, tuple(f"{gate}: the answers hold NaN or infinity" for gate in self.asked))
        ours = self._metrics(self._decoded(outputs, encoded, rows))
        theirs = self._metrics(self._fp32_predictions[:rows])
        results = [judge_gate(gate, ours.get(gate.metric), theirs.get(gate.metric)) for gate in self.asked]
        metric = self.serving.task.metrics[0].name
        return Scored(flat, ours, ours[metric], tuple(result.reason for result in results if not result.passed))

    def _metrics(self, predictions: Sequence[Any]) -> dict[str, float]:
        task, count = self.serving.task, len(predictions)
        statistics = statistics_of(task, predictions, self._references[:count], self.serving.labels)
        statistics[AGREEMENT.name] = agreement_of(task, predictions, self._fp32_predictions[:count])
        return {name: value for name, item in statistics.items() if (value := item.value()) is not None}

    def _decoded(self, outputs: Sequence[Outputs], encoded: Sequence[Encoded], rows: int) -> list[Any]:
        windows = [item for item in encoded if item.row < rows]
        return self.serving.task.decode(outputs, windows, self.rows[:rows], self.serving.labels)

    @cached_property
    def _fp32_predictions(self) -> list[Any]:
        return self._decoded(self.fp32, self._fp32_encoded, len(self.rows))

    @cached_property
    def _references(self) -> list[Any]:
        task, labels = self.serving.task, self.serving.labels
        indices = indices_of_labels(self.data, task, labels)
        return [task.reference(row, indices, labels) for row in self.rows]

    def _outputs(self, file: Path, target: Target, serving: Serving, rows: Sequence[Row]) -> list[Outputs]:
        with quiet_libraries():
            session = get_runtime(target.runtime).open_for_answers(file, target)
            encoded = serving.encode(serving.open_tokenizer(), rows)
            return list(outputs_of(session.predict, serving, encoded, target))

    @cached_property
    def _encoded(self) -> list[Encoded]:
        return self.serving.encode(self.serving.open_tokenizer(), self.rows)

    @cached_property
    def _texts(self) -> list[Encoded]:
        order = np.random.default_rng(self.seed).permutation(len(self.rows))
        count = TIMED_TEXTS * self.reference().target.batch
        chosen = [self.rows[int(order[index % len(order)])] for index in range(count)]
        return self.serving.encode(self.serving.open_tokenizer(), chosen)

    def time(self, models: Sequence[tuple[Path, Target]]) -> Timings:
        """Latencies of models that take turns at the same queries."""
        return take_turns(
            models,
            self._texts,
            pad_id=self.serving.pad_id,
            max_length=self.serving.max_length,
            seconds=SECONDS,
        )


def choices(task: Task, outputs: Sequence[Outputs]) -> Array:
    """All outputs as logits of shape (rows, choices), whose softmax is what they say: over labels, over the tokens of a window,
    or over yes and no. Rows with fewer choices are filled up with logits that have no share."""
    rows = [_rows_of(item[output.name], output) for output in task.outputs for item in outputs]
    most = max(row.shape[-1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, most - row.shape[-1])), constant_values=NO_SHARE) for row in rows])


def _rows_of(values: Array, output: Output) -> Array:
    if output.reading == "sigmoid":
        return np.stack([np.zeros_like(values), values], axis=-1).reshape(-1, 2)
    return np.atleast_2d(values)
