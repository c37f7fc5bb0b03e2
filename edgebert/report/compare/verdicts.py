"""From an estimate to a verdict and its reason.

The rule, on the logarithm of the cost ratio (time, or 1 / throughput), with the band from -log(1.02) to log(1.02):

- slower, or faster: the ratio lies beyond the band and its whole 95 % interval beyond the margin on that side; Mann-Whitney's
  test agrees at 5 %; and both still hold after the machine's own change is subtracted, which must not be large. Where both
  took turns in one run, the margin is half the band. Where they were measured apart, it is the whole band, because no
  interval includes the machine's change between the runs: with a drift of 0.5 % per process, half the band would be wrong
  seven times as often. Measured apart on a virtual machine, whose neighbours come and go, both ratio and interval must lie
  beyond twice the band;
- equivalent: the whole interval lies within the band, and still does after the machine's own change is subtracted, unless
  that change is known to be within half the band;
- inconclusive: neither, with what would settle it.

"The interval excludes 1" alone would be wrong for one in twenty metrics of equal models. In simulations with eight processes
a side that differ by 1 %, the rule is wrong for fewer than one in a thousand and detects 5 % in 99 of 100 in one run; where
processes differ by 1.5 %, in 98 of 100. Measured apart, where few processes do not exclude a drift (drift.py), it detects 5 %
in about 80 of 100 where they differ by 0.8 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgebert.report.compare.accuracy import Difference
from edgebert.report.compare.amounts import BETTER, WORSE, change, cost_sign, points, share, span
from edgebert.report.compare.compared_metrics import ComparedMetric
from edgebert.report.compare.findings import Verdict
from edgebert.report.compare.statistics import FEWEST_PROCESSES, Estimate

AGREES = 0.05
"""Largest p-value of the second test that confirms a difference."""
NOISY = 3
"""Half-width of the interval, in bands, beyond which the reason for no verdict is noise."""
MOST_TAKEN_OFF = 0.1
"""Largest change of the machine that is subtracted: when others work on the machine, tails lose more than the reference
workload does."""
MOVED = 0.02
"""A machine has changed beyond half of this, or half of the band where that is less: a wide band excuses no machine."""
STEADY = 0.05
"""A machine was disturbed where the interval of its reference workload is not within this."""
MOST_WORTH_ASKING = 100
"""Most additional processes that are recommended; beyond it the advice is that they will hardly help."""


@dataclass(frozen=True)
class Cost:
    """A log ratio of cost and the half-width of its interval: above 0 is worse."""

    value: float
    half_width: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.value + self.half_width

    def without(self, other: Cost) -> Cost:
        """The change that remains after another is subtracted."""
        return Cost(self.value - other.value, math.hypot(self.half_width, other.half_width))

    def position(self, margins: Margins | float) -> str:
        """Position relative to the band: `above`, `below`, `within`, or `across` one of its edges.

        Above and below: the value lies beyond `margins.beyond` and the whole interval beyond `margins.clear`. A number stands
        for all three margins.
        """
        given = margins if isinstance(margins, Margins) else Margins(margins, margins, margins, one_run=True)
        edge, beyond, clear = (math.log1p(part) for part in (given.band, given.beyond, given.clear))
        if self.value > beyond and self.low > clear:
            return "above"
        if self.value < -beyond and self.high < -clear:
            return "below"
        return "within" if -edge <= self.low and self.high <= edge else "across"


def cost_of(metric: ComparedMetric, estimate: Estimate) -> Cost:
    """The estimate as a cost: a rate's ratio is inverted."""
    return Cost(cost_sign(metric.kind) * estimate.log_ratio, estimate.half_width)


def too_few(processes: tuple[int, int]) -> str | None:
    """The reason for no verdict where a side has too few processes; else None."""
    if min(processes) >= FEWEST_PROCESSES:
        return None
    return f"too few processes: {min(processes)}; measure with --rounds {FEWEST_PROCESSES + 1} or more"


@dataclass(frozen=True)
class Margins:
    """Distances from a ratio of 1, as shares."""

    band: float
    """Equivalence: the whole interval is within this."""
    beyond: float
    """Difference: the ratio itself is beyond this."""
    clear: float
    """Difference: the whole interval is beyond this."""
    one_run: bool


def margins_for(band: float, *, one_run: bool, virtual: bool) -> Margins:
    """The margins for two sides that took turns in one run, or were measured apart."""
    if one_run:
        return Margins(band, band, band / 2, one_run)
    apart = 2 * band if virtual else band
    return Margins(band, apart, apart, one_run)


def judge(
    metric: ComparedMetric, estimate: Estimate, *, margins: Margins, processes: tuple[int, int], machine: Cost | None
) -> tuple[Verdict, str]:
    """The verdict on a metric that processes measured, and its reason.

    Args:
        processes: number of processes, ref and changed.
        machine: change of the machine's own speed, where it is known.
    """
    cost, band, one_run = cost_of(metric, estimate), margins.band, margins.one_run
    position = cost.position(margins)
    interval = span(metric.kind, cost.low, cost.high)
    note = machine_note(machine, band, one_run=one_run) if machine else None
    if position == "across":
        moved = f"; {note}" if machine and _has_moved(machine, band) else ""
        return "inconclusive", f"{interval}, {_undecided(cost, margins, processes)}{moved}"
    if machine and _may_explain(machine, cost, position, margins):
        return "inconclusive", f"{interval}, but {note or _speed_known(machine)}"
    if position == "within":
        return "equivalent", f"within {share(band)} either way: {interval}"
    if estimate.p_value > AGREES:
        return "inconclusive", f"{interval}, but Mann-Whitney's test does not agree (p = {estimate.p_value:.2g})"
    verdict = WORSE[metric.kind] if position == "above" else BETTER[metric.kind]
    part = f"; {note}, which does not explain it" if note else ""
    return verdict, f"{change(metric.kind, cost.value)} ({interval}), beyond {_edge(margins)}{part}"


