"""`edgebert bench`: measures models, in turns with each other, and writes a report."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgebert.cli.common import JsonOption, QuietOption, open_progress, print_result, table_width
from edgebert.core import interrupts
from edgebert.errors import InputError, MissingPackage

if TYPE_CHECKING:
    from edgebert.report.report import Report
    from edgebert.report.rounds import Scenario

MODEL = "A bundle or a run's folder, an .onnx file, the .xml of an OpenVINO IR, or a Transformers folder."
SCENARIOS: tuple[Scenario, ...] = ("single-stream", "multi-stream", "offline", "server")


def bench(
    bench_models: Annotated[list[str], typer.Argument(metavar="MODEL", help=MODEL)],
    baseline: Annotated[str | None, typer.Option(metavar="MODEL", help="Measured in turns with the others.")] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="NAME,NAME", help="Variants of a bundle; default: the selected one. Repeatable."),
    ] = None,
    baseline_variant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Variant of the baseline's bundle; without --baseline of the first MODEL."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="onnxruntime, openvino ...: for a MODEL that more than one runtime can run."),
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(metavar="NAME,NAME", help=f"{', '.join(SCENARIOS)}; default the first. Repeatable.")
    ] = None,
    streams: Annotated[int | None, typer.Option(min=1, max=4096, help="multi-stream: texts in one query; default 8.")] = None,
    instances: Annotated[int, typer.Option(min=1, max=256, help="Sessions in one process, each with its own threads.")] = 1,
    rate: Annotated[
        list[str] | None, typer.Option(metavar="N,N", help="server: queries that arrive in a second. Repeatable.")
    ] = None,
    bound: Annotated[float | None, typer.Option(metavar="MS", help="server: the latency that must hold.")] = None,
    bound_percent: Annotated[int | None, typer.Option(help="The percentile at which it must hold; default 99.")] = None,
    batch: Annotated[str | None, typer.Option(metavar="N,N", help="Texts in one query. Default: the model's own.")] = None,
    threads: Annotated[str | None, typer.Option(metavar="N,N", help="Threads. Default: the model's own.")] = None,
    lengths: Annotated[
        list[str] | None,
        typer.Option(metavar="data|16,32|log:FILE", help="Lengths in tokens; default data: real texts. Repeatable."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE[:COLUMN]", help="Texts (csv, tsv, jsonl, txt); default: those that ship.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="Labels in --data: scores the answers as well.")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE", help="tokenizer.json of graphs that have none beside them.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, max=100_000, help="Queries in each process.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Fresh processes for each combination.")] = 10,
    warmup: Annotated[int, typer.Option(min=0, max=100_000, help="Queries before the clock starts.")] = 20,
    settle: Annotated[bool, typer.Option(help="Repeat the warm-up until latency has settled.")] = True,
    end_to_end: Annotated[bool, typer.Option(help="Serve the queries once more from their text.")] = True,
    pin: Annotated[str, typer.Option(metavar="auto|none|0,1", help="Cores that each process keeps to.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of queries and of arrivals.")] = 0,
    driver: Annotated[Literal["edgebert", "mlcommons-loadgen"], typer.Option(help="Who issues the queries.")] = "edgebert",
    cool_down: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds to wait for a hot CPU, at most and in all.")
    ] = 120.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The report; default bench.json, or bench-2.json where that is there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no report of bench.")] = False,
    json_output: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measures models: latency, throughput, start and memory, in alternating fresh processes, into a report."""
    from edgebert.measure.bench.call import Asked, measure, scenario_named
    from edgebert.measure.bench.out_file import check_out, command_line
    from edgebert.measure.bench.queries import all_lengths
    from edgebert.measure.bench.sweep import BenchOptions

    if bound_percent is not None and bound is None:
        raise InputError("--bound-percent says at which percentile --bound must hold.", hint="Add --bound MS, or drop it.")
    options = BenchOptions(
        scenarios=tuple(map(scenario_named, _parts(scenario) or SCENARIOS[:1])),
        streams=streams,
        instances=instances,
        rates=_rates(rate or ()),
        bound_ms=bound,
        bound_percent=bound_percent or 99,
        batches=_numbers(batch, "--batch", 4096),
        threads=_numbers(threads, "--threads", 1024),
        lengths=all_lengths(lengths or ["data"]),
        queries=queries,
        rounds=rounds,
        warmup=warmup,
        settle=settle,
        end_to_end=end_to_end,
        pin=_cores(pin),
        seed=seed,
        driver=driver,
        cool_down_s=cool_down,
    )
    options.check()
    progress = open_progress(quiet)
    file = check_out(out, progress, force=force)
    asked = Asked(tuple(bench_models), baseline, _parts(variants), baseline_variant, runtime, tokenizer)
    outcome = measure(asked, options, data=data, label=label, progress=progress)
    report = outcome.report.model_copy(update={"command": command_line(sys.argv[1:])})
    _leave(report, file if out else None, outcome.fault, rounds, json_output=json_output)


