"""The top of the page: the verdict with its reasons, the most important numbers, the table of all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgebert.report.entry import Entry
from edgebert.report.gates import GateResult
from edgebert.report.page.parts import Cell, PageColumn, Section, Table, metric_column, number, short, text_columns, words
from edgebert.report.page.source import PageSource, batch_of, setting_of, threads_of
from edgebert.report.text import bench_table as bench
from edgebert.report.text.run_table import cells, columns_for, status_of
from edgebert.report.text.search import advice_lines


@dataclass(frozen=True)
class Fact:
    """One important number, and the baseline's or an interval beside it."""

    title: str
    text: str
    beside: str = ""


@dataclass(frozen=True)
class Advice:
    """A sentence of advice, and the list that it introduces."""

    text: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The first lines of a report."""

    status: str | None
    """PASSED, FAILED, or None without gates."""
    model: str
    sentence: str
    facts: tuple[Fact, ...]
    gates: tuple[GateResult, ...] = ()
    others: tuple[str, ...] = ()
    """Sentences on the fastest model under each other load."""
    advice: tuple[Advice, ...] = ()


def summary(source: PageSource) -> Summary:
    """The summary of the verdict's best model, or of the fastest model where there is no verdict."""
    verdict = source.verdict
    if verdict is None:
        fastest, *rest = fastest_of_each_load(source)
        others = tuple(f"{source.label(entry)}: {load_of(entry)}, {speed(entry)}" for entry in rest)
        return Summary(None, source.label(fastest), sentence(source, fastest), facts(source, fastest), others=others)
    best = verdict.best.entry
    return Summary(
        verdict.status,
        source.label(best),
        sentence(source, best),
        facts(source, best),
        verdict.best.results,
        advice=_advice(advice_lines(source.report, verdict)),
    )


def _advice(lines: Sequence[str]) -> tuple[Advice, ...]:
    """Lines as sentences of advice: indented lines belong to the sentence before them."""
    advice: list[Advice] = []
    for line in lines:
        if line.startswith(" ") and advice:
            advice[-1] = Advice(advice[-1].text, (*advice[-1].items, line.strip()))
        else:
            advice.append(Advice(line.strip()[:1].upper() + line.strip()[1:], ()))
    return tuple(advice)


def load_of(entry: Entry) -> str:
    """The load of an entry: `server-20/s, batch 8, 2 threads`."""
    return ", ".join([setting_of(entry), *([batch_of(entry)] if entry.target.batch != 1 else []), threads_of(entry)])


def fastest_of_each_load(source: PageSource) -> list[Entry]:
    """The fastest entry for each setting and batch, in the order of the report; offline, by throughput."""
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
    """Median latency, or throughput offline, and whether a server's bound held."""
    p50, rate, setting = entry.percentile_ms(50), entry.throughput(), entry.setting
    if setting.scenario == "offline" and rate:
        return f"{short(rate)} texts a second"
    parts = [f"{short(p50)} ms at the median" if p50 else "too few samples for a median"]
    held = bench.bound_held(entry)
    if held is not None:
        parts.append(f"the bound of {setting.bound_ms:g} ms at p{setting.bound_percent} {'holds' if held else 'is missed'}")
    return ", ".join(parts)


def sentence(source: PageSource, entry: Entry) -> str:
    """A sentence on speed, score and size beside the baseline's, as far as they were measured."""
    baseline, speedup = source.baseline_of(entry), source.speedup(entry)
    parts = [speed(entry)]
    if baseline is not None and baseline is not entry:
        if speedup:
            parts[0] += f", {speedup:.2f} times as fast as {source.label(baseline)} ({speed(baseline)})"
        parts += _score_part(source, entry, baseline)
        parts.append(f"{short(entry.size_bytes / 1e6)} MB on disk instead of {short(baseline.size_bytes / 1e6)} MB")
    else:
        parts.append(f"{short(entry.size_bytes / 1e6)} MB on disk")
    return "; ".join(parts) + "."


def _score_part(source: PageSource, entry: Entry, baseline: Entry) -> list[str]:
    report = source.report
    for metric in report.task_metrics:
        ours, theirs = report.value(entry, metric), report.value(baseline, metric)
        if ours is not None and theirs is not None:
            return [f"{metric} {ours:.4f} against {theirs:.4f} over {report.examples:,} texts"]
    return []


