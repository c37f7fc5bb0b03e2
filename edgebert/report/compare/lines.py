"""A comparison as text and as Markdown: what really changed first, then the table, then the reasons."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from edgebert.core.text_table import aligned
from edgebert.report.compare.amounts import amount, plain, points, share
from edgebert.report.compare.compared_metrics import MEASURED
from edgebert.report.compare.findings import Comparison, ComparisonDocument, FailedCheck, Finding, PairFindings, Verdict

CHANGES: tuple[Verdict, ...] = ("slower", "larger", "less-accurate", "faster", "smaller", "more-accurate")
TITLES = ("metric", "ref", "changed", "ratio", "95 % interval", "verdict")
RULE = (
    "A change: a ratio beyond {band}, its 95 % interval beyond half of that in one run, beyond all of it if measured apart; "
    "apart on a virtual machine, both beyond twice that. "
    "Equivalent: the interval is within. For answers: {points} points."
)

MARKS = re.compile(r"[\\|`*\[\]~$]|(?<!\w)_|_(?!\w)")
"""Characters with a meaning in Markdown."""
LINKS = re.compile(r"(?<=[@#])|(?<=:)(?=//)|(?<=\bwww)(?=\.)")
"""Positions within mentions, issue numbers and bare addresses, which a host would turn into links and notifications."""
BREAK = "&#8203;"
"""Zero-width space: inserted into a mention or an address, it is no link."""


def headline(pair: PairFindings) -> str:
    """The changes of a pair in one line."""
    if pair.obstacles:
        return f"incomparable: {'; '.join(pair.obstacles)}"
    if not pair.findings:
        return "nothing that was asked for was measured, or with too few samples for it"
    changes = [f"{word}: {', '.join(map(_change, findings))}" for word in CHANGES if (findings := _with(pair, word))]
    others = [
        f"{word}: {', '.join(finding.metric for finding in findings)}"
        for word in ("equivalent", "inconclusive", "incomparable")
        if (findings := _with(pair, word))
    ]
    return "; ".join([*(changes or ["no change is shown"]), *others])


def text_lines(document: ComparisonDocument) -> list[str]:
    """The lines of a document for the terminal."""
    lines: list[str] = []
    for index, comparison in enumerate(document.comparisons):
        lines += [*_heading(comparison), ""]
        for title, pair in zip(comparison.titles, comparison.pairs, strict=True):
            lines += [f"{title}: {headline(pair)}", "", *_aligned(pair), *(f"  {line}" for line in _remarks(pair)), ""]
        lines += _unmatched(comparison)
        lines += [""] if _unmatched(comparison) and index + 1 < len(document.comparisons) else []
    return [plain(line) for line in (*lines, *_policy_lines(document), *_rules(document))]


def markdown(document: ComparisonDocument) -> str:
    """The Markdown of a document, for a pull request."""
    lines: list[str] = []
    for comparison in document.comparisons:
        lines += [f"### {_escaped('; '.join(_heading(comparison)))}", ""]
        for title, pair in zip(comparison.titles, comparison.pairs, strict=True):
            lines += [f"**{_escaped(title)}**: {_escaped(headline(pair))}", ""]
            table = [TITLES, ("---", "--:", "--:", "--:", "--:", "---"), *(_cells(finding) for finding in pair.findings)]
            lines += [f"| {' | '.join(map(_escaped, row))} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in table]
            lines += ["", *(f"- {_escaped(line)}" for line in _remarks(pair)), ""]
        lines += [f"- {_escaped(line)}" for line in _unmatched(comparison)]
    return "\n".join([*lines, *(f"- {_escaped(line)}" for line in _policy_lines(document)), "", *_rules(document)]) + "\n"


def _heading(comparison: Comparison) -> list[str]:
    return [comparison.name, *comparison.notes]


def _with(pair: PairFindings, verdict: str) -> list[Finding]:
    return [finding for finding in pair.findings if finding.verdict == verdict]


def _change(finding: Finding) -> str:
    """`p50_ms 4.6 %`, `accuracy -0.23 points`."""
    if finding.difference is not None:
        return f"{finding.metric} {points(finding.difference)}"
    assert finding.ratio is not None
    return f"{finding.metric} {amount(math.log(finding.ratio))}"


def _cells(finding: Finding) -> tuple[str, ...]:
    form = "{:.4f}" if finding.metric not in MEASURED else "{:.4g}"
    values = ["n/a" if value is None else form.format(value) for value in (finding.ref, finding.changed)]
    if finding.difference is not None:
        ratio = points(finding.difference)
    else:
        ratio = "n/a" if finding.ratio is None else f"{finding.ratio:.3f}"
    return finding.metric, *values, ratio, _interval(finding), finding.verdict


def _interval(finding: Finding) -> str:
    if finding.interval is None:
        return "n/a"
    low, high = finding.interval
    if finding.difference is not None:
        return f"{low * 100:+.2f} to {high * 100:+.2f}"
    return "exact" if low == high and finding.processes is None else f"{low:.3f} to {high:.3f}"


def _aligned(pair: PairFindings) -> list[str]:
    rows = [TITLES, *(_cells(finding) for finding in pair.findings)]
    return aligned(rows, right=range(1, len(TITLES) - 1))


def _remarks(pair: PairFindings) -> Iterator[str]:
    """Reasons of verdicts, intended differences, and notes."""
    for finding in pair.findings:
        undecided = finding.verdict in ("inconclusive", "incomparable") and finding.reason != "; ".join(pair.obstacles)
        if undecided or (finding.verdict in CHANGES and "; " in finding.reason):  # a plain reason repeats the table
            yield f"{finding.metric} {finding.verdict}: {finding.reason}"
    if pair.differs:
        yield f"differs: {'; '.join(pair.differs)}"
    yield from (f"note: {note}" for note in pair.notes)


def _unmatched(comparison: Comparison) -> list[str]:
    lacks = "has no baseline on its threads, batch and load" if comparison.within else "is in REF and not in CHANGED"
    return [
        *(f"missing: {title} {lacks}" for title in comparison.missing),
        *(f"new: {title} is in CHANGED and not in REF" for title in comparison.extra),
    ]


def _policy_lines(document: ComparisonDocument) -> list[str]:
    if document.policy is None:
        return []
    asked = f"--fail-on {','.join(document.policy.fail_on)}"
    if document.passed:
        return [f"PASSED: {asked}"]
    return [f"FAILED: {asked}", *(f"  {_subject(document, failure)}{failure.reason}" for failure in document.failures)]


def _subject(document: ComparisonDocument, failure: FailedCheck) -> str:
    """The report and the entry that a failure concerns, where there are several."""
    comparison = document.comparisons[failure.comparison]
    parts = [comparison.changed] if len(document.comparisons) > 1 else []
    if failure.pair is not None and (parts or len(comparison.pairs) > 1):
        parts.append(comparison.titles[failure.pair])
    return "".join(f"{part}: " for part in parts)


def _rules(document: ComparisonDocument) -> list[str]:
    options = document.comparisons[0].options if document.comparisons else None
    if options is None:
        return []
    return [RULE.format(band=share(options.band), points=f"{options.accuracy_band * 100:g}")]


def _escaped(text: str) -> str:
    """Text for a cell of a Markdown table: no bar, line break, tag, emphasis, link or formula in it has an effect."""
    escaped = MARKS.sub(r"\\\g<0>", plain(" ".join(text.split()))).replace("&", "&amp;").replace("<", "&lt;")
    return LINKS.sub(BREAK, escaped)
