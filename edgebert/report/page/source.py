"""PageSource: one report with its name on the page, its verdict, and the record of its run; and how these are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgebert.errors import InputError
from edgebert.report.bounded import parse, read_plain
from edgebert.report.compare.findings import Comparison, numbered
from edgebert.report.compare.pairing import baseline_under_load, load_of
from edgebert.report.entry import Entry
from edgebert.report.file import NAME, read_reports
from edgebert.report.report import Report
from edgebert.report.verdict import Verdict, judge

RECORD = "run.json"


class Lenient(BaseModel):
    """A record that other versions of edgebert may have written with more fields."""

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
    """The model of a run's recipe."""

    origin: dict[str, Any]
    sha256: str


class RunRecord(Lenient):
    """The fields of run.json that the page shows."""

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
        """The verdict; None without gates or without candidates."""
        return judge(self.report) if self.report.gates and self.report.candidates() else None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A unique name for each entry: its own, with its load or target where other entries have the same name."""
        groups: dict[str, list[Entry]] = {}
        for entry in self.report.entries:
            groups.setdefault(entry.name, []).append(entry)
        return tuple(numbered([", ".join([entry.name, *_apart(entry, groups[entry.name])]) for entry in self.report.entries]))

    @cached_property
    def within(self) -> Comparison:
        """The comparison of each candidate with its baseline."""
        from edgebert.report.compare.comparison import compare_within

        return compare_within(self.report, name=self.name)

    def baseline_of(self, entry: Entry) -> Entry | None:
        """The baseline of an entry under the same load: FP32 of its target, or the baseline of bench."""
        baseline = self.report.baseline_of(entry)
        return baseline if baseline and load_of(baseline) == load_of(entry) else baseline_under_load(self.report, entry)

    def speedup(self, entry: Entry) -> float | None:
        """How many times as fast as its baseline an entry is: by median latency, offline by throughput; None for a baseline."""
        baseline = self.baseline_of(entry)
        if baseline is None or entry.role == "baseline":
            return None
        return entry.times_as_fast(baseline)

    def label(self, entry: Entry) -> str:
        """The name of an entry on the page."""
        return next(label for label, other in zip(self.labels, self.report.entries, strict=True) if other is entry)

    @property
    def labelled(self) -> list[tuple[str, Entry]]:
        """All entries with their names on the page."""
        return list(zip(self.labels, self.report.entries, strict=True))


def threads_of(entry: Entry) -> str:
    """Threads of an entry: `2 threads`."""
    return f"{entry.target.threads} thread{'s' if entry.target.threads != 1 else ''}"


def batch_of(entry: Entry) -> str:
    """Batch of an entry: `batch 8`."""
    return f"batch {entry.target.batch}"


def setting_of(entry: Entry) -> str:
    """Setting of an entry: `server-20/s`."""
    return entry.setting.name


def _apart(entry: Entry, namesakes: Sequence[Entry]) -> list[str]:
    """The differences between entries of one name: setting, threads, batch, and the target where these are equal."""
    parts = [part(entry) for part in (setting_of, threads_of, batch_of) if len({part(other) for other in namesakes}) > 1]
    alike = [other for other in namesakes if load_of(other) == load_of(entry)]
    return parts + ([entry.target.name] if len({other.target.name for other in alike}) > 1 else [])


def read_sources(paths: Sequence[Path]) -> list[PageSource]:
    """The reports of all files and folders, in order.

    Raises:
        InputError: one is no report, or the record of its run is damaged.
    """
    read = [(file, report, read_record(file)) for file, report in read_reports(paths)]
    names = unique_names([(file, report) for file, report, _ in read])
    return [PageSource(name, file, report, record) for name, (file, report, record) in zip(names, read, strict=True)]


def unique_names(reports: Sequence[tuple[Path, Report]]) -> list[str]:
    """A unique name for each report: its recipe, with the file or folder where two have the same, then with a number."""
    names = [report.recipe for _, report in reports]
    files = [file.parent.name if file.name == NAME else file.stem for file, _ in reports]
    return numbered([f"{name} ({file})" if names.count(name) > 1 else name for name, file in zip(names, files, strict=True)])


def read_record(file: Path) -> RunRecord | None:
    """The record beside a run's report; None where there is none.

    Raises:
        InputError: the record is not in the form that `compress` writes.
    """
    path = file.with_name(RECORD)
    if file.name != NAME or not path.is_file():
        return None
    try:
        return RunRecord.model_validate(parse(read_plain(path)))
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(
            f"{path} is damaged: it is not what compress writes.", hint=f"Name the report alone: {file}, elsewhere."
        ) from error
