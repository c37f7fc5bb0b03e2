"""Report: raw measurements of entries, in order. Statistics are methods, computed when they are read, never stored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgebert.core.strict import Frozen
from edgebert.report.entry import Entry
from edgebert.report.environment import Environment
from edgebert.report.gates import Gate
from edgebert.report.metric_table import METRICS
from edgebert.tasks.metric import ANSWER_METRICS, metrics_of


class Report(Frozen):
    """The measurements of one run: `compress` measures FP32 and its candidates, `bench` any models under any load."""

    schema_version: Literal[1, 2] = 2
    """Version 1 has samples as lists and no checksum; it is still read."""
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
    references: tuple[int, ...]
    """The right label of each eval example, as its index in `labels`."""
    environment: Environment
    gates: tuple[Gate, ...]
    entries: tuple[Entry, ...] = Field(min_length=1)
    command: str | None = None
    """Command line of `bench`, paths without their folders."""

    @model_validator(mode="after")
    def _answers_are_to_the_references(self) -> Report:
        for entry in self.entries:
            answers = len(entry.predictions or ())
            if entry.predictions is not None and self.references and answers != len(self.references):
                raise ValueError(f"{entry.name} has {answers} predictions and there are {len(self.references)} references")
        return self

    def baseline_of(self, entry: Entry) -> Entry | None:
        """FP32 on the entry's target: by the target's name first, because a search may have tuned the entry's own target."""
        baselines = [other for other in self.entries if other.role == "baseline"]
        target, prefix = entry.target.for_baseline(), entry.name.partition("/")[0]
        named = [other for other in baselines if other.name.partition("/")[0] == prefix]
        return next(iter(named + [other for other in baselines if other.target == target]), None)

    @property
    def task_metrics(self) -> tuple[str, ...]:
        """Names of the metrics of the answers; empty where the task is not known."""
        return metrics_of(self.task) if self.task else ()

    def candidates(self) -> list[Entry]:
        """The entries that may be shipped."""
        return [entry for entry in self.entries if entry.role == "candidate"]

    def value(self, entry: Entry, metric: str) -> float | None:
        """One of `METRICS` for one entry; None when it was not measured."""
        if metric in ANSWER_METRICS and metric not in self.task_metrics:
            return None
        return METRICS[metric].value(entry, self.baseline_of(entry), self.references)
