"""Report: raw measurements of entries, in order. Statistics are methods, computed when they are read, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from edgebert.core.strict import Frozen
from edgebert.report.entry import Entry
from edgebert.report.environment import Environment
from edgebert.report.gates import Gate
from edgebert.report.metric_table import metric_named
from edgebert.report.row_statistics import RowStatistics
from edgebert.report.selection import Selection
from edgebert.tasks.metrics import METRIC_NAMES
from edgebert.tasks.metrics.label_sets import MACRO_F1_OF_SETS
from edgebert.tasks.metrics.macro_f1 import MACRO_F1
from edgebert.tasks.metrics.own import is_own


class Report(Frozen):
    """The measurements of one run: `compress` measures FP32 and its candidates, `bench` any models under any load."""

    schema_version: Literal[3] = 3
    """Version 1 has samples as lists and no checksum, version 2 predictions instead of statistics; see upgrade.py."""
    sha256: str | None = Field(None, exclude=True)
    """Checksum of the file that the report was read from; see file.py."""
    edgebert_version: str | None = None
    recipe: str
    """Name of the recipe, or of the models that `bench` measured."""
    task: str | None
    """None where `bench` measured a graph whose task is not known."""
    labels: tuple[str, ...]
    eval_data: str | None
    """sha256 of the prepared eval set; None where no answers were scored."""
    right_answers: str | None = None
    """sha256 of the right answers to the eval set; None where no answers were scored."""
    guess: dict[str, RowStatistics] = Field(default_factory=dict)
    """Name of a metric of answers -> the statistics of predictions that need no model; empty where none were scored, and in
    reports that were made before."""
    less_is_better: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    """Names of the recipe's own metrics of which a smaller value is the better one."""
    metric_sources: dict[str, str] = Field(default_factory=dict, exclude_if=lambda sources: not sources)
    """Name of each of the recipe's own metrics -> sha256 of the file of its function, which may change under one name."""
    selection: Selection | None = None
    """The rows on which the run chose among models; None where nothing was chosen by scores, and in reports of bench."""
    environment: Environment
    gates: tuple[Gate, ...]
    entries: tuple[Entry, ...] = Field(min_length=1)
    command: str | None = None
    """Command line of `bench`, paths without their folders."""

    @model_validator(mode="after")
    def _scored_on_the_same_examples(self) -> Report:
        counts = dict.fromkeys((entry.name, item.examples) for entry in self.entries for item in entry.statistics.values())
        if len({count for _, count in counts}) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts)
            raise ValueError(f"the entries have statistics of different numbers of examples: {listed}")
        return self

    @model_validator(mode="after")
    def _label_sets_are_of_its_labels(self) -> Report:
        for entry in self.entries:
            kept = entry.statistics.get(MACRO_F1.name)
            if kept and kept.reduction == MACRO_F1_OF_SETS.reduction and len(kept.columns) != 2 * len(self.labels):
                scored = len(kept.columns) // 2
                raise ValueError(f"{entry.name} has {kept.reduction} of {scored} labels, and the report {len(self.labels)}")
        return self

    @property
    def examples(self) -> int:
        """Number of eval examples that were scored; 0 where none were."""
        return next((item.examples for entry in self.entries for item in entry.statistics.values()), 0)

    def baseline_of(self, entry: Entry) -> Entry | None:
        """FP32 on the entry's target: by the target's name first, because a search may have tuned the entry's own target."""
        return baseline_among(self.entries, entry)

    @property
    def task_metrics(self) -> tuple[str, ...]:
        """Names of the metrics of the answers that were scored, the deciding one first; agreement is not one of them."""
        scored = {name for entry in self.entries for name in entry.statistics}
        return tuple(name for name in METRIC_NAMES if name in scored) + tuple(sorted(filter(is_own, scored)))

    def candidates(self) -> list[Entry]:
        """The entries that may be shipped."""
        return [entry for entry in self.entries if entry.role == "candidate"]

    def value(self, entry: Entry, metric: str) -> float | None:
        """A metric of one entry; None when it was not measured."""
        return metric_named(metric).value(entry, self.baseline_of(entry))


def baseline_among(entries: Sequence[Entry], entry: Entry) -> Entry | None:
    """FP32 on an entry's target: by the target's name first, because a search may have tuned the entry's own target."""
    baselines = [other for other in entries if other.role == "baseline"]
    target, prefix = entry.target.for_baseline(), entry.name.partition("/")[0]
    named = [other for other in baselines if other.name.partition("/")[0] == prefix]
    return next(iter(named + [other for other in baselines if other.target == target]), None)
