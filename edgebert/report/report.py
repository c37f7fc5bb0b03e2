"""Report: what was measured, raw and in order. Statistics are methods, computed when they are read, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from edgebert.core.strict import Frozen
from edgebert.models.sizes import EncoderSizes
from edgebert.report.environment import Environment
from edgebert.report.gates import Gate
from edgebert.report.rounds import Coverage, Round, Setting
from edgebert.report.samples import Samples
from edgebert.report.search_record import SearchRecord
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task

Values = npt.NDArray[np.float64]
SAMPLES_FOR: dict[float, int] = {50: 16, 90: 64, 95: 130, 99: 662, 99.9: 6636}
"""Samples that carry a percentile. From 90 on the fewest of which the second largest lies below the percentile with a
probability of at most 1 %, so that it does not hang on a single sample: the probability that at most one of n exceeds it is
q^n + n (1 - q) q^(n - 1), whatever the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1). For the median
11 would do; it asks for 16."""


class Entry(Frozen):
    """One model on one target."""

    name: str
    role: Literal["baseline", "candidate", "step"]
    """A step is the FP32 model after one stage that changed the weights: measured, never judged and never shipped."""
    stage: str
    """Label of the step that made it."""
    artifact: str
    """sha256 of the artifact."""
    target: Target
    size_bytes: int = Field(ge=0)
    """0 where it is no file's."""
    predictions: tuple[int, ...] | None
    rounds: tuple[Round, ...]
    setting: Setting = Setting()
    """Under which load it was measured."""
    tokenizer: str | None = None
    """sha256 of its tokenizer's file; None where it was asked without text."""
    parameters: int | None = None
    """Weights of the Transformers model that the graph was made from; quantising removes none."""
    macs: float | None = None
    """Multiply-accumulates of its encoder's layers for one eval text, padding left out: mean over the eval texts."""
    encoder: EncoderSizes | None = None
    """What is left of its encoder."""
    search: SearchRecord | None = None
    """How it was found, where `quantize: auto` made it."""
    coverage: Coverage | None = None
    """What one query of the middle length runs in INT8."""

    def latencies_ms(self) -> Values:
        """All timed queries, all rounds in order."""
        return _joined([item.latencies_ns for item in self.rounds]) / 1e6

    def percentile_ms(self, percent: float) -> float | None:
        """A percentile of latency; None when there are too few samples for it."""
        values = self.latencies_ms()
        return float(np.percentile(values, percent)) if len(values) >= SAMPLES_FOR[percent] else None

    def times_as_fast(self, baseline: Entry) -> float | None:
        """How many times as fast as another: by median latency, offline by throughput."""
        if self.setting.scenario == "offline":
            ours, theirs = self.throughput(), baseline.throughput()
            return ours / theirs if ours and theirs else None
        ours, theirs = self.percentile_ms(50), baseline.percentile_ms(50)
        return theirs / ours if ours and theirs else None

    def floor_ratio(self) -> float | None:
        """Median latency over the time that its MACs take at this core's INT8 rate."""
        p50 = self.percentile_ms(50)
        return p50 / self.coverage.floor_ms if p50 and self.coverage else None

    def tokenise_ms(self) -> float | None:
        """Median time to tokenise one query."""
        values = _joined([item.tokenise_ns for item in self.rounds])
        return float(np.median(values)) / 1e6 if len(values) else None

    def end_to_end_ms(self) -> float | None:
        """Median time from text to answer."""
        values = _joined([item.end_to_end_ns for item in self.rounds])
        return float(np.median(values)) / 1e6 if len(values) else None

    def throughput(self) -> float | None:
        """Texts a second: median over the processes."""
        known = [item.examples / item.wall_ns * 1e9 for item in self.rounds if item.examples and item.wall_ns]
        return float(np.median(known)) if known and len(known) == len(self.rounds) else None

    def cold_start_ms(self) -> float | None:
        """Median over the processes of the time from a process's start to its first answer."""
        known = [item.cold_start_ns for item in self.rounds if item.cold_start_ns is not None]
        return float(np.median(known)) / 1e6 if known and len(known) == len(self.rounds) else None

    def pss_mb(self) -> float | None:
        """Median over the processes, in units of 10^6 bytes."""
        known = [item.pss_bytes for item in self.rounds if item.pss_bytes is not None]
        return float(np.median(known)) / 1e6 if known and len(known) == len(self.rounds) else None

    def energy_mj(self) -> float | None:
        """Millijoules for one text, of the whole package: median over the processes."""
        known = [item.energy_uj / item.examples / 1e3 for item in self.rounds if item.energy_uj is not None and item.examples]
        return float(np.median(known)) if known and len(known) == len(self.rounds) else None

    def load_ms(self) -> float | None:
        """Median over the processes."""
        return float(np.median([item.load_ns for item in self.rounds])) / 1e6 if self.rounds else None

    def peak_rss_mb(self) -> float | None:
        """Median over the processes, in units of 10^6 bytes."""
        values = [item.peak_rss_bytes for item in self.rounds]
        return float(np.median([value for value in values if value])) / 1e6 if all(values) and values else None


