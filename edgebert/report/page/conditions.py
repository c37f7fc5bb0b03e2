"""Section: the machine, and disturbances of the measurements on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgebert.report.entry import Entry
from edgebert.report.environment import Environment, MachineState
from edgebert.report.page.parts import (
    Block,
    Cell,
    PageColumn,
    Section,
    Table,
    filled_columns,
    number,
    short,
    text_columns,
    words,
)
from edgebert.report.page.source import PageSource
from edgebert.report.text.disturbances import machine_lines
from edgebert.report.text.selection import selection_lines

BESIDE = 0.05
"""Share of the median beyond which the loop's own cost is a warning."""
LINE = 100
"""Longest line of CPU flags, in characters."""


def section(source: PageSource) -> Section:
    """The section: conditions of each model's measurement, the machine, the libraries."""
    environment = source.report.environment
    return Section(
        "conditions",
        "How it was measured",
        warnings=tuple(warnings(source)),
        tables=(_marks(source), _machine(environment)),
        folded=tuple(table for table in (_packages(environment), _state(environment)) if table.rows),
        blocks=_flags(environment.flags),
    )


def warnings(source: PageSource) -> list[str]:
    """Disturbances that make the numbers less reliable, a sentence for each model and kind."""
    selection = source.report.selection
    lines = [f"{line[0].upper()}{line[1:]}." for line in machine_lines(source.report)]
    lines += selection_lines(source.report)[0 if selection and selection.source == "data.eval" else 1 :]
    for label, entry in source.labelled:
        count = len(entry.rounds)
        throttled = sum(item.throttled is True for item in entry.rounds)
        unsettled = sum(item.stable is False for item in entry.rounds)
        overhead, p50 = _overhead_ns(entry), entry.percentile_ms(50)
        lines += [f"{label}: the machine throttled in {throttled} of {count} processes."] if throttled else []
        lines += [f"{label}: latency had not settled after warm-up in {unsettled} of {count} processes."] if unsettled else []
        if overhead and p50 and overhead / 1e6 > BESIDE * p50:
            share = overhead / 1e6 / p50
            lines.append(f"{label}: the loop itself costs {short(overhead / 1e3)} µs a query, {share:.0%} of the median.")
    return lines


def _overhead_ns(entry: Entry) -> float | None:
    known = [item.overhead_ns for item in entry.rounds if item.overhead_ns is not None]
    return float(np.median(known)) if known else None


def _reference_spread(entry: Entry) -> float | None:
    """Spread of the machine's speed: largest over smallest time of the reference workload in the processes, less 1."""
    times = [float(np.median(item.reference_workload_ns.values)) for item in entry.rounds if len(item.reference_workload_ns)]
    return max(times) / min(times) - 1 if times and min(times) > 0 else None


def _marks(source: PageSource) -> Table:
    rows = [_mark_row(label, entry) for label, entry in source.labelled]
    columns = (
        PageColumn("model", numeric=False),
        PageColumn("processes", meaning="fresh processes, models taking turns"),
        PageColumn("queries", meaning="timed, in all"),
        PageColumn("warm-up", meaning="queries before the timed ones, in each process"),
        PageColumn("settled", numeric=False, meaning="whether latency had settled by the end of warm-up"),
        PageColumn(
            "throttled", numeric=False, meaning="whether the machine throttled or, where it does not report that, was too hot"
        ),
        PageColumn("loop µs", meaning="what the measuring loop itself costs for each query"),
        PageColumn("reference spread", meaning="slowest over fastest process in the reference workload, less 1"),
        PageColumn("cores", numeric=False, meaning="cores that the process was pinned to"),
        PageColumn("INT8 with", numeric=False, meaning="strongest instruction set that the process could use"),
    )
    return Table("The measurement of each model", *filled_columns(columns, rows))


