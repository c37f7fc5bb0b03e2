"""The top of the page: the verdict and its reasons, the numbers that matter, the table of all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.gates import METRICS, GateResult
from edgebert.page.parts import Cell, Column, Section, Table, number, short, words
from edgebert.page.source import Source
from edgebert.report import Entry
from edgebert.search_lines import advice_lines
from edgebert.table import cells, columns_for, standing


@dataclass(frozen=True)
class Fact:
    """One number that matters, and what it is beside."""

    title: str
    text: str
    beside: str = ""


@dataclass(frozen=True)
class Summary:
    """What is read first."""

    status: str | None
    """PASSED, FAILED, or None where there were no gates."""
    model: str
    sentence: str
    facts: tuple[Fact, ...]
    gates: tuple[GateResult, ...] = ()
    others: tuple[str, ...] = ()
    """The fastest under each other load."""
    advice: tuple[str, ...] = ()


def summary(source: Source) -> Summary:
    """The verdict, or the fastest where there is none."""
    verdict = source.verdict
    if verdict is None:
        fastest, *others = fastest_of_each_load(source)
        told = tuple(f"{source.label(entry)}: {load_of(entry)}, {speed(entry)}" for entry in others)
        return Summary(None, source.label(fastest), sentence(source, fastest), facts(source, fastest), others=told)
    best = verdict.best.entry
    return Summary(
        verdict.status,
        source.label(best),
        sentence(source, best),
        facts(source, best),
        verdict.best.results,
        advice=tuple(line.strip() for line in advice_lines(source.report, verdict)),
    )


def load_of(entry: Entry) -> str:
    """Under which load an entry was measured."""
    target = entry.target
    parts = [entry.setting.name]
    parts += [f"batch {target.batch}"] if target.batch != 1 else []
    return ", ".join([*parts, f"{target.threads} thread{'s' if target.threads != 1 else ''}"])


def fastest_of_each_load(source: Source) -> list[Entry]:
    """The fastest for each setting and batch, in the order of the report; offline, that with the most texts a second."""
    best: dict[tuple[str, int], Entry] = {}
    for entry in source.report.entries:
        load = (entry.setting.name, entry.target.batch)
        if load not in best or _cost(entry) < _cost(best[load]):
            best[load] = entry
    return list(best.values())


def _cost(entry: Entry) -> float:
    rate = entry.throughput() if entry.setting.scenario == "offline" else None
    p50 = entry.percentile_ms(50)
    return 1 / rate if rate else p50 if p50 is not None else float("inf")


def speed(entry: Entry) -> str:
    """Median latency or throughput, whichever its load is about, and whether a server's bound held."""
    p50, rate, setting = entry.percentile_ms(50), entry.throughput(), entry.setting
    if setting.scenario == "offline" and rate:
        return f"{short(rate)} texts a second"
    told = [f"{short(p50)} ms at the median" if p50 else "too few samples for a median"]
    held = bound_held(entry)
    if held is not None:
        told.append(f"the bound of {setting.bound_ms:g} ms at p{setting.bound_percent} {'holds' if held else 'is missed'}")
    return ", ".join(told)


def bound_held(entry: Entry) -> bool | None:
    """Whether a server's latency bound holds; None where there is none, or too few samples to tell."""
    setting = entry.setting
    if setting.bound_ms is None or setting.bound_percent not in (50, 90, 95, 99):
        return None
    value = entry.percentile_ms(setting.bound_percent)
    return value <= setting.bound_ms if value is not None else None


def sentence(source: Source, entry: Entry) -> str:
    """Speed, answers and size beside FP32's, as far as they were measured."""
    report, baseline = source.report, source.report.baseline_of(entry)
    speedup = report.value(entry, "speedup")
    parts = [speed(entry)]
    if baseline is not None and baseline is not entry:
        if speedup:
            parts[0] += f", {speedup:.2f} times as fast as {source.label(baseline)} ({speed(baseline)})"
        parts += _score_part(source, entry, baseline)
        parts.append(f"{short(entry.size_bytes / 1e6)} MB on disk instead of {short(baseline.size_bytes / 1e6)} MB")
    else:
        parts.append(f"{short(entry.size_bytes / 1e6)} MB on disk")
    return "; ".join(parts) + "."