def facts(source: PageSource, entry: Entry) -> tuple[Fact, ...]:
    """The cards: speed, latency, score, size and memory, each beside the baseline's."""
    report, baseline, speedup = source.report, source.baseline_of(entry), source.speedup(entry)
    metric = report.task_metrics[0] if report.task_metrics else None
    than = "FP32" if source.verdict or baseline is None else "baseline"
    cards = [Fact("Speed", f"{speedup:.2f}×", f"as fast as {than}{_interval(source, entry)}")] if speedup else []
    wanted = [("Median latency", "p50_ms", "{} ms"), *([(metric, metric, "{:.4f}")] if metric else [])]
    wanted += [("Size", "size_mb", "{} MB"), ("Peak memory", "peak_rss_mb", "{} MB")]
    for title, name, form in wanted:
        value, other = report.value(entry, name), report.value(baseline, name) if baseline else None
        if value is not None:
            beside = f"{than} {_written(form, other)}" if other is not None and baseline is not entry else ""
            cards.append(Fact(title.capitalize() if title == metric else title, _written(form, value), beside))
    rate = entry.throughput()
    if rate and entry.setting.scenario != "single-stream":
        cards.append(Fact("Throughput", f"{short(rate)}/s", "texts"))
    return tuple(cards)


def _interval(source: PageSource, entry: Entry) -> str:
    """Text on the 95 % interval of the speed-up, or on why there is none."""
    for pair in source.within.pairs:
        if (pair.changed, pair.target, pair.setting) == (entry.name, entry.target.name, entry.setting.name):
            finding = next((item for item in pair.findings if item.metric == "p50_ms"), None)
            if finding and finding.interval and min(finding.interval) > 0:
                return f", 95 %: {1 / finding.interval[1]:.2f} to {1 / finding.interval[0]:.2f}"
            return f"; {finding.verdict}: {finding.reason}" if finding and not finding.interval else ""
    return ""


def _written(form: str, value: float) -> str:
    return form.format(value) if ":" in form else form.format(short(value))


def models(source: PageSource) -> Section:
    """The section with the table of all models. It has the columns of the terminal's table, of compress or of bench."""
    loads = len({load_of(entry) for entry in source.report.entries}) > 1
    columns, values = _measured(source)
    rows = []
    for (label, entry), measured in zip(source.labelled, values, strict=True):
        state = _state(source, entry)
        held = bench.bound_held(entry)
        first = [words(entry.name if loads else label), Cell(state, state, _mark(state))] + (
            [words(load_of(entry))] if loads else []
        )
        first += [Cell("n/a") if held is None else _held(held)] if _bounded(source) else []
        rows.append((*first, *measured))
    titles = [
        "model",
        "verdict" if source.verdict else "role",
        *(["load"] if loads else []),
        *(["bound"] if _bounded(source) else []),
    ]
    every = (*text_columns(*titles), *columns)
    selection = source.report.selection
    lead = (selection.sentence,) if selection and selection.source != "data.eval" else ()
    return Section("models", "All models", lead, tables=(Table("Every model that was measured", every, tuple(rows)),))


def _measured(source: PageSource) -> tuple[list[PageColumn], list[list[Cell]]]:
    """The metrics of the table that compress or bench prints, as columns, and the cells of each entry."""
    report = source.report
    if source.verdict or any(entry.coverage for entry in report.entries):
        shared = columns_for(report)
        rows = [
            [
                Cell(text, report.value(entry, column.name))
                for column, text in zip(shared, cells(report, entry, shared, source.verdict), strict=True)
            ]
            for entry in report.entries
        ]
        return [metric_column(column.name) for column in shared], rows
    values = {
        metric: [bench.value_of(report, entry, metric) for entry in report.entries] for metric in bench.columns_for(report)
    }
    known = {metric: of for metric, of in values.items() if any(value is not None for value in of)}
    rows = [[number(of[index], metric.form) for metric, of in known.items()] for index in range(len(report.entries))]
    return [metric_column(metric.name) for metric in known], rows


def _state(source: PageSource, entry: Entry) -> str:
    return status_of(source.verdict, entry) if source.verdict else entry.role


def _bounded(source: PageSource) -> bool:
    return any(entry.setting.bound_ms for entry in source.report.entries)


def _held(held: bool) -> Cell:
    word = "held" if held else "missed"
    return Cell(word, word, "good" if held else "bad")


def _mark(state: str) -> str | None:
    return "good" if state.startswith("PASSED") else "bad" if state.startswith("FAILED") else None


def plain_reason(result: GateResult) -> str:
    """A gate's reason without `holds` or `missed`, which the page shows in front of it."""
    return result.reason.removesuffix(", holds").removesuffix(", missed")


def failures(source: PageSource) -> Sequence[str]:
    """The gates that each candidate misses; the best candidate's are at the top of the page."""
    verdict = source.verdict
    if verdict is None:
        return ()
    return [
        f"{source.label(item.entry)}: {'; '.join(item.failures)}"
        for item in verdict.judged_entries
        if not item.passed and item is not verdict.best
    ]
