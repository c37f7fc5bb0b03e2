"""Report: what was measured, raw and in order. Statistics are methods, computed when they are read, never stored."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgebert.encoder import EncoderSizes
from edgebert.errors import InputError
from edgebert.gates import Gate
from edgebert.measure.coverage import Coverage
from edgebert.measure.environment import Environment
from edgebert.measure.latency import Round
from edgebert.runtimes.target import Target
from edgebert.search_record import SearchRecord
from edgebert.tasks import get_task

SAMPLES_FOR = {50: 16, 90: 64, 95: 130, 99: 662}
"""Fewest samples that carry a percentile."""


class Frozen(BaseModel):
    """Read-only, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    size_bytes: int
    predictions: tuple[int, ...] | None
    rounds: tuple[Round, ...]
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

    def latencies_ms(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """All timed queries, all rounds in order."""
        return np.array([ns for item in self.rounds for ns in item.latencies_ns], dtype=np.float64) / 1e6

    def percentile_ms(self, percent: int) -> float | None:
        """A percentile of latency; None when there are too few samples for it."""
        values = self.latencies_ms()
        return float(np.percentile(values, percent)) if len(values) >= SAMPLES_FOR[percent] else None

    def floor_ratio(self) -> float | None:
        """Median latency over the time that its MACs take at this core's INT8 rate."""
        p50 = self.percentile_ms(50)
        return p50 / self.coverage.floor_ms if p50 and self.coverage else None

    def tokenise_ms(self) -> float | None:
        """Median time to tokenise one query."""
        values = [ns for item in self.rounds for ns in item.tokenise_ns]
        return float(np.median(values)) / 1e6 if values else None

    def load_ms(self) -> float | None:
        """Median over the processes."""
        return float(np.median([item.load_ns for item in self.rounds])) / 1e6 if self.rounds else None

    def peak_rss_mb(self) -> float | None:
        """Median over the processes, in units of 10^6 bytes."""
        values = [item.peak_rss_bytes for item in self.rounds]
        return float(np.median([value for value in values if value])) / 1e6 if all(values) and values else None


class Report(Frozen):
    """One check of FP32 and its candidates."""

    schema_version: Literal[1] = 1
    recipe: str
    task: str
    labels: tuple[str, ...]
    eval_data: str
    """sha256 of the prepared eval set."""
    references: tuple[int, ...]
    """The right label of each eval example, as its place in `labels`."""
    environment: Environment
    gates: tuple[Gate, ...]
    entries: tuple[Entry, ...] = Field(min_length=1)

    def baseline_of(self, entry: Entry) -> Entry | None:
        """FP32 on the same target of the recipe: by its name, for a search may have tuned the entry's own; else as it is."""
        baselines = [other for other in self.entries if other.role == "baseline"]
        target, prefix = entry.target.for_baseline(), entry.name.partition("/")[0]
        named = [other for other in baselines if other.name.partition("/")[0] == prefix]
        return next(iter(named + [other for other in baselines if other.target == target]), None)

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
            ours, theirs = entry.percentile_ms(50), baseline.percentile_ms(50) if baseline else None
            return theirs / ours if ours and theirs else None
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
        if entry.predictions is None:
            return None
        return get_task(self.task).score(metric, np.array(entry.predictions), np.array(self.references))


def _agreement(entry: Entry, baseline: Entry | None) -> float | None:
    if entry.predictions is None or baseline is None or baseline.predictions is None:
        return None
    return float(np.mean(np.array(entry.predictions) == np.array(baseline.predictions)))


def read_report(path: Path) -> Report:
    """Reads a report file.

    Raises:
        InputError: it is not a report of this version.
    """
    try:
        return Report.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a report that this version of edgebert can read.") from error
