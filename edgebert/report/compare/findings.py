"""The types of a comparison, as `edgebert compare --json` writes them: findings, pairs, policy, document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field

from edgebert.core.strict import Frozen
from edgebert.report.rounds import Scenario

Verdict = Literal[
    "faster", "slower", "smaller", "larger", "more-accurate", "less-accurate", "equivalent", "inconclusive", "incomparable"
]
FailOn = Literal["slower", "larger", "less-accurate", "any"]
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)


class CompareOptions(Frozen):
    """How two reports are compared."""

    band: float = Field(0.02, gt=0, lt=1)
    """Equivalence band of ratios: differences within it do not matter."""
    accuracy_band: float = Field(0.005, gt=0, lt=1)
    """Equivalence band of differences between scores: 0.005 is half a point."""
    across_devices: bool = False
    """Whether to compare although the machines differ."""
    metrics: tuple[str, ...] = ()
    """Names of the metrics to compare; empty: all that were measured."""
    seed: int = Field(0, ge=0)
    """Seed of the bootstrap."""


class Finding(Frozen):
    """One metric of one pair of entries."""

    metric: str
    verdict: Verdict
    reason: str
    ref: float | None = None
    changed: float | None = None
    ratio: float | None = None
    """changed / ref; None for answers."""
    difference: float | None = None
    """changed - ref; answers only."""
    interval: tuple[float, float] | None = None
    """95 % interval of the ratio or of the difference."""
    p_value: float | None = None
    """p-value of the second test: Mann-Whitney's for times, McNemar's for answers."""
    at_worst: float | None = None
    """The value that --fail-on judges: the largest ratio of cost (answers: the largest drop) that these measurements do not
    rule out, corrected for the machine's own change where that makes it worse. None where they rule out nothing."""
    processes: tuple[int, int] | None = None
    """Number of processes, ref and changed."""
    samples: tuple[int, int] | None = None
    """Number of samples, ref and changed."""
    exact: bool = False
    """Whether the value has no uncertainty: the size of a file, the same answers of the same model."""


class PairFindings(Frozen):
    """The findings on an entry of REF and its counterpart in CHANGED."""

    ref: str
    changed: str
    target: str
    setting: str
    paired: bool
    """Whether the two took turns in one run, so that the machine's drift cancels round by round."""
    scenario: Scenario = "single-stream"
    same_measurement: bool = False
    """Whether both sides are the samples of the same processes, so that a comparison shows nothing."""
    obstacles: tuple[str, ...] = ()
    """Reasons why the two are incomparable; empty where they are comparable."""
    differs: tuple[str, ...] = ()
    """Intended changes between the two that the reports record."""
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """Heading: one name where both are the same, else both."""
        return self.ref if self.ref == self.changed else f"{self.ref} -> {self.changed}"


class Comparison(Frozen):
    """Two reports, or the baselines and candidates of one."""

    ref: str
    changed: str
    options: CompareOptions
    notes: tuple[str, ...] = ()
    pairs: tuple[PairFindings, ...]
    within: bool = False
    """Whether the baselines and the candidates of one report are compared."""
    missing: tuple[str, ...] = ()
    """Entries of REF without a counterpart; within one report, candidates without a baseline."""
    extra: tuple[str, ...] = ()
    """Entries of CHANGED without a counterpart."""

    @property
    def only_new(self) -> bool:
        """Whether REF has no entries at all: a report that only CHANGED's folder holds."""
        return not self.pairs and not self.missing and bool(self.extra)

    @property
    def titles(self) -> tuple[str, ...]:
        """A unique title for each pair: its name, with its load and target where the pairs differ in them."""
        loads = {(pair.setting, pair.target) for pair in self.pairs}
        titles = [f"{pair.name} ({pair.setting}, {pair.target})" if len(loads) > 1 else pair.name for pair in self.pairs]
        return tuple(numbered(titles))

    @property
    def name(self) -> str:
        """Heading: one report where both are the same, else both."""
        return self.ref if self.ref == self.changed else f"{self.ref} -> {self.changed}"


def numbered(names: Sequence[str]) -> list[str]:
    """The names, with `#1`, `#2`, ... appended to those that occur more than once."""
    count, seen, unique = Counter(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        unique.append(f"{name} #{seen[name]}" if count[name] > 1 else name)
    return unique


class FailedCheck(Frozen):
    """One reason why a policy fails."""

    comparison: int
    """Index of the comparison."""
    pair: int | None
    """Index of the pair in the comparison; None where an entry is missing."""
    metric: str | None
    """None where the reason concerns the whole pair."""
    reason: str


class Policy(Frozen):
    """Changes that fail a check (`--fail-on`), and the thresholds up to which they pass."""

    fail_on: tuple[FailOn, ...] = Field(min_length=1)
    threshold: float = Field(0.05, ge=0, lt=10)
    """0.05: at most 5 % slower or larger."""
    accuracy_threshold: float = Field(0.01, ge=0, lt=1)
    """0.01: at most one point less."""


class ComparisonDocument(Frozen):
    """The document that `edgebert compare --json` writes."""

    schema_version: Literal[1] = 1
    edgebert_version: str
    comparisons: tuple[Comparison, ...]
    policy: Policy | None = None
    passed: bool | None = None
    """None without a policy."""
    failures: tuple[FailedCheck, ...] = ()