class Report(Frozen):
    """What was measured in one go: by `compress` FP32 and its candidates, by `bench` any models under any load."""

    schema_version: Literal[1, 2] = 2
    """1 has its samples as lists and no checksum, and is read as well."""
    sha256: str | None = Field(None, exclude=True)
    """Checksum of the file that it was read from; see report_file.py."""
    edgebert_version: str | None = None
    recipe: str
    """Name of the recipe; of what `bench` measured."""
    task: str | None
    """None where `bench` measured a graph that says nothing of its task."""
    labels: tuple[str, ...]
    eval_data: str | None
    """sha256 of the prepared eval set; None where no answers were scored."""
    references: tuple[int, ...]
    """The right label of each eval example, as its place in `labels`."""
    environment: Environment
    gates: tuple[Gate, ...]
    entries: tuple[Entry, ...] = Field(min_length=1)
    command: str | None = None
    """What `bench` was told, without the folders that files lie in."""

    @model_validator(mode="after")
    def _answers_are_to_the_references(self) -> Report:
        for entry in self.entries:
            answers = len(entry.predictions or ())
            if entry.predictions is not None and self.references and answers != len(self.references):
                raise ValueError(f"{entry.name} has {answers} predictions and there are {len(self.references)} references")
        return self

    def baseline_of(self, entry: Entry) -> Entry | None:
        """FP32 on the same target of the recipe: by its name, for a search may have tuned the entry's own; else as it is."""
        baselines = [other for other in self.entries if other.role == "baseline"]
        target, prefix = entry.target.for_baseline(), entry.name.partition("/")[0]
        named = [other for other in baselines if other.name.partition("/")[0] == prefix]
        return next(iter(named + [other for other in baselines if other.target == target]), None)

    @property
    def task_metrics(self) -> tuple[str, ...]:
        """What the task scores; nothing where the task is not known."""
        return get_task(self.task).metrics if self.task else ()

    def candidates(self) -> list[Entry]:
        """All that may be shipped."""
        return [entry for entry in self.entries if entry.role == "candidate"]

    def value(self, entry: Entry, metric: str) -> float | None:
        """One metric of one entry; None when it was not measured."""
        baseline = self.baseline_of(entry)
        if metric in ("accuracy", "macro_f1"):
            return self._score(entry, metric)
        if metric == "agreement":
            return _agreement(entry, baseline)
        if metric == "speedup":
            return entry.times_as_fast(baseline) if baseline else None
        if metric.startswith("p") and metric.endswith("_ms"):
            return entry.percentile_ms(int(metric[1:-3]))
        measured = {
            "load_ms": entry.load_ms(),
            "peak_rss_mb": entry.peak_rss_mb(),
            "size_mb": entry.size_bytes / 1e6,
            "macs": entry.macs,
            "parameters": entry.parameters,
            "int8_coverage": entry.coverage.share if entry.coverage else None,
            "floor_ms": entry.coverage.floor_ms if entry.coverage else None,
            "floor_ratio": entry.floor_ratio(),
        }
        return measured[metric]

    def _score(self, entry: Entry, metric: str) -> float | None:
        if entry.predictions is None or self.task is None or not self.references:
            return None
        return get_task(self.task).score(metric, np.array(entry.predictions), np.array(self.references))


def _agreement(entry: Entry, baseline: Entry | None) -> float | None:
    if entry.predictions is None or baseline is None or baseline.predictions is None:
        return None
    return float(np.mean(np.array(entry.predictions) == np.array(baseline.predictions)))


def _joined(parts: Sequence[Samples]) -> Values:
    return np.concatenate([part.values for part in parts]).astype(np.float64) if parts else np.array([], dtype=np.float64)
