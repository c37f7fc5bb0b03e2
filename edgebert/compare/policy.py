"""--fail-on: which findings fail a check. It never fails open: what is not shown to hold has failed.

A finding holds when all of its interval, and with it `at_worst`, lies below the threshold. Findings on p50, p90, end to end,
throughput, memory, size and answers have to be shown to hold, and so has every metric that was asked for by name. The others
(tails, load, cold start, tokenisation, energy) vary more from process to process than a threshold allows: they fail when their
verdict is the one that is failed on and they do not hold, or when CHANGED did not measure what REF did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgebert.compare.findings import Comparison, Failure, Finding, PairFindings, Policy
from edgebert.compare.metrics import MEASURED
from edgebert.compare.wording import WORSE

WORDS = ("slower", "larger", "less-accurate")


def failures(comparisons: Sequence[Comparison], policy: Policy) -> tuple[Failure, ...]:
    """Every reason why the comparisons do not pass; none where they do."""
    found: list[Failure] = []
    for place, comparison in enumerate(comparisons):
        found += _failures(place, comparison, policy)
    return tuple(found)


def worse_word(metric: str) -> str:
    """What a metric is called when it got worse."""
    return WORSE[MEASURED[metric].kind] if metric in MEASURED else "less-accurate"


def _failures(place: int, comparison: Comparison, policy: Policy) -> Iterator[Failure]:
    for title in comparison.missing:
        yield Failure(comparison=place, pair=None, metric=None, reason=f"not shown: CHANGED has no {title}")
    if not comparison.pairs and not comparison.missing:
        yield Failure(comparison=place, pair=None, metric=None, reason="not shown: no entry has a counterpart")
    for number, pair in enumerate(comparison.pairs):
        for metric, reason in _pair_failures(pair, comparison.options.metrics, policy):
            yield Failure(comparison=place, pair=number, metric=metric, reason=reason)


def _pair_failures(pair: PairFindings, named: Sequence[str], policy: Policy) -> Iterator[tuple[str | None, str]]:
    words = WORDS if "any" in policy.fail_on else policy.fail_on
    judged = [finding for finding in pair.findings if worse_word(finding.metric) in words]
    for word in words:
        if not any(worse_word(finding.metric) == word for finding in judged) and word in policy.fail_on:
            yield None, f"not shown: nothing was measured on both sides that says whether it is {word}"
    if not judged and "any" in policy.fail_on:
        yield None, "not shown: nothing was measured on both sides"
    for metric in named:
        if worse_word(metric) in words and all(finding.metric != metric for finding in judged):
            yield metric, f"not shown: {metric} was not measured"
    if pair.obstacles and {"slower", "larger"} & set(words):
        yield None, f"not shown: incomparable, {'; '.join(pair.obstacles)}"
    for finding in judged:
        if _said_already(finding, pair):
            continue
        if reason := _fault(finding, words, policy, must_hold=finding.metric in named or _must_hold(finding.metric)):
            yield finding.metric, reason


def _said_already(finding: Finding, pair: PairFindings) -> bool:
    return bool(pair.obstacles) and finding.reason == "; ".join(pair.obstacles)


def _must_hold(metric: str) -> bool:
    return metric not in MEASURED or MEASURED[metric].strict


def _fault(finding: Finding, words: Sequence[str], policy: Policy, *, must_hold: bool) -> str | None:
    """Why a finding fails; None where it does not."""
    if _holds(finding, policy):
        return None
    lost = finding.verdict == "incomparable" and finding.changed is None
    if finding.verdict in words:
        return f"{finding.metric}: {finding.reason}; allowed is {_allowed(finding, policy)}"
    if must_hold or lost:
        return f"{finding.metric} is not shown to hold {_allowed(finding, policy)}: {finding.reason}"
    return None


def _holds(finding: Finding, policy: Policy) -> bool:
    if finding.at_worst is None or finding.verdict == "incomparable":
        return False
    limit = 1 + policy.threshold if finding.metric in MEASURED else policy.accuracy_threshold
    return finding.at_worst < limit or finding.at_worst == limit == 0


def _allowed(finding: Finding, policy: Policy) -> str:
    if finding.metric in MEASURED:
        return f"less than {policy.threshold * 100:g} % {worse_word(finding.metric)}"
    return f"a loss of less than {policy.accuracy_threshold * 100:g} points"
