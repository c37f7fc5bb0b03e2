"""Source: one report with what is known of it: its name on the page, its verdict, and the record of its run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgebert.errors import InputError
from edgebert.report.compare.findings import Comparison, numbered
from edgebert.report.compare.pairing import load_of
from edgebert.report.entry import Entry
from edgebert.report.file import NAME, read_reports
from edgebert.report.report import Report
from edgebert.report.text import bench_table as bench
from edgebert.report.verdict import Verdict, judge

RECORD = "run.json"


class Lenient(BaseModel):
    """What is read of a record that other versions may have written with more in it."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StepRecord(Lenient):
    """One step of a run."""

    step: str
    key: str
    sha256: str
    parent: str | None = None
    found_in_store: bool = False
    seconds: float = 0.0
    facts: dict[str, Any] = {}


class DataRecord(Lenient):
    """One data set of a run."""

    rows: int
    sha256: str


class ModelRecord(Lenient):
    """What a run began with."""

    origin: dict[str, Any]
    sha256: str


class RunRecord(Lenient):
    """run.json, as far as the page shows it."""

    recipe: dict[str, Any]
    steps: tuple[StepRecord, ...]
    model: ModelRecord | None = None
    data: dict[str, DataRecord] = {}
    left_out: tuple[str, ...] = ()
    started: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class PageSource:
    """One report. `name` is unique on the page."""

    name: str
    path: Path
    report: Report
    record: RunRecord | None = None

    @cached_property
    def verdict(self) -> Verdict | None:
        """None where nothing was asked of anything: no gates, or no candidates."""
        return judge(self.report) if self.report.gates and self.report.candidates() else None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A name for each entry, unique in the report: its own, with what tells it apart from its namesakes."""
        groups: dict[str, list[Entry]] = {}
        for entry in self.report.entries:
            groups.setdefault(entry.name, []).append(entry)
        return tuple(numbered([", ".join([entry.name, *_apart(entry, groups[entry.name])]) for entry in self.report.entries]))

    @cached_property
    def within(self) -> Comparison:
        """Each candidate against its baseline, metric by metric."""
        from edgebert.report.compare.comparison import compare_within

        return compare_within(self.report, name=self.name)

    def baseline_of(self, entry: Entry) -> Entry | None:
        """What an entry is measured against: FP32 of its target, or what bench was told, under the same load."""
        found = self.report.baseline_of(entry)
        return found if found and load_of(found) == load_of(entry) else bench.baseline_of(self.report, entry)

    def speedup(self, entry: Entry) -> float | None:
        """How many times as fast as its baseline: by median latency, offline by throughput; None for a baseline."""
        baseline = self.baseline_of(entry)
        if baseline is None or entry.role == "baseline":
            return None
        return entry.times_as_fast(baseline)

    def label(self, entry: Entry) -> str:
        """The name of an entry on the page."""
        return next(label for label, other in zip(self.labels, self.report.entries, strict=True) if other is entry)

    @property
    def labelled(self) -> list[tuple[str, Entry]]:
        """All entries with their names."""
        return list(zip(self.labels, self.report.entries, strict=True))


def threads_of(entry: Entry) -> str:
    """`2 threads`."""
    return f"{entry.target.threads} thread{'s' if entry.target.threads != 1 else ''}"


def batch_of(entry: Entry) -> str:
    """`batch 8`."""
    return f"batch {entry.target.batch}"


def setting_of(entry: Entry) -> str:
    """`server-20/s`."""
    return entry.setting.name


def _apart(entry: Entry, namesakes: Sequence[Entry]) -> list[str]:
    """What differs between entries of one name: load, threads, batch, and else the target."""
    found = [part(entry) for part in (setting_of, threads_of, batch_of) if len({part(other) for other in namesakes}) > 1]
    alike = [other for other in namesakes if load_of(other) == load_of(entry)]
    return found + ([entry.target.name] if len({other.target.name for other in alike}) > 1 else [])


def read_sources(places: Sequence[Path]) -> list[PageSource]:
    """The reports of all places, in order.

    Raises:
        InputError: one is no report, or its run's record is damaged.
    """
    found = [(file, report, read_record(file)) for file, report in read_reports(places)]
    names = unique_names([(file, report) for file, report, _ in found])
    return [PageSource(name, file, report, record) for name, (file, report, record) in zip(names, found, strict=True)]


def unique_names(found: Sequence[tuple[Path, Report]]) -> list[str]:
    """The name of what was measured; with the file's or the folder's where two are called the same, then with a number."""
    names = [report.recipe for _, report in found]
    places = [file.parent.name if file.name == NAME else file.stem for file, _ in found]
    names = [f"{name} ({index})" if names.count(name) > 1 else name for name, index in zip(names, places, strict=True)]
    return numbered(names)


def read_record(file: Path) -> RunRecord | None:
    """The record beside a run's report; None where there is none.

    Raises:
        InputError: it is not what `compress` writes.
    """
    path = file.with_name(RECORD)
    if file.name != NAME or not path.is_file():
        return None
    try:
        return RunRecord.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        raise InputError(
            f"{path} is damaged: it is not what compress writes.", hint=f"Name the report alone: {file}, elsewhere."
        ) from error