def _mark_row(label: str, entry: Entry) -> tuple[Cell, ...]:
    warmups = [item.warmup for item in entry.rounds if item.warmup is not None]
    overhead = _overhead_ns(entry)
    pinned = sorted({item.pinned for item in entry.rounds})
    isas = entry.isas()
    return (
        words(label),
        number(float(len(entry.rounds)), "{:.0f}"),
        number(float(len(entry.latencies_ms())), "{:,.0f}"),
        number(float(np.median(warmups)) if warmups else None, "{:.0f}"),
        _all_or_some([item.stable for item in entry.rounds], good=True),
        _all_or_some([item.throttled for item in entry.rounds], good=False),
        number(overhead / 1e3 if overhead is not None else None, "{:.2f}"),
        number(_reference_spread(entry), "{:.1%}"),
        words("; ".join(", ".join(map(str, cores)) for cores in pinned)) if any(pinned) else Cell("n/a"),
        words(" or ".join(isas)) if isas else Cell("n/a"),
    )


def _all_or_some(values: Sequence[bool | None], *, good: bool) -> Cell:
    """`yes`, `no`, or `in 1 of 3` processes; n/a where no process reports it."""
    known = [value for value in values if value is not None]
    if not known:
        return Cell("n/a")
    yes = sum(known)
    text = "yes" if yes == len(known) else "no" if yes == 0 else f"in {yes} of {len(known)}"
    return Cell(text, text, None if all(value == good for value in known) else "bad")


def _machine(environment: Environment) -> Table:
    turbo = {True: "on", False: "off", None: None}[environment.turbo]
    properties: list[tuple[str, object]] = [
        ("board", environment.board),
        ("CPU", environment.cpu),
        ("instruction sets", ", ".join(environment.isa) or None),
        ("cores usable", environment.cores),
        ("threads per core", environment.threads_per_core),
        ("architecture", environment.machine),
        ("virtual machine", {True: "yes", False: "no", None: None}[environment.virtual]),
        ("memory", _gb(environment.memory_bytes)),
        ("memory limit", _gb(environment.memory_limit_bytes)),
        ("CPU quota", f"{environment.cpu_quota:g} cores" if environment.cpu_quota else None),
        ("frequency governor", environment.governor),
        ("turbo", turbo),
        ("clock source", environment.clock),
        ("load average at the start", environment.load_average),
        ("system", environment.system),
        ("Python", environment.python),
        ("fingerprint", environment.fingerprint[:16]),
    ]
    return _pairs("The machine", "property", properties)


def _packages(environment: Environment) -> Table:
    return _pairs("Versions of packages", "package", sorted(environment.packages.items()))


def _pairs(caption: str, title: str, pairs: Sequence[tuple[str, object]]) -> Table:
    rows = tuple((words(name), words(value)) for name, value in pairs if value is not None)
    return Table(caption, text_columns(title, "value"), rows, sortable=False)


def _gb(count: int | None) -> str | None:
    return f"{count / 1e9:.1f} GB" if count else None


STATES = (
    ("load average", lambda state: state.load_average, "{:.2f}"),
    ("slowest core, MHz", lambda state: min(state.frequencies_mhz, default=None), "{:,.0f}"),
    ("fastest core, MHz", lambda state: max(state.frequencies_mhz, default=None), "{:,.0f}"),
    ("temperature, °C", lambda state: state.temperature_c, "{:.1f}"),
    ("times the CPU throttled since its start", lambda state: state.throttle_count, "{:,.0f}"),
    ("held back by the CPU quota, ms", lambda state: _thousandth(state.quota_throttled_us), "{:,.1f}"),
    ("clock ticks that other guests took", lambda state: state.stolen_ticks, "{:,.0f}"),
    ("memory available, MB", lambda state: _thousandth(_thousandth(state.available_bytes)), "{:,.0f}"),
)


def _thousandth(value: float | None) -> float | None:
    return value / 1e3 if value is not None else None


def _state(environment: Environment) -> Table:
    before, after = environment.before or MachineState(), environment.after or MachineState()
    rows = [(words(name), number(read(before), form), number(read(after), form)) for name, read, form in STATES]
    known = tuple(row for row in rows if any(cell.value is not None for cell in row[1:]))
    columns = (PageColumn("state of the machine", numeric=False), PageColumn("before"), PageColumn("after"))
    return Table("The machine before and after", columns, known, sortable=False)


def _flags(flags: Sequence[str]) -> tuple[Block, ...]:
    import textwrap

    return (
        (Block("Flags of the CPU", textwrap.fill(" ".join(flags), LINE, break_on_hyphens=False), folded=True),) if flags else ()
    )