def _score_part(source: Source, entry: Entry, baseline: Entry) -> list[str]:
    report = source.report
    for metric in report.task_metrics:
        ours, theirs = report.value(entry, metric), report.value(baseline, metric)
        if ours is not None and theirs is not None:
            return [f"{metric} {ours:.4f} against {theirs:.4f} over {len(report.references):,} texts"]
    return []


def facts(source: Source, entry: Entry) -> tuple[Fact, ...]:
    """The cards: what was measured, each beside FP32's."""
    report, baseline = source.report, source.report.baseline_of(entry)
    metric = report.task_metrics[0] if report.task_metrics else None
    speedup = report.value(entry, "speedup") if baseline is not entry else None
    found = [Fact("Speed", f"{speedup:.2f}×", "FP32's median over its own")] if speedup else []
    wanted = [("Median latency", "p50_ms", "{} ms"), *([(metric, metric, "{:.4f}")] if metric else [])]
    wanted += [("Size", "size_mb", "{} MB"), ("Peak memory", "peak_rss_mb", "{} MB")]
    for title, name, form in wanted:
        value, other = report.value(entry, name), report.value(baseline, name) if baseline else None
        if value is not None:
            beside = f"FP32 {_written(form, other)}" if other is not None and baseline is not entry else ""
            found.append(Fact(title.capitalize() if title == metric else title, _written(form, value), beside))
    rate = entry.throughput()
    if rate and entry.setting.scenario != "single-stream":
        found.append(Fact("Throughput", f"{short(rate)}/s", "texts"))
    return tuple(found)


def _written(form: str, value: float) -> str:
    return form.format(value) if ":" in form else form.format(short(value))


def models(source: Source) -> Section:
    """The table of all models: the columns of the terminal's table, with throughput and load where they differ."""
    report, verdict = source.report, source.verdict
    shared = columns_for(report)
    loads = {load_of(entry) for entry in report.entries}
    rates = any(entry.throughput() and entry.setting.scenario != "single-stream" for entry in report.entries)
    rows = []
    for label, entry in source.labelled:
        row = [words(label)] + ([words(load_of(entry))] if len(loads) > 1 else [])
        for column, text in zip(shared, cells(report, entry, shared), strict=True):
            row.append(Cell(text, report.value(entry, column.metric)))
        row += [number(entry.throughput(), "{:,.0f}")] if rates else []
        state = standing(verdict, entry) if verdict else {"baseline": "baseline", "step": "step"}.get(entry.role, "")
        rows.append((*row, Cell(state, state, _mark(state))))
    columns = [Column("model", numeric=False)] + ([Column("load", numeric=False)] if len(loads) > 1 else [])
    columns += [Column(column.title, meaning=METRICS.get(column.metric, "")) for column in shared]
    columns += [Column("texts/s", meaning="texts answered in a second")] if rates else []
    columns.append(Column("verdict" if verdict else "role", numeric=False))
    note = "Sort by a column: click its title, or press Enter on it." if len(rows) > 1 else ""
    return Section("models", "All models", tables=(Table("Every model that was measured", tuple(columns), tuple(rows), note),))


def _mark(state: str) -> str | None:
    return "good" if state.startswith("PASSED") else "bad" if state.startswith("FAILED") else None


def failures(source: Source) -> Sequence[str]:
    """Which gates each candidate misses, but for the best, whose gates are at the top."""
    verdict = source.verdict
    if verdict is None:
        return ()
    return [
        f"{source.label(item.entry)}: {'; '.join(item.failures)}"
        for item in verdict.judgements
        if not item.passed and item is not verdict.best
    ]
