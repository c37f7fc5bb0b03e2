"""Findings on the metrics that processes measure: times, throughput, memory, energy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgebert.report.compare.compared_metrics import REFERENCE_TIME, ComparedMetric, side_of
from edgebert.report.compare.findings import Finding, Verdict
from edgebert.report.compare.pairing import Pair
from edgebert.report.compare.statistics import FEWEST_PROCESSES, Estimate, Side, compare_sides, thinned_to
from edgebert.report.compare.verdicts import Cost, Margins, at_worst, cost_of, judge, margins_for, too_few
from edgebert.report.metric_table import REFERENCE_WORKLOAD, Series

Sides = tuple[Side | None, Side | None]


@dataclass(frozen=True)
class Circumstances:
    """Facts beside the values themselves that decide the verdict on a pair."""

    obstacles: tuple[str, ...]
    band: float
    seed: int
    paired: bool
    virtual: bool
    """Whether a side was measured on a virtual machine."""
    machine: Cost | None
    """Change of the machine's own speed; None where it is not known, or where the machines differ on purpose."""
    throttled: str | None
    """A sentence on the processes that ran while the machine throttled; None where none did."""

    def margins(self, metric: ComparedMetric) -> Margins:
        """The margins that a difference has to exceed. Other guests of a virtual machine do not change bytes."""
        return margins_for(self.band, one_run=self.paired, virtual=self.virtual and metric.kind != "amount")


def sides_of(pair: Pair, series: Series) -> Sides:
    """Both sides' values, round by round where they took turns."""
    rounds = pair.rounds() or (None, None)
    return side_of(pair.ref, series, rounds[0]), side_of(pair.changed, series, rounds[1])


def machine_of(pair: Pair, seed: int) -> Cost | None:
    """Change of the machine's own speed, from the reference workload of each process. None where a side did not time it."""
    ref, changed = sides_of(pair, REFERENCE_WORKLOAD)
    if ref is None or changed is None or min(len(ref.blocks), len(changed.blocks)) < FEWEST_PROCESSES:
        return None
    (estimate,) = compare_sides(ref, changed, [50], paired=pair.rounds() is not None, seed=seed)
    return cost_of(REFERENCE_TIME, estimate) if estimate.interval else None


def throttled_of(pair: Pair, quotas: tuple[float | None, float | None]) -> str | None:
    """A sentence on the processes that ran while the machine throttled; None where none did.

    Args:
        quotas: CPU quota of each side, in cores.
    """
    counts, quota = [], None
    for name, entry, allowed in zip(("REF", "CHANGED"), (pair.ref, pair.changed), quotas, strict=True):
        count = sum(item.throttled is True for item in entry.rounds)
        counts += [f"{count} of {len(entry.rounds)} processes of {name}"] if count else []
        quota = allowed if count and allowed is not None else quota
    cure = "let it cool down" if quota is None else f"raise the CPU quota of {quota:g} cores, or let it cool down,"
    return f"the machine throttled in {' and '.join(counts)}; {cure} and measure again" if counts else None


def thinning_note(sides: Sides) -> str | None:
    """A note where the bootstrap did not use all samples; else None."""
    known = [side for side in sides if side]
    kept = thinned_to(known)
    if kept is None:
        return None
    total = sum(side.samples for side in known)
    return (
        f"percentiles are of all {total:,} samples, their intervals of {kept:,} evenly spaced ones of each process: "
        f"its ranks are off by at most {50 / kept:.2g} %"
    )


def findings_of(
    series: Series, metrics: Sequence[ComparedMetric], sides: Sides, circumstances: Circumstances
) -> Iterator[Finding]:
    """One finding for each of the series' metrics for which at least one side has enough samples."""
    carried = [{metric.name for metric in metrics if side and side.samples >= metric.how.fewest} for side in sides]
    both = [metric for metric in metrics if metric.name in carried[0] & carried[1]]
    estimates = dict(zip([metric.name for metric in both], _estimates(both, sides, circumstances), strict=True))
    for metric in metrics:
        if metric.name in estimates:
            yield _finding(metric, estimates[metric.name], sides, series.unit, circumstances)
        elif metric.name in carried[0] | carried[1]:
            yield _one_sided(metric, sides, series.unit, lacking=1 if metric.name in carried[0] else 0)


def _one_sided(metric: ComparedMetric, sides: Sides, unit: float, *, lacking: int) -> Finding:
    """The finding on a metric that REF (`lacking` = 0) or CHANGED (1) does not have."""
    known = sides[1 - lacking]
    assert known is not None
    value = float(np.percentile(np.concatenate(known.blocks), metric.how.percent)) / unit
    fewest = f", or fewer than {metric.how.fewest} samples" if metric.how.fewest > 1 else ""
    return Finding(
        metric=metric.name,
        verdict="incomparable",
        reason=f"{('REF', 'CHANGED')[lacking]} has no {metric.name}{fewest}",
        ref=value if lacking else None,
        changed=None if lacking else value,
    )


def _estimates(metrics: Sequence[ComparedMetric], sides: Sides, circumstances: Circumstances) -> list[Estimate]:
    ref, changed = sides
    if not metrics or ref is None or changed is None:
        return []
    percents = [metric.how.percent for metric in metrics]
    return compare_sides(ref, changed, percents, paired=circumstances.paired, seed=circumstances.seed)


def _finding(metric: ComparedMetric, estimate: Estimate, sides: Sides, unit: float, circumstances: Circumstances) -> Finding:
    ref, changed = sides
    assert ref is not None and changed is not None
    processes = (len(ref.blocks), len(changed.blocks))
    verdict, reason = _judged(metric, estimate, processes, circumstances)
    known = verdict != "incomparable" and estimate.interval is not None
    return Finding(
        metric=metric.name,
        verdict=verdict,
        reason=reason,
        ref=estimate.ref / unit,
        changed=estimate.changed / unit,
        ratio=estimate.ratio if verdict != "incomparable" else None,
        interval=estimate.interval if known else None,
        p_value=estimate.p_value if known else None,
        at_worst=_at_worst(metric, estimate, circumstances) if known else None,
        processes=processes,
        samples=(ref.samples, changed.samples),
    )


def _judged(
    metric: ComparedMetric, estimate: Estimate, processes: tuple[int, int], circumstances: Circumstances
) -> tuple[Verdict, str]:
    if circumstances.obstacles:
        return "incomparable", "; ".join(circumstances.obstacles)
    if few := too_few(processes):
        return "inconclusive", few
    if estimate.interval is None:
        return "inconclusive", "a value of 0 has no ratio"
    if metric.kind != "amount" and circumstances.throttled:
        return "inconclusive", circumstances.throttled
    machine = _machine_for(metric, circumstances)
    return judge(metric, estimate, margins=circumstances.margins(metric), processes=processes, machine=machine)


def _at_worst(metric: ComparedMetric, estimate: Estimate, circumstances: Circumstances) -> float | None:
    if metric.kind != "amount" and circumstances.throttled:
        return None
    return at_worst(metric, estimate, circumstances.band, _machine_for(metric, circumstances))


def _machine_for(metric: ComparedMetric, circumstances: Circumstances) -> Cost | None:
    """Change of the machine's own speed; None for bytes and joules, which do not depend on it."""
    return None if metric.kind == "amount" else circumstances.machine
