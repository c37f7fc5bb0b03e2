"""What a comparison says, as it is written with --json."""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

from pydantic import Field

from edgebert.core.strict import Frozen
from edgebert.report.rounds import Scenario

Verdict = Literal[
    "faster",
    "slower",
    "smaller",
    "larger",
    "more-accurate",
    "less-accurate",
    "equivalent",
    "inconclusive",
    "incomparable",
]
FailOn = Literal["slower", "larger", "less-accurate", "any"]
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)


class CompareOptions(Frozen):
    """How two reports are compared."""

    band: float = Field(0.02, gt=0, lt=1)
    """Equivalence band of ratios: differences within it do not matter."""
    accuracy_band: float = Field(0.005, gt=0, lt=1)
    """Of differences between scores: 0.005 is half a point."""
    across_devices: bool = False
    """Compares although the machines differ."""
    metrics: tuple[str, ...] = ()
    """Only these; empty: all that were measured."""
    seed: int = Field(0, ge=0)
    """Of the bootstrap."""


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
    """95 %, of the ratio or of the difference."""
    p_value: float | None = None
    """Of the second test: Mann-Whitney's for times, McNemar's for answers."""
    at_worst: float | None = None
    """What --fail-on judges: the largest ratio of cost (answers: the largest drop) that these measurements do not rule out, the
    machine's own change taken off where that is worse. None where they rule out nothing."""
    processes: tuple[int, int] | None = None
    samples: tuple[int, int] | None = None
    """All that were measured, ref and changed."""

    exact: bool = False
    """Whether it is known without any doubt: the size of a file, the same answers of the same model."""


class PairFindings(Frozen):
    """All metrics of an entry of REF and its counterpart."""

    ref: str
    changed: str
    target: str
    setting: str
    paired: bool
    """Whether the two took turns in one run, so that the machine's drift cancels round by round."""
    scenario: Scenario = "single-stream"
    same_measurement: bool = False
    """Whether both sides are the samples of the same processes, which no comparison can learn from."""
    obstacles: tuple[str, ...] = ()
    """Why the two are incomparable; empty where they are not."""
    differs: tuple[str, ...] = ()
    """What was changed between them, as far as the reports say."""
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """For headings: one name, or both."""
        return self.ref if self.ref == self.changed else f"{self.ref} -> {self.changed}"


class Comparison(Frozen):
    """Two reports, or the baselines and candidates of one."""

    ref: str
    changed: str
    options: CompareOptions
    notes: tuple[str, ...] = ()
    pairs: tuple[PairFindings, ...]
    within: bool = False
    """Whether it compares the baselines and the candidates of one report."""
    missing: tuple[str, ...] = ()
    """Entries of REF without a counterpart; within one report, candidates without a baseline."""
    extra: tuple[str, ...] = ()
    """Entries of CHANGED without one."""

    @property
    def only_new(self) -> bool:
        """Whether REF has nothing that could have a counterpart: a report that only CHANGED's folder holds."""
        return not self.pairs and not self.missing and bool(self.extra)

    @property
    def titles(self) -> tuple[str, ...]:
        """A title for each pair, which tells it from the others: its name, with its load and target where these differ."""
        places = {(pair.setting, pair.target) for pair in self.pairs}
        found = [f"{pair.name} ({pair.setting}, {pair.target})" if len(places) > 1 else pair.name for pair in self.pairs]
        count, seen, titles = Counter(found), Counter[str](), []
        for title in found:
            seen[title] += 1
            titles.append(f"{title} #{seen[title]}" if count[title] > 1 else title)
        return tuple(titles)

    @property
    def name(self) -> str:
        """For headings: one report, or both."""
        return self.ref if self.ref == self.changed else f"{self.ref} -> {self.changed}"


class FailedCheck(Frozen):
    """One reason why a policy fails."""

    comparison: int
    """Place of the comparison."""
    pair: int | None
    """Place of the pair in it; None where an entry is missing."""
    metric: str | None
    """None where all of the pair is meant."""
    reason: str


class Policy(Frozen):
    """What must not happen, and how much of it is let pass."""

    fail_on: tuple[FailOn, ...] = Field(min_length=1)
    threshold: float = Field(0.05, ge=0, lt=10)
    """0.05: at most 5 % slower or larger."""
    accuracy_threshold: float = Field(0.01, ge=0, lt=1)
    """0.01: at most one point less."""


class ComparisonDocument(Frozen):
    """What `edgebert compare --json` writes."""

    schema_version: Literal[1] = 1
    edgebert_version: str
    comparisons: tuple[Comparison, ...]
    policy: Policy | None = None
    passed: bool | None = None
    """None without a policy."""
    failures: tuple[FailedCheck, ...] = ()
