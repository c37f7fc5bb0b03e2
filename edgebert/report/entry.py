"""Entry: one model on one target, with its raw measurements. Statistics are methods, computed when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from edgebert.core.strict import Frozen
from edgebert.models.sizes import EncoderSizes
from edgebert.report.rounds import Coverage, Round, Setting
from edgebert.report.row_statistics import RowStatistics
from edgebert.report.samples import Samples
from edgebert.report.search_record import SearchRecord
from edgebert.report.text_counts import TextCounts
from edgebert.report.vocabulary_loss import VocabularyLoss
from edgebert.runtimes.target import Target

Values = npt.NDArray[np.float64]
SAMPLES_FOR: dict[float, int] = {50: 16, 90: 64, 95: 130, 99: 662, 99.9: 6636}
"""Percentile -> fewest samples from which it is estimated. From 90 on these are the fewest n for which at most one sample
exceeds the percentile with a probability of at most 1 %, so that no estimate depends on a single sample. That probability is
q^n + n (1 - q) q^(n - 1), whatever the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1). For the median
11 samples would satisfy it; 16 are required."""
FORMER_ROLES = {"step": "intermediate"}
"""Role in reports of version 0.1 -> present role."""
Role = Annotated[
    Literal["baseline", "candidate", "intermediate"],
    BeforeValidator(lambda role: FORMER_ROLES.get(role, role) if isinstance(role, str) else role),
]
"""baseline: FP32. candidate: may win. intermediate: FP32 after one stage that changed the weights: measured, never judged and
never shipped."""


class Entry(Frozen):
    """One model on one target."""

    name: str
    role: Role
    stage: str
    """Label of the stage that made it: `int8-dynamic`."""
    artifact: str
    """sha256 of the artifact."""
    target: Target
    size_bytes: int = Field(ge=0)
    """Bytes of the model's files; 0 where the graph was made in memory."""
    statistics: dict[str, RowStatistics] = Field(default_factory=dict)
    """Name of a metric of answers -> the statistics of each eval example; empty where no answers were scored."""
    rounds: tuple[Round, ...]
    setting: Setting = Setting()
    """Load under which it was measured."""
    tokenizer: str | None = None
    """sha256 of its tokenizer's file; None where it was measured without text."""
    texts: TextCounts | None = None
    """How well its tokenizer and longest input fit the eval texts; None where it was measured without, or before."""
    parameters: int | None = None
    """Number of weights of the Transformers model that the graph was made from; quantising removes none."""
    macs: float | None = None
    """Multiply-accumulates of its encoder's layers for one eval text without padding: mean over the eval texts."""
    encoder: EncoderSizes | None = None
    vocabulary: VocabularyLoss | None = None
    """What was removed from its vocabulary; None where nothing was."""
    """Sizes of its encoder, and of the one that it was cut from."""
    search: SearchRecord | None = None
    """Record of the search that made it (`quantize: auto`)."""
    coverage: Coverage | None = None
    """INT8 share of the kernels that one query of median length runs."""

    def latencies_ms(self) -> Values:
        """Milliseconds of all timed queries, of shape (queries,), round by round."""
        return _joined([item.latencies_ns for item in self.rounds]) / 1e6

    def percentile_ms(self, percent: float) -> float | None:
        """A percentile of latency in milliseconds; None with fewer than `SAMPLES_FOR` it."""
        values = self.latencies_ms()
        return float(np.percentile(values, percent)) if len(values) >= SAMPLES_FOR[percent] else None

    def times_as_fast(self, baseline: Entry) -> float | None:
        """How many times as fast as the baseline: by median latency, offline by throughput."""
        if self.setting.scenario == "offline":
            ours, theirs = self.throughput(), baseline.throughput()
            return ours / theirs if ours and theirs else None
        ours, theirs = self.percentile_ms(50), baseline.percentile_ms(50)
        return theirs / ours if ours and theirs else None

    def repeats(self, baseline: Entry | None) -> bool:
        """Whether a candidate is FP32's own graph on its own target: it is as fast as FP32, whatever was measured."""
        if baseline is None or self.role != "candidate":
            return False
        ours, theirs = ((item.artifact, item.target, item.setting) for item in (self, baseline))
        return ours == theirs

    def score(self, metric: str) -> float | None:
        """Value of a metric of answers; None where it was not scored."""
        statistics = self.statistics.get(metric)
        return statistics.value() if statistics else None

    def roofline_ratio(self) -> float | None:
        """Median latency over the time that the MACs take at this core's INT8 rate."""
        p50 = self.percentile_ms(50)
        return p50 / self.coverage.roofline_ms if p50 and self.coverage else None

    def tokenise_ms(self) -> float | None:
        """Median milliseconds to tokenise one query."""
        return _median(_joined([item.tokenise_ns for item in self.rounds]), 1e6)

    def end_to_end_ms(self) -> float | None:
        """Median milliseconds from text to answer."""
        return _median(_joined([item.end_to_end_ns for item in self.rounds]), 1e6)

    def throughput(self) -> float | None:
        """Texts per second: median over the processes."""
        return _median([item.examples / item.wall_ns * 1e9 if item.examples and item.wall_ns else None for item in self.rounds])

    def cold_start_ms(self) -> float | None:
        """Milliseconds from a process's start to its first answer: median over the processes."""
        return _median([item.cold_start_ns for item in self.rounds], 1e6)

    def pss_mb(self) -> float | None:
        """Proportional set size in units of 10^6 bytes: median over the processes."""
        return _median([item.pss_bytes for item in self.rounds], 1e6)

    def isas(self) -> list[str]:
        """Strongest instruction sets for INT8 of its processes, sorted; one where all are alike."""
        return sorted({item.isa for item in self.rounds if item.isa})

    def energy_mj(self) -> float | None:
        """Millijoules of the whole CPU package for one text: median over the processes."""
        energies = [(item.energy_uj, item.examples) for item in self.rounds]
        return _median([energy / texts / 1e3 if energy is not None and texts else None for energy, texts in energies])

    def load_ms(self) -> float | None:
        """Milliseconds to open the model and have it ready: median over the processes."""
        return _median([item.load_ns for item in self.rounds], 1e6)

    def peak_rss_mb(self) -> float | None:
        """Peak resident set size in units of 10^6 bytes: median over the processes."""
        return _median([item.peak_rss_bytes or None for item in self.rounds], 1e6)


def _median(values: Sequence[float | None] | Values, unit: float = 1.0) -> float | None:
    """The median divided by the unit; None where there are no values, or where one is not known."""
    known = values if isinstance(values, np.ndarray) else [value for value in values if value is not None]
    return float(np.median(known)) / unit if len(known) and len(known) == len(values) else None


def _joined(parts: Sequence[Samples]) -> Values:
    return np.concatenate([part.values for part in parts]).astype(np.float64) if parts else np.array([], dtype=np.float64)
