"""`edgebert compare`: which differences between reports are real, and whether they may pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebert.cli.common import JsonOption, reader_may_leave
from edgebert.errors import EXIT_GATE_FAILED, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgebert.report.compare.findings import CompareOptions, Comparison, ComparisonDocument, Policy
    from edgebert.report.report import Report


def compare(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT", help="REF, then what it is compared with: files or folders. REF alone: its baselines."
        ),
    ],
    band: Annotated[str, typer.Option(metavar="SHARE", help="Differences within it do not matter.")] = "2%",
    accuracy_band: Annotated[str, typer.Option(metavar="POINTS", help="The same for scores of answers.")] = "0.5%",
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this metric, such as p50_ms. Repeatable, or with commas.")
    ] = None,
    across_devices: Annotated[bool, typer.Option("--across-devices", help="Compare although the machines differ.")] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="slower, larger, less-accurate or any: exit 1 unless it is shown not to be."),
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(metavar="SHARE", help="How much slower or larger may pass. Default: 5%.")
    ] = None,
    accuracy_threshold: Annotated[
        str | None, typer.Option(metavar="POINTS", help="How much less accurate may pass. Default: 1%.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown, for a pull request.")] = False,
    json_output: JsonOption = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML, for CI.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write instead of standard output.")] = None,
) -> None:
    """Says which differences between reports are real. Exits 1 when --fail-on is not shown to hold."""
    from edgebert.core.files import write_whole
    from edgebert.report.compare.junit import junit as junit_text

    if markdown and json_output:
        raise InputError("There are both --markdown and --json.", hint="Give one of them.")
    options = _options(band, accuracy_band, metric or [], across_devices, seed)
    policy = _policy(fail_on or [], threshold, accuracy_threshold)
    _check_outputs(reports, {"--out": out, "--junit": junit})
    document = _document(_comparisons(reports, options), policy)
    text = _text(document, markdown=markdown, json_output=json_output)
    if junit:
        write_whole(junit, junit_text(document), option="--junit")
    if out:
        write_whole(out, text)
    else:
        with reader_may_leave():
            typer.echo(text, nl=False)
    raise typer.Exit(EXIT_GATE_FAILED if document.passed is False else 0)


def _options(band: str, accuracy_band: str, metrics: list[str], across_devices: bool, seed: int) -> CompareOptions:
    from edgebert.report.compare.amounts import parse_points, parse_share
    from edgebert.report.compare.call import known_metrics
    from edgebert.report.compare.findings import CompareOptions

    bands = {"band": parse_share(band, "--band"), "accuracy_band": parse_points(accuracy_band, "--accuracy-band")}
    for name, value in bands.items():
        if not value:
            raise InputError(f"--{name.replace('_', '-')} is 0, and no measurement is that exact.", hint="Write 2% or 0.02.")
    asked = [name.strip() for text in metrics for name in text.split(",") if name.strip()]
    return CompareOptions(**bands, across_devices=across_devices, metrics=known_metrics(asked), seed=seed)


def _policy(words: list[str], threshold: str | None, accuracy_threshold: str | None) -> Policy | None:
    from edgebert.report.compare.amounts import parse_points, parse_share
    from edgebert.report.compare.findings import FAIL_ON, Policy

    asked = [word.strip() for text in words for word in text.split(",") if word.strip()]
    if not asked:
        if words or threshold or accuracy_threshold:
            raise InputError("A threshold needs --fail-on.", hint=f"Say on what to fail: {', '.join(FAIL_ON)}.")
        return None
    if unknown := [word for word in asked if word not in FAIL_ON]:
        raise InputError(f"--fail-on {unknown[0]} is not known.", hint=f"Known: {', '.join(FAIL_ON)}.")
    values = {"threshold": parse_share(threshold, "--threshold")} if threshold is not None else {}
    if accuracy_threshold is not None:
        values["accuracy_threshold"] = parse_points(accuracy_threshold, "--accuracy-threshold")
    return Policy.model_validate({"fail_on": tuple(dict.fromkeys(asked)), **values})


def _comparisons(paths: Sequence[Path], options: CompareOptions) -> list[Comparison]:
    from edgebert.report.compare.comparison import compare_within
    from edgebert.report.file import read_reports

    if len(paths) > 1:
        refs = dict(read_reports(paths[:1]))
        return [comparison for path in paths[1:] for comparison in _between(paths[0], refs, path, options)]
    found = []
    for file, report in read_reports(paths):
        if not any(entry.role == "baseline" for entry in report.entries):
            raise InputError(f"{file} has no baseline to compare with.", hint="Name a second report after it.")
        found.append(compare_within(report, options, name=str(file)))
    return found


def _between(ref_path: Path, refs: dict[Path, Report], path: Path, options: CompareOptions) -> list[Comparison]:
    """Compares one report with each report of a path, or the reports of two folders by their file names."""
    from edgebert.report.compare.comparison import compare
    from edgebert.report.compare.findings import Comparison
    from edgebert.report.file import read_reports

    if len(refs) == 1:
        ((file, ref),) = refs.items()
        return [compare(ref, report, options, names=(str(file), str(other))) for other, report in read_reports([path])]
    if not path.is_dir():
        raise InputError(f"{ref_path} holds {len(refs)} reports, {path} is one.", hint="Name one of them, or two folders.")
    named = {other.name: (other, report) for other, report in read_reports([path])}
    found = []
    for file, ref in refs.items():
        if file.name in named:
            other, report = named[file.name]
            found.append(compare(ref, report, options, names=(str(file), str(other))))
        else:
            absent = (f"{file.name} in {path}",)
            found.append(Comparison(ref=str(file), changed=str(path), options=options, pairs=(), missing=absent))
    new = tuple(name for name in named if name not in {file.name for file in refs})
    if new:
        found.append(Comparison(ref=str(ref_path), changed=str(path), options=options, pairs=(), extra=new))
    return found


def _document(comparisons: list[Comparison], policy: Policy | None) -> ComparisonDocument:
    from edgebert.report.compare.findings import ComparisonDocument
    from edgebert.report.compare.policy import failures
    from edgebert.version import __version__

    found = failures(comparisons, policy) if policy else ()
    passed = not found if policy else None
    version = {"edgebert_version": __version__}
    return ComparisonDocument(**version, comparisons=tuple(comparisons), policy=policy, passed=passed, failures=found)


def _text(document: ComparisonDocument, *, markdown: bool, json_output: bool) -> str:
    from edgebert.report.compare import lines

    if json_output:
        return document.model_dump_json(indent=1) + "\n"
    return lines.markdown(document) if markdown else "\n".join(lines.text_lines(document)) + "\n"


def _check_outputs(reports: Sequence[Path], outputs: dict[str, Path | None]) -> None:
    """Refuses to write over a report, or to write two outputs to one file."""
    from edgebert.report.file import is_report, report_files

    given = {option: path for option, path in outputs.items() if path}
    read = [file.resolve() for path in reports for file in report_files(path)]
    for option, path in given.items():
        if path.resolve() in read or is_report(path):
            raise InputError(f"{path} is a report; {option} would write over it.", hint=f"Name another file with {option}.")
    if len(given) > 1 and len({path.resolve() for path in given.values()}) == 1:
        raise InputError("--out and --junit name the same file.", hint="Name two files.")