def _leave(report: Report, file: Path | None, cut: BaseException | None, rounds: int, *, json_output: bool) -> None:
    """Writes and prints the report, then raises the error that cut the measuring short.

    Args:
        file: the file that the user named; None for a new one.

    Raises:
        InputError: the report could not be written to its file.
        EdgebertError: a process failed after complete rounds.
        KeyboardInterrupt: there was a Ctrl-C after complete rounds.
    """
    from edgebert.measure.bench.out_file import fresh_file, shown, write_or_rescue
    from edgebert.report.text.bench_table import summary

    written, unwritten = write_or_rescue(file or fresh_file(), report)
    name = shown(written) if written else None
    print_result(json_output, lambda: {"report": name, "models": summary(report)}, lambda: _lines(report, name))
    if cut and name:
        whole = f"{len(report.entries[0].rounds)} of {rounds} rounds were measured as a whole; they are in {name}."
        interrupts.leave(whole) if isinstance(cut, KeyboardInterrupt) else typer.echo(whole, err=True)
    if fault := cut or unwritten:
        raise fault


def _parts(texts: Iterable[str] | None) -> tuple[str, ...]:
    """The values of a repeatable option, each of which may be several with commas between them."""
    return tuple(part.strip() for text in texts or () for part in text.split(","))


def _rates(texts: Iterable[str]) -> tuple[float, ...]:
    """`50,100` -> (50.0, 100.0).

    Raises:
        InputError: a part is no number.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    try:
        return tuple(map(float, parts))
    except ValueError:
        raise InputError(f"--rate {','.join(parts)}: not all are numbers.", hint="For example --rate 50,100") from None


def _numbers(text: str | None, option: str, most: int) -> tuple[int, ...]:
    """`1,8` -> (1, 8).

    Raises:
        InputError: a part is not a number from 1 to `most`.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if strange := next((part for part in parts if not part.isdecimal() or not 0 < int(part) <= most), None):
        raise InputError(f"{option} {text}: {strange!r} is not a number from 1 to {most}.", hint=f"For example {option} 1,8")
    return tuple(int(part) for part in parts)


def _cores(text: str) -> tuple[int, ...] | None:
    """The cores to pin to: None to choose them (`auto`), an empty tuple not to pin (`none`).

    Raises:
        InputError: it is no list of cores, or this process may not use one of them.
    """
    from edgebert.measure.machine.cores import check_cores, usable

    if text in ("auto", "none"):
        return None if text == "auto" else ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"--pin {text} is no list of cores.", hint="Give auto, none, or numbers of cores such as 0,1.")
    cores = tuple(sorted({int(part) for part in parts}))
    if not usable():
        raise InputError("This system cannot keep a process to some cores.", hint="Drop --pin.")
    check_cores(cores)
    return cores


def _lines(report: Report, name: str | None) -> list[str]:
    from edgebert.report.text.bench_table import remark_lines, text_table

    lines = [*text_table(report, table_width()), "", *remark_lines(report), *_verdicts(report, name)]
    return [*lines, f"report: {name}"] if name else lines


def _verdicts(report: Report, name: str | None) -> list[str]:
    """Verdicts against the baseline, where there is one; without the packages for comparing, the command for elsewhere."""
    from edgebert.report.text.bench_table import verdict_lines

    try:
        return verdict_lines(report)
    except MissingPackage as error:
        return [f"no verdicts here: {error.message} Elsewhere: edgebert compare {name or 'REPORT'}"]
