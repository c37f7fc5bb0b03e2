"""A comparison as JUnit XML, which CI systems show: a suite for each pair of entries, a case for each metric."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

from edgebert.report.compare.findings import Comparison, ComparisonDocument, FailedCheck, Finding
from edgebert.report.compare.lines import headline

UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow (section 2.2)."""


def junit(document: ComparisonDocument) -> str:
    """The JUnit XML of a document. A metric that fails the policy is a failure; an undecided one is skipped."""
    root = Xml.Element("testsuites", name="edgebert compare")
    for index, comparison in enumerate(document.comparisons):
        failed = [failure for failure in document.failures if failure.comparison == index]
        _add_unmatched(root, comparison, failed)
        for number, pair in enumerate(comparison.pairs):
            name = f"{comparison.name}: {comparison.titles[number]}"
            suite = _suite(root, name)
            ours = [failure for failure in failed if failure.pair == number]
            for failure in (failure for failure in ours if failure.metric is None):
                _fail(_case(suite, "comparable", name), failure.reason)
            shown = {finding.metric for finding in pair.findings}
            for failure in (failure for failure in ours if failure.metric is not None and failure.metric not in shown):
                _fail(_case(suite, str(failure.metric), name), failure.reason)
            for finding in pair.findings:
                _add_finding(suite, name, finding, [one.reason for one in ours if one.metric == finding.metric])
            Xml.SubElement(suite, "system-out").text = _clean(headline(pair))
            _count(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _add_unmatched(root: Xml.Element, comparison: Comparison, failed: list[FailedCheck]) -> None:
    """Adds the entries that only one side has."""
    reasons = [failure.reason for failure in failed if failure.pair is None]
    if not reasons and not comparison.missing and not comparison.extra:
        return
    name = comparison.name
    suite = _suite(root, name)
    for reason in reasons:
        _fail(_case(suite, "counterparts", name), reason)
    if not reasons:
        for title in comparison.missing:
            _skip(_case(suite, title, name), "it has no baseline" if comparison.within else "CHANGED does not have it")
    for title in comparison.extra:
        _skip(_case(suite, title, name), "REF does not have it")
    _count(suite)


def _add_finding(suite: Xml.Element, name: str, finding: Finding, reasons: list[str]) -> None:
    case = _case(suite, finding.metric, name)
    if reasons:
        _fail(case, "; ".join(reasons))
    elif finding.verdict in ("inconclusive", "incomparable"):
        _skip(case, f"{finding.verdict}: {finding.reason}")
    Xml.SubElement(case, "system-out").text = _clean(f"{finding.verdict}: {finding.reason}")


def _suite(root: Xml.Element, name: str) -> Xml.Element:
    return Xml.SubElement(root, "testsuite", name=_clean(name))


def _case(suite: Xml.Element, name: str, group: str) -> Xml.Element:
    return Xml.SubElement(suite, "testcase", name=_clean(name), classname=_clean(group))


def _fail(case: Xml.Element, reason: str) -> None:
    Xml.SubElement(case, "failure", message=_clean(reason))


def _skip(case: Xml.Element, reason: str) -> None:
    Xml.SubElement(case, "skipped", message=_clean(reason))


def _count(suite: Xml.Element) -> None:
    """Sets the totals, which some readers need as attributes."""
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")


def _clean(text: str) -> str:
    return UNPRINTABLE.sub("", text)
