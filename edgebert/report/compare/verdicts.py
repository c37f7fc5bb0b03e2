"""From an estimate to a verdict and its reason.

The rule, on the logarithm of the cost ratio (time, or 1 / throughput), with the band from -log(1.02) to log(1.02):

- slower, or faster: the ratio lies beyond the band and its whole 95 % interval beyond the margin on that side; Mann-Whitney's
  test agrees at 5 %; and both would hold were the machine's own change taken off, which must not be large. Where both took
  turns in one run, the margin is half the band. Where they were measured apart it is all of it, for what the machine did
  between the runs is in no interval: when it drifts by 0.5 % a process, half the band would be wrong seven times as often.
  On a virtual machine, whose neighbours come and go, it is twice the band, and so much must the ratio be;
- equivalent: the whole interval lies within the band, and still does with the machine's own change taken off, unless that is
  known to be within half the band;
- inconclusive: neither, with what would settle it.

"The interval excludes 1" alone would be wrong for one in twenty metrics of equal models. By simulation, with eight processes a
side that differ by 1 %, the rule is wrong for fewer than one in a thousand and finds 5 % in 99 of 100; where processes differ
by 1.5 %, it finds 5 % in 98 of 100 in one run and in 94 of 100 measured apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgebert.report.compare.accuracy import Difference
from edgebert.report.compare.findings import Verdict
from edgebert.report.compare.metrics import ComparedMetric
from edgebert.report.compare.statistics import FEWEST_PROCESSES, Estimate
from edgebert.report.compare.wording import BETTER, WORSE, cost_sign, points, said, share, span

AGREES = 0.05
"""Mann-Whitney's p-value up to which it agrees that there is a difference."""

NOISY = 3
"""Half-widths of the interval in bands, beyond which noise is what keeps a verdict away."""
MOST_TAKEN_OFF = 0.1
"""Change of the machine up to which it can be taken off: tails lose more than the reference workload when others work
on the machine."""
MOVED = 0.02
"""The machine's change counts beyond half of this, or of the band where that is less: a wide band excuses no machine."""
STEADY = 0.05
"""The machine was disturbed where the reference workload's interval is not within this."""
MOST_WORTH_ASKING = 100
"""Processes more; beyond it the answer is that they will not help."""


@dataclass(frozen=True)
class Cost:
    """A log ratio of cost and the half-width of its interval: above 0 is worse."""

    value: float
    half_width: float

    @property
    def low(self) -> float:
        """Of the interval."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Of the interval."""
        return self.value + self.half_width

    def without(self, other: Cost) -> Cost:
        """What is left of the change when another is taken off."""
        return Cost(self.value - other.value, math.hypot(self.half_width, other.half_width))

    def place(self, margins: Margins | float) -> str:
        """Where it lies: `above`, `below` or `within` the band, or `across` one of its edges.

        Above and below are the value beyond one margin and the whole interval beyond another; a number is all of them.
        """
        told = margins if isinstance(margins, Margins) else Margins(margins, margins, margins, one_run=True)
        edge, beyond, clear = (math.log1p(part) for part in (told.band, told.beyond, told.clear))
        if self.value > beyond and self.low > clear:
            return "above"
        if self.value < -beyond and self.high < -clear:
            return "below"
        return "within" if -edge <= self.low and self.high <= edge else "across"


def cost_of(metric: ComparedMetric, estimate: Estimate) -> Cost:
    """The estimate as a cost."""
    return Cost(cost_sign(metric.kind) * estimate.log_ratio, estimate.half_width)


def too_few(processes: tuple[int, int]) -> str | None:
    """Says so where a side has too few processes for any verdict."""
    if min(processes) >= FEWEST_PROCESSES:
        return None
    return f"too few processes: {min(processes)}; measure with --rounds {FEWEST_PROCESSES + 1} or more"


@dataclass(frozen=True)
class Margins:
    """How far from 1 a difference has to be, as shares."""

    band: float
    """What does not matter: equivalence is within it."""
    beyond: float
    """The ratio itself."""
    clear: float
    """The whole interval."""
    one_run: bool


def margins_for(band: float, *, one_run: bool, virtual: bool) -> Margins:
    """What a difference has to exceed, by how the two sides were measured."""
    if one_run:
        return Margins(band, band, band / 2, one_run)
    apart = 2 * band if virtual else band
    return Margins(band, apart, apart, one_run)


