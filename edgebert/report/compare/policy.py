"""--fail-on: which findings fail a check. It never fails open: a metric that is not shown to hold fails.

A finding holds when its whole interval, and with it `at_worst`, lies below the threshold; an exact number may reach it.
Findings on p50, p90, end to end, throughput, memory, size and answers must be shown to hold, and so must every metric that
was asked for by name. The others (tails, load, cold start, tokenisation, energy) vary more between processes than a threshold
allows: they fail when they are worse and do not hold, or when CHANGED did not measure what REF did. Worse is judged against
the band, or against the threshold where that is smaller, so that a wide band lets nothing pass.

A metric that neither side measured is not shown to hold. `slower` needs p50, p90 and throughput (offline: throughput alone),
`larger` needs peak memory and size, `less-accurate` needs answers; `any` needs what slower and larger need, and answers where
a side has them. Metrics that were asked for by name replace these. A pair of one and the same measurement shows nothing.

The reference workload is not needed: a comparison without it has a note that the machine's own change between two runs is not
known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgebert.report.compare.amounts import WORSE, cost_sign
from edgebert.report.compare.compared_metrics import MEASURED
from edgebert.report.compare.findings import FAIL_ON, Comparison, FailedCheck, Finding, PairFindings, Policy
from edgebert.report.compare.verdicts import AGREES

WORDS = tuple(word for word in FAIL_ON if word != "any")
REQUIRED: dict[str, tuple[str, ...]] = {
    "slower": ("p50_ms", "p90_ms", "throughput"),
    "larger": ("peak_rss_mb", "size_mb"),
    "less-accurate": (),
}
"""Word of --fail-on -> metrics that must have been measured where no metric is named."""


def failures(comparisons: Sequence[Comparison], policy: Policy) -> tuple[FailedCheck, ...]:
    """Every reason why the comparisons fail; empty where they pass."""
    reasons: list[FailedCheck] = []
    for index, comparison in enumerate(comparisons):
        reasons += _failures(index, comparison, policy)
    return tuple(reasons)


def worse_word(metric: str) -> str:
    """The verdict on a metric that got worse."""
    return WORSE[MEASURED[metric].kind] if metric in MEASURED else "less-accurate"


def _failures(index: int, comparison: Comparison, policy: Policy) -> Iterator[FailedCheck]:
    lacks = "{} has no baseline on its threads, batch and load" if comparison.within else "CHANGED has no {}"
    for title in comparison.missing:
        yield FailedCheck(comparison=index, pair=None, metric=None, reason=f"not shown: {lacks.format(title)}")
    if not comparison.pairs and not comparison.missing and not comparison.only_new:
        yield FailedCheck(comparison=index, pair=None, metric=None, reason="not shown: no entry has a counterpart")
    for number, pair in enumerate(comparison.pairs):
        for metric, reason in _pair_failures(pair, comparison, policy):
            yield FailedCheck(comparison=index, pair=number, metric=metric, reason=reason)


def _pair_failures(pair: PairFindings, comparison: Comparison, policy: Policy) -> Iterator[tuple[str | None, str]]:
    if pair.same_measurement:
        yield None, "not shown: both sides are the same measurement; measure again"
        return
    named, words = comparison.options.metrics, WORDS if "any" in policy.fail_on else policy.fail_on
    judged = [finding for finding in pair.findings if worse_word(finding.metric) in words]
    yield from _unmeasured(pair, judged, named, policy)
    if any(_repeats_obstacles(finding, pair) for finding in judged):
        yield None, f"not shown: incomparable, {'; '.join(pair.obstacles)}"
    for finding in judged:
        if not _repeats_obstacles(finding, pair):
            must_hold = finding.metric in named or _must_hold(finding.metric)
            if reason := _fault(finding, pair, comparison.options.band, policy, must_hold=must_hold):
                yield finding.metric, reason


def _unmeasured(
    pair: PairFindings, judged: Sequence[Finding], named: Sequence[str], policy: Policy
) -> Iterator[tuple[str | None, str]]:
    """Metrics that had to be measured and were not, each with its reason."""
    known = {finding.metric for finding in judged}
    words = [word for word in WORDS if word in policy.fail_on or ("any" in policy.fail_on and not named)]
    for word in words:
        for metric in () if named else _required(word, pair):
            if metric not in known:
                yield metric, f"not shown: {_lack(metric, pair)}"
        asked = word in policy.fail_on and (named or not REQUIRED[word])
        if asked and not any(worse_word(metric) == word for metric in known):
            yield None, f"not shown: nothing was measured on both sides that says whether it is {word}"
    if named and not judged and "any" in policy.fail_on:
        yield None, "not shown: nothing was measured on both sides"
    for metric in named:
        if metric not in known and (worse_word(metric) in policy.fail_on or "any" in policy.fail_on):
            yield metric, f"not shown: {metric} was not measured"


def _required(word: str, pair: PairFindings) -> tuple[str, ...]:
    """Metrics that a word of --fail-on needs; offline, where all texts are available at once, throughput alone."""
    return ("throughput",) if word == "slower" and pair.scenario == "offline" else REQUIRED[word]


def _lack(metric: str, pair: PairFindings) -> str:
    """Why neither side has a metric, with the number of samples needed where there were too few."""
    fewest = MEASURED[metric].how.fewest
    samples = next((finding.samples for finding in pair.findings if finding.metric == "p50_ms"), None)
    if fewest > 1 and samples:
        return f"{metric} needs {fewest} samples a side, here are {samples[0]} and {samples[1]}"
    return f"{metric} was measured on neither side" + (f", or from fewer than {fewest} samples" if fewest > 1 else "")


def _repeats_obstacles(finding: Finding, pair: PairFindings) -> bool:
    return bool(pair.obstacles) and finding.reason == "; ".join(pair.obstacles)


def _must_hold(metric: str) -> bool:
    return metric not in MEASURED or MEASURED[metric].how.strict


def _fault(finding: Finding, pair: PairFindings, band: float, policy: Policy, *, must_hold: bool) -> str | None:
    """Why a finding fails; None where it passes."""
    if _holds(finding, policy):
        return None
    lost = finding.verdict == "incomparable" and finding.changed is None
    if finding.verdict == worse_word(finding.metric) or (
        band > policy.threshold and _is_worse(finding, pair, policy.threshold)
    ):
        return f"{finding.metric}: {finding.reason}; allowed is {_allowed(finding, policy)}"
    if must_hold or lost:
        return f"{finding.metric} is not shown to hold {_allowed(finding, policy)}: {finding.reason}"
    return None


def _is_worse(finding: Finding, pair: PairFindings, band: float) -> bool:
    """Whether a ratio is worse by another band than the comparison's own, without regard to the machine's change."""
    if finding.metric not in MEASURED or finding.ratio is None or finding.interval is None:
        return False
    sign = cost_sign(MEASURED[finding.metric].kind)
    cost, *ends = (sign * math.log(value) for value in (finding.ratio, *finding.interval))
    margin = band / 2 if pair.paired else band
    agrees = finding.p_value is None or finding.p_value <= AGREES
    return agrees and cost > math.log1p(band) and min(ends) > math.log1p(margin)


def _holds(finding: Finding, policy: Policy) -> bool:
    if finding.at_worst is None or finding.verdict == "incomparable":
        return False
    limit = 1 + policy.threshold if finding.metric in MEASURED else policy.accuracy_threshold
    return finding.at_worst < limit or (finding.at_worst == limit and finding.exact)


def _allowed(finding: Finding, policy: Policy) -> str:
    if finding.metric in MEASURED:
        return f"less than {policy.threshold * 100:g} % {worse_word(finding.metric)}"
    return f"a loss of less than {policy.accuracy_threshold * 100:g} points"
