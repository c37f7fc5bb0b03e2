"""compare(ref, changed): pure functions from reports to findings; nothing is read and nothing is printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.report.compare import comparable
from edgebert.report.compare.answers import answer_findings
from edgebert.report.compare.compared_metrics import SERIES, SIZE
from edgebert.report.compare.findings import CompareOptions, Comparison, Finding, PairFindings
from edgebert.report.compare.measured import Circumstances, findings_of, machine_of, sides_of, thinning_note, throttled_of
from edgebert.report.compare.pairing import Matched, Pair, baselines_and_candidates, match, require_distinct
from edgebert.report.compare.sameness import shared_samples
from edgebert.report.compare.verdicts import judge_size, machine_note
from edgebert.report.entry import Entry
from edgebert.report.metric_table import LATENCY
from edgebert.report.report import Report

DEFAULTS = CompareOptions()


def compare(
    ref: Report, changed: Report, options: CompareOptions = DEFAULTS, *, names: tuple[str, str] | None = None
) -> Comparison:
    """Compares every entry of REF with its counterpart in CHANGED, metric by metric.

    Raises:
        InputError: a report has two entries of one model under one load.
    """
    named = names or (ref.recipe, changed.recipe)
    for report, name in zip((ref, changed), named, strict=True):
        require_distinct(report, name)
    return _compared(ref, changed, match(ref, changed), options, named)


def compare_within(report: Report, options: CompareOptions = DEFAULTS, *, name: str | None = None) -> Comparison:
    """Compares the candidates of one report with their baselines.

    Raises:
        InputError: the report has two entries of one model under one load.
    """
    require_distinct(report, name or report.recipe, within=True)
    comparison = _compared(report, report, baselines_and_candidates(report), options, (name or report.recipe,) * 2)
    return comparison.model_copy(update={"within": True})


def _compared(ref: Report, changed: Report, matched: Matched, options: CompareOptions, names: tuple[str, str]) -> Comparison:
    machines = comparable.other_machine(ref.environment, changed.environment) if options.across_devices else None
    return Comparison(
        ref=names[0],
        changed=names[1],
        options=options,
        notes=(f"across devices, {machines}",) if machines else (),
        pairs=tuple(_pair_findings(ref, changed, pair, options) for pair in matched.pairs),
        missing=tuple(map(_title, matched.missing)),
        extra=tuple(map(_title, matched.extra)),
    )


def _title(entry: Entry) -> str:
    return f"{entry.name} ({entry.target.name}, {entry.setting.name})"


def _pair_findings(ref: Report, changed: Report, pair: Pair, options: CompareOptions) -> PairFindings:
    obstacles = comparable.obstacles(ref, changed, pair, across_devices=options.across_devices)
    another = comparable.other_machine(ref.environment, changed.environment) is not None
    circumstances = Circumstances(
        obstacles=obstacles,
        band=options.band,
        seed=options.seed,
        paired=pair.rounds() is not None,
        virtual=bool(ref.environment.virtual or changed.environment.virtual),
        machine=None if another else machine_of(pair, options.seed),
        throttled=throttled_of(pair, (ref.environment.cpu_quota, changed.environment.cpu_quota)),
    )
    findings = [
        *_measured(pair, circumstances, options.metrics),
        *_size(pair, options),
        *answer_findings(ref, changed, pair, options),
    ]
    shared = shared_samples(pair)
    same = shared is not None
    notes = [*comparable.notes(ref, changed, pair), thinning_note(sides_of(pair, LATENCY))]
    notes += [f"both sides are the same measurement, which shows nothing: {shared}"] if same else []
    if not circumstances.paired and not obstacles and not same:
        notes.append("measured apart; one run of both (edgebert bench --baseline) tells smaller differences")
    if circumstances.machine:
        notes.append(machine_note(circumstances.machine, options.band, one_run=circumstances.paired))
    elif not another:
        notes.append(
            "not checked whether the machine itself changed: a report holds no reference workload, or too few processes"
        )
    return PairFindings(
        ref=pair.ref.name,
        changed=pair.changed.name,
        target=pair.changed.target.name,
        setting=pair.changed.setting.name,
        paired=circumstances.paired,
        scenario=pair.changed.setting.scenario,
        same_measurement=same,
        obstacles=obstacles,
        differs=comparable.differences(ref, changed, pair),
        notes=tuple(note for note in notes if note),
        findings=tuple(finding for finding in findings if not options.metrics or finding.metric in options.metrics),
    )


def _measured(pair: Pair, circumstances: Circumstances, wanted: Sequence[str]) -> Iterator[Finding]:
    for series, metrics in SERIES.items():
        if asked := [metric for metric in metrics if not wanted or metric.name in wanted]:
            yield from findings_of(series, asked, sides_of(pair, series), circumstances)


def _size(pair: Pair, options: CompareOptions) -> Iterator[Finding]:
    """The finding on the size of the files, which is exact on any machine. Graphs made in memory have no size."""
    before, after = pair.ref.size_bytes, pair.changed.size_bytes
    if bool(before) != bool(after):
        reason = f"{'CHANGED' if before else 'REF'} has no {SIZE.name}"
        known = {"ref": before / 1e6 or None, "changed": after / 1e6 or None}
        yield Finding(metric=SIZE.name, verdict="incomparable", reason=reason, **known)
    elif before:
        verdict, reason = judge_size(SIZE, before, after, options.band)
        ratio = after / before
        sizes = {"ref": before / 1e6, "changed": after / 1e6}
        exact = {"ratio": ratio, "interval": (ratio, ratio), "at_worst": ratio}
        yield Finding(metric=SIZE.name, verdict=verdict, reason=reason, **sizes, **exact, exact=True)
