"""Text, Markdown, JSON and JUnit of a comparison."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as Xml

from made_reports import MACHINE, a_report, an_entry, measured, rounds

from edgebert.report.compare import lines
from edgebert.report.compare.amounts import amount, change, points, span
from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.findings import CompareOptions, Comparison, ComparisonDocument, FailedCheck, Policy
from edgebert.report.compare.junit import junit
from edgebert.report.compare.policy import failures
from edgebert.runtimes.target import Target


def document(*comparisons: Comparison, words: tuple[Any, ...] = ()) -> ComparisonDocument:
    policy = Policy(fail_on=words) if words else None
    found: tuple[FailedCheck, ...] = failures(comparisons, policy) if policy else ()
    return ComparisonDocument(
        edgebert_version="1", comparisons=comparisons, policy=policy, passed=not found if policy else None, failures=found
    )


SLOWER = compare(measured(1), measured(2, slower=1.2), names=("a.json", "b.json"))


def test_text_says_first_what_really_changed_then_the_table_then_the_reasons() -> None:
    text = lines.text_lines(document(SLOWER))
    assert text[0] == "a.json -> b.json"
    assert text[2].startswith("int8: slower: p50_ms ") and "; equivalent: tokenise_ms, peak_rss_mb, size_mb" in text[2]
    table = text[4:]
    assert table[0].split() == ["metric", "ref", "changed", "ratio", "95", "%", "interval", "verdict"]
    assert table[1].split()[0] == "p50_ms" and table[1].split()[-1] == "slower"
    assert text[-1].startswith("A change: a ratio beyond 2 %")


def test_headline_of_equal_models_says_that_no_change_is_shown() -> None:
    assert lines.headline(compare(measured(1), measured(1)).pairs[0]).startswith("no change is shown; equivalent: p50_ms")


def test_headline_and_reasons_of_what_cannot_be_compared() -> None:
    other = a_report(an_entry(rounds(seed=2)), environment=MACHINE.model_copy(update={"cpu": "Cortex-A76"}))
    comparison = compare(measured(1), other)
    assert lines.headline(comparison.pairs[0]) == "incomparable: another machine: cpu EPYC -> Cortex-A76"
    text = "\n".join(lines.text_lines(document(comparison, words=("slower",))))
    assert text.count("Cortex-A76") == 2  # the headline and the failure, not every metric
    assert "FAILED: --fail-on slower" in text


def test_reasons_of_what_is_undecided_stand_below_the_table() -> None:
    text = "\n".join(lines.text_lines(document(compare(measured(1, count=3), measured(2)))))
    assert "p50_ms inconclusive: too few processes: 3; measure with --rounds 5 or more" in text


def test_entries_without_counterpart_are_listed() -> None:
    both = a_report(an_entry(name="a"), an_entry(name="b"))
    text = lines.text_lines(document(compare(both, a_report(an_entry(name="a"), an_entry(name="c")))))
    assert "missing: b (onnxruntime, single-stream) is in REF and not in CHANGED" in text
    assert "new: c (onnxruntime, single-stream) is in CHANGED and not in REF" in text


NASTY = "a|b <script> `x` *y* \x00\x1b[31m\n\ud800 _z_ ]["


def nasty() -> Comparison:
    return compare(
        a_report(an_entry(rounds(), name=NASTY)), a_report(an_entry(rounds(seed=1), name="other|")), names=(NASTY, "b")
    )


def test_markdown_keeps_its_table_whatever_names_hold() -> None:
    found = lines.markdown(document(nasty(), words=("any",))).splitlines()
    rows = [line for line in found if line.startswith("|")]
    assert rows[0] == "| metric | ref | changed | ratio | 95 % interval | verdict |"
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    assert not any("<script>" in line for line in found)
    assert "a\\|b &lt;script> \\`x\\` \\*y\\*" in found[0]


PINGS = "@octocat see #12, https://example.org and www.example.org, $x$ ~~y~~ a@b.c"


def test_markdown_makes_no_links_of_names() -> None:
    report = a_report(an_entry(rounds(), name=PINGS), environment=MACHINE)
    found = lines.markdown(document(compare(report, report, names=("a", "b"))))
    for text in ("@octocat", "#12", "://", "www.", " $x", " ~~", "a@b"):
        assert text not in found
    assert "@&#8203;octocat see #&#8203;12, https:&#8203;//example.org" in found


def test_text_is_one_line_for_each_line_whatever_names_hold() -> None:
    evil = "::error::x\x1b[31m\n::set-output\r\n##[group]\u202e"
    report = a_report(an_entry(rounds(), name=evil))
    for line in lines.text_lines(document(compare(report, measured(1), names=(evil, "b")), words=("any",))):
        assert line.isprintable() and not line.lstrip().startswith("::") and "##[" not in line


def test_pairs_are_named_by_load_and_target_and_failures_by_pair_and_report() -> None:
    two = Target(runtime="onnxruntime", threads=2)
    both = [
        a_report(an_entry(rounds(seed=seed)), an_entry(rounds(seed=seed + 1, slower=slower), target=two))
        for seed, slower in ((1, 1.0), (3, 1.3), (5, 1.0))
    ]
    comparisons = [compare(both[0], other, names=("a", name)) for other, name in ((both[1], "b"), (both[2], "c"))]
    assert comparisons[0].titles == ("int8 (single-stream, onnxruntime)", "int8 (single-stream, onnxruntime-t2)")
    text = lines.text_lines(document(*comparisons, words=("slower",)))
    assert "  b: int8 (single-stream, onnxruntime-t2): p50_ms: " in "\n".join(text)
    assert any(line.startswith("int8 (single-stream, onnxruntime-t2): slower: p50_ms") for line in text)
    alike = compare_within(a_report(an_entry(rounds(), role="baseline"), *[an_entry(rounds(seed=seed)) for seed in (1, 2)]))
    assert alike.titles == ("int8 #1", "int8 #2")


def test_junit_is_xml_whatever_names_hold() -> None:
    root = Xml.fromstring(junit(document(nasty(), words=("any",))).encode())
    assert [child.tag for child in root] == ["testsuite"]
    assert "\x1b" not in root[0].attrib["name"] and "a|b <script>" in root[0].attrib["name"]


def cases(root: Xml.Element) -> dict[str, str]:
    """Name of each case -> passed, failed or skipped."""
    found = {}
    for case in root.iter("testcase"):
        children = {child.tag for child in case}
        found[case.attrib["name"]] = "failed" if "failure" in children else "skipped" if "skipped" in children else "passed"
    return found


def test_junit_fails_what_the_policy_fails_and_skips_what_is_undecided() -> None:
    without, judged = (Xml.fromstring(junit(document(SLOWER, words=words)).encode()) for words in ((), ("slower",)))
    assert cases(without)["p50_ms"] == "passed" and "failed" not in cases(without).values()
    assert cases(judged)["p50_ms"] == "failed" and cases(judged)["size_mb"] == "passed"
    suite = judged[0]
    assert int(suite.attrib["tests"]) == len(cases(judged))
    assert int(suite.attrib["failures"]) == list(cases(judged).values()).count("failed")
    few = compare(measured(1, count=2), measured(2, count=2))
    assert cases(Xml.fromstring(junit(document(few)).encode()))["p50_ms"] == "skipped"
    assert cases(Xml.fromstring(junit(document(few, words=("slower",))).encode()))["p50_ms"] == "failed"


def test_junit_shows_failures_that_belong_to_no_metric() -> None:
    both, one = a_report(an_entry(name="a"), an_entry(name="b")), a_report(an_entry(name="a"))
    found = cases(Xml.fromstring(junit(document(compare(both, one), words=("larger",))).encode()))
    assert found["counterparts"] == "failed"
    assert cases(Xml.fromstring(junit(document(compare(both, one))).encode()))["b (onnxruntime, single-stream)"] == "skipped"
    other = a_report(an_entry(rounds(seed=2)), environment=MACHINE.model_copy(update={"cores": 4}))
    found = cases(Xml.fromstring(junit(document(compare(measured(1), other), words=("slower",))).encode()))
    assert found["comparable"] == "failed"
    named = compare(measured(1), measured(2), CompareOptions(metrics=("p50_ms", "p99.9_ms")))
    found = cases(Xml.fromstring(junit(document(named, words=("slower",))).encode()))
    assert found == {"p50_ms": "passed", "p99.9_ms": "failed"}


def test_json_is_what_the_model_describes() -> None:
    written = document(SLOWER, words=("any",))
    assert ComparisonDocument.model_validate_json(written.model_dump_json()) == written
    assert set(ComparisonDocument.model_json_schema()["$defs"]) >= {
        "Comparison",
        "PairFindings",
        "Finding",
        "Policy",
        "FailedCheck",
    }


def test_changes_have_the_same_words_in_both_directions() -> None:
    assert amount(0.0488) == amount(-0.0488) == "5.0 %"
    assert change("time", -1.2) == "3.32x faster" and change("rate", 0.0488) == "5.0 % slower"
    assert change("amount", -0.0488) == "5.0 % smaller"
    assert span("time", -0.004, 0.0488) == "0.4 % faster to 5.0 % slower"
    assert span("time", 0.01, 0.0488) == "1.0 % to 5.0 % slower"
    assert span("time", -0.0488, -0.01) == "1.0 % to 5.0 % faster"
    assert points(-0.0023) == "-0.23 points"