def at_worst(metric: ComparedMetric, estimate: Estimate, band: float, machine: Cost | None) -> float:
    """The largest ratio of cost that is not ruled out.

    A machine that was faster, or whose own speed is not known to a few percent, may hide a loss of the model.
    """
    cost = cost_of(metric, estimate)
    if machine is None or not (_has_moved(machine, band) or machine.position(STEADY) != "within"):
        return math.exp(cost.high)
    return math.exp(max(cost.high, cost.without(machine).high))


def judge_size(metric: ComparedMetric, ref: float, changed: float, band: float) -> tuple[Verdict, str]:
    """The verdict on a number that is exact, and its reason."""
    cost = Cost(math.log(changed / ref), 0.0)
    position = cost.position(band)
    if position == "within":
        return "equivalent", "the same" if changed == ref else f"{change(metric.kind, cost.value)}, within {share(band)}"
    verdict = WORSE[metric.kind] if position == "above" else BETTER[metric.kind]
    return verdict, f"{change(metric.kind, cost.value)}, beyond the band of {share(band)}"


def judge_answers(difference: Difference, band: float) -> tuple[Verdict, str]:
    """The verdict on a score of answers to the same examples, and its reason."""
    low, high = difference.low, difference.high
    interval = f"{points(low)} to {points(high)}"
    if -band <= low and high <= band:
        return "equivalent", f"within {band * 100:g} points either way: {interval}"
    if low <= band and high >= -band:
        return (
            "inconclusive",
            f"{interval}, across the edge of the band of {band * 100:g} points: more eval examples would settle it",
        )
    if difference.p_value is not None and difference.p_value > AGREES:
        return "inconclusive", f"{interval}, but McNemar's test does not agree (p = {difference.p_value:.2g})"
    verdict: Verdict = "more-accurate" if low > band else "less-accurate"
    return verdict, f"{points(difference.value)} ({interval}), beyond the band of {band * 100:g} points"


def _has_moved(machine: Cost, band: float) -> bool:
    """Whether the machine's own speed changed by more than is tolerated."""
    return machine.position(_tolerated(band)) in ("above", "below")


def _tolerated(band: float) -> float:
    return min(band, MOVED) / 2


def _may_explain(machine: Cost, cost: Cost, position: str, margins: Margins) -> bool:
    """Whether the machine may have caused the difference, or hidden one.

    A machine whose speed changed causes differences in the same direction and may hide one in any. A reference workload that
    varied shows a machine that was disturbed, in no direction. The change that remains after the machine's is subtracted
    decides, unless the machine's change is large. A difference is not doubted where the machine kept its speed to a few
    percent, nor where the speed varied while both sides took turns. Equivalence is doubted unless the machine kept its
    speed to half the band.
    """
    if _has_moved(machine, margins.band):
        if position != "within" and machine.value * cost.value < 0:
            return False
        if machine.position(MOST_TAKEN_OFF) in ("above", "below"):
            return True
    else:
        steady = machine.position(_tolerated(margins.band) if position == "within" else STEADY) == "within"
        if steady or (position != "within" and margins.one_run):
            return False
    return cost.without(machine).position(margins) != position


def machine_note(machine: Cost, band: float, *, one_run: bool) -> str | None:
    """A note on the machine's own speed; None where it was steady."""
    when = "in its processes" if one_run else "then"
    if _has_moved(machine, band):
        return f"the machine itself was {change('time', machine.value)} {when}"
    if machine.position(STEADY) != "within":
        return f"the machine was disturbed: its own speed is only known as {span('time', machine.low, machine.high)}"
    return None


def _speed_known(machine: Cost) -> str:
    return f"the machine's own speed is only known as {span('time', machine.low, machine.high)}"


def _edge(margins: Margins) -> str:
    """The margin that a ratio has to exceed, in words."""
    if margins.beyond == margins.band:
        return f"the band of {share(margins.band)}"
    return f"{share(margins.beyond)}, which a virtual machine takes when measured apart"


def _undecided(cost: Cost, margins: Margins, processes: tuple[int, int]) -> str:
    """Why neither rule holds, and the approximate number of additional processes that would settle it."""
    distance, edge = abs(cost.value), math.log1p(margins.band)
    if margins.beyond > margins.band and (cost.low > edge or cost.high < -edge):
        return f"not beyond {_edge(margins)}: measure both in one run (bench --baseline)"
    text = f"across the edge of the band of {share(margins.band)}"
    room = distance - math.log1p(margins.clear) if distance > math.log1p(margins.beyond) else abs(edge - distance)
    more = math.ceil(min(processes) * ((cost.half_width / room) ** 2 - 1)) if room > cost.half_width / 10 else None
    if more is None or more > MOST_WORTH_ASKING:
        if cost.half_width > NOISY * edge:
            return f"{text}: too much noise for any verdict; measure when the machine has less to do"
        return f"{text}, which is about the difference itself: more processes will hardly settle it"
    return f"{text}; about {max(more, 1)} more processes a side would settle it"
