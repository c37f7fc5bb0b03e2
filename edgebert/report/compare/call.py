"""Comparing as Python calls it: reports, or the files and folders that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgebert.errors import InputError
from edgebert.report.compare.compared_metrics import MEASURED
from edgebert.report.compare.comparison import compare as compared
from edgebert.report.compare.comparison import compare_within
from edgebert.report.compare.findings import CompareOptions, Comparison
from edgebert.report.file import read_report, report_files
from edgebert.report.report import Report
from edgebert.tasks.metrics import AGREEMENT, METRIC_NAMES
from edgebert.tasks.metrics.own import is_own

AnyReport = str | Path | Report
"""A report, its file, or the folder of a run or a bundle."""


def compare(
    ref: AnyReport,
    changed: AnyReport | None = None,
    *,
    band: float = CompareOptions.model_fields["band"].default,
    accuracy_band: float = CompareOptions.model_fields["accuracy_band"].default,
    metrics: Sequence[str] = (),
    across_devices: bool = False,
    seed: int = 0,
) -> Comparison:
    """Says which differences between two reports are real: `edgebert.compare("before.json", "after.json").pairs`.

    Args:
        ref: a report, its file, or the folder of a run or a bundle.
        changed: what it is compared with; by default its candidates are compared with its own baselines.
        band: ratios of times and sizes from 1 / (1 + band) to 1 + band do not matter.
        accuracy_band: differences of scores up to this do not matter; 0.005 is half a point.
        metrics: names of the metrics to compare; by default all that were measured.
        across_devices: whether to compare although the machines differ.
        seed: seed of the bootstrap.

    Returns:
        A finding, with its verdict and reason, for each metric of each pair of models.

    Raises:
        InputError: there is no such report, or no baseline to compare with.
        MissingPackage: the packages for comparing are not installed.
    """
    options = compare_options(
        band=band, accuracy_band=accuracy_band, metrics=known_metrics(metrics), across_devices=across_devices, seed=seed
    )
    (name, report), other = named_report(ref), named_report(changed) if changed is not None else None
    if other:
        return compared(report, other[1], options, names=(name, other[0]))
    if all(entry.role != "baseline" for entry in report.entries):
        raise InputError(f"{name} has no baseline to compare with.", hint="Give a second report.")
    return compare_within(report, options, name=name)


def named_report(report: AnyReport) -> tuple[str, Report]:
    """A report, and the name that it has in a comparison.

    Raises:
        InputError: there is none, or a folder has several.
    """
    if isinstance(report, Report):
        return report.recipe, report
    files = report_files(Path(report))
    if len(files) > 1:
        raise InputError(f"{report} holds {len(files)} reports.", hint="Name one of them.")
    return str(files[0]), read_report(files[0])


def compare_options(**fields: Any) -> CompareOptions:
    """Checked options. Raises InputError for a value that is out of range."""
    try:
        return CompareOptions(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise InputError(f"{name} is {first['input']!r}: {first['msg']}.", hint="Leave it out for the default.") from error


def known_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics. Raises InputError for one that no report has."""
    known = [*MEASURED, *METRIC_NAMES, AGREEMENT.name]
    if strange := next((name for name in names if name not in known and not is_own(name)), None):
        raise InputError(f"There is no metric {strange}.", hint=f"Known: {', '.join(known)}.")
    return tuple(names)