def judge(
    metric: ComparedMetric, estimate: Estimate, *, margins: Margins, processes: tuple[int, int], machine: Cost | None
) -> tuple[Verdict, str]:
    """The verdict on a metric that processes measured, and its reason. `machine` is the machine's own change."""
    cost, band, one_run = cost_of(metric, estimate), margins.band, margins.one_run
    place = cost.place(margins)
    interval = span(metric.kind, cost.low, cost.high)
    told = machine_told(machine, band, one_run=one_run) if machine else None
    if place == "across":
        moved = f"; {told}" if machine and _has_moved(machine, band) else ""
        return "inconclusive", f"{interval}, {_undecided(cost, margins, processes)}{moved}"
    if machine and _may_explain(machine, cost, place, margins):
        return "inconclusive", f"{interval}, but {told or _speed_known(machine)}"
    if place == "within":
        return "equivalent", f"within {share(band)} either way: {interval}"
    if estimate.p_value > AGREES:
        return "inconclusive", f"{interval}, but Mann-Whitney's test does not agree (p = {estimate.p_value:.2g})"
    verdict = WORSE[metric.kind] if place == "above" else BETTER[metric.kind]
    part = f"; {told}, which does not explain it" if told else ""
    return verdict, f"{said(metric.kind, cost.value)} ({interval}), beyond {_edge(margins)}{part}"


def at_worst(metric: ComparedMetric, estimate: Estimate, band: float, machine: Cost | None) -> float:
    """The largest ratio of cost that is not ruled out; a machine that was faster may hide what the model lost.

    So may one whose own speed is not known to a few percent.
    """
    cost = cost_of(metric, estimate)
    if machine is None or not (_has_moved(machine, band) or machine.place(STEADY) != "within"):
        return math.exp(cost.high)
    return math.exp(max(cost.high, cost.without(machine).high))


def judge_size(metric: ComparedMetric, ref: float, changed: float, band: float) -> tuple[Verdict, str]:
    """The verdict on a number that is exact."""
    cost = Cost(math.log(changed / ref), 0.0)
    place = cost.place(band)
    if place == "within":
        return "equivalent", "the same" if changed == ref else f"{said(metric.kind, cost.value)}, within {share(band)}"
    verdict = WORSE[metric.kind] if place == "above" else BETTER[metric.kind]
    return verdict, f"{said(metric.kind, cost.value)}, beyond the band of {share(band)}"


def judge_answers(difference: Difference, band: float) -> tuple[Verdict, str]:
    """The verdict on a score of answers to the same examples."""
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
    """Whether the machine's own change is one: its interval lies beyond what is let pass."""
    return machine.place(_let_pass(band)) in ("above", "below")


def _let_pass(band: float) -> float:
    return min(band, MOVED) / 2


def _may_explain(machine: Cost, cost: Cost, place: str, margins: Margins) -> bool:
    """Whether the machine may have made the difference, or hidden one.

    A change of the machine makes a difference in its own direction and may hide one in any; a reference workload that
    varied shows a machine that others disturbed, in no direction. What is left when it is taken
    off decides, but for a large change. A difference is
    not doubted for a machine that kept its speed to a few percent, nor for one that varied while both sides took turns on it;
    that there is none is, unless it kept it to half the band.
    """
    if _has_moved(machine, margins.band):
        if place != "within" and machine.value * cost.value < 0:
            return False
        if machine.place(MOST_TAKEN_OFF) in ("above", "below"):
            return True
    elif (place != "within" and margins.one_run) or machine.place(
        _let_pass(margins.band) if place == "within" else STEADY
    ) == "within":
        return False
    return cost.without(machine).place(margins) != place


def machine_told(machine: Cost, band: float, *, one_run: bool) -> str | None:
    """What is to be said of the machine; None where it kept its speed."""
    when = "in its processes" if one_run else "then"
    if _has_moved(machine, band):
        return f"the machine itself was {said('time', machine.value)} {when}"
    if machine.place(STEADY) != "within":
        return f"the machine was disturbed: its own speed is only known as {span('time', machine.low, machine.high)}"
    return None


def _speed_known(machine: Cost) -> str:
    return f"the machine's own speed is only known as {span('time', machine.low, machine.high)}"


def _edge(margins: Margins) -> str:
    """What has to be exceeded, in words."""
    if margins.beyond == margins.band:
        return f"the band of {share(margins.band)}"
    return f"{share(margins.beyond)}, which a virtual machine takes when measured apart"


def _undecided(cost: Cost, margins: Margins, processes: tuple[int, int]) -> str:
    """Why neither rule holds, and about how many more processes would settle it."""
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
