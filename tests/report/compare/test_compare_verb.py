"""`edgebert compare` as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from made_reports import a_report, an_entry, measured, rounds

from edgebert.report.compare.findings import ComparisonDocument
from edgebert.report.file import write_report

Cli = Callable[..., object]


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A report, the same model again, and one that is 20 % slower."""
    files = tuple(tmp_path / f"{name}.json" for name in ("ref", "again", "slower"))
    for number, file in enumerate(files):
        write_report(file, measured(number, slower=1.2 if number == 2 else 1.0))
    return files  # type: ignore[return-value]


def test_compare_prints_what_changed_and_exits_with_0(cli: Cli, three: tuple[Path, ...]) -> None:
    done = cli("compare", *three)
    assert done.code == 0 and not done.err
    assert done.out.index("again.json") < done.out.index("slower.json")
    assert "int8: no change is shown" in done.out and "int8: slower: p50_ms" in done.out


def test_compare_fails_on_what_is_slower_and_on_nothing_else(cli: Cli, three: tuple[Path, ...]) -> None:
    ref, again, slower = three
    assert cli("compare", ref, again, "--fail-on", "slower", "--threshold", "5%").code == 0
    failed = cli("compare", ref, slower, "--fail-on", "slower", "--threshold", "5%")
    assert failed.code == 1 and "FAILED: --fail-on slower" in failed.out
    assert cli("compare", ref, slower, "--fail-on", "slower", "--threshold", "50%").code == 0
    assert cli("compare", ref, slower, "--fail-on", "larger").code == 0
    assert cli("compare", ref, slower, "--fail-on", "larger,slower").code == 1
    assert cli("compare", slower, ref, "--fail-on", "any").code == 0


def test_compare_writes_json_markdown_and_junit(cli: Cli, three: tuple[Path, ...], tmp_path: Path) -> None:
    written = cli("compare", *three[:2], "--json")
    assert ComparisonDocument.model_validate_json(written.out).passed is None
    done = cli("compare", *three, "--markdown", "--out", "made/it.md", "--junit", "junit.xml", "--fail-on", "any")
    assert done.code == 1 and done.out == ""
    assert (tmp_path / "made" / "it.md").read_text().startswith("### ")
    assert Xml.parse(tmp_path / "junit.xml").getroot().findall("testsuite/testcase/failure")


def test_compare_takes_one_report_with_baselines(cli: Cli, tmp_path: Path) -> None:
    fp32 = an_entry(rounds(slower=3.05), name="onnxruntime/fp32", role="baseline")
    write_report(tmp_path / "runs" / "report.json", a_report(fp32, an_entry(rounds(seed=1), name="onnxruntime/int8")))
    done = cli("compare", "runs")
    assert done.code == 0
    assert "onnxruntime/fp32 -> onnxruntime/int8: faster: p50_ms 3." in done.out


def test_compare_takes_the_reports_of_two_folders_by_their_names(cli: Cli, tmp_path: Path) -> None:
    for folder, names in (("old", ("a", "b", "gone")), ("new", ("a", "b"))):
        for number, name in enumerate(names):
            write_report(tmp_path / folder / f"{name}.json", measured(number + 10 * len(names), queries=70))
    done = cli("compare", "old", "new", "--json", "--fail-on", "slower", "--threshold", "20%")
    found = json.loads(done.out)
    assert [(item["ref"], item["changed"]) for item in found["comparisons"]] == [
        ("old/a.json", "new/a.json"),
        ("old/b.json", "new/b.json"),
        ("old/gone.json", "new"),
    ]
    assert done.code == 1
    assert [failure["reason"] for failure in found["failures"]] == ["not shown: CHANGED has no gone.json in new"]
    assert cli("compare", "old", "new/a.json").code == 2


WRONG = [
    (("--band", "2"), "--band '2' is no share below 1"),
    (("--band", "0"), "--band is 0"),
    (("--band", "nan"), "no share"),
    (("--accuracy-band", "x%"), "no share"),
    (("--accuracy-band", "0.5"), "--accuracy-band '0.5' has no unit"),
    (("--fail-on", "less-accurate", "--accuracy-threshold", "0.5"), "--accuracy-threshold '0.5' has no unit"),
    (("--threshold", "5%"), "A threshold needs --fail-on"),
    (("--fail-on", "slow"), "--fail-on slow is not known"),
    (("--fail-on", ""), "A threshold needs --fail-on"),
    (("--fail-on", "slower", "--threshold", "-1%"), "no share"),
    (("--metric", "p51_ms"), "There is no metric p51_ms"),
    (("--markdown", "--json"), "both --markdown and --json"),
    (("--out", "."), "cannot be written"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_compare_says_what_is_wrong_with_an_option(
    cli: Cli, three: tuple[Path, ...], options: tuple[str, ...], message: str
) -> None:
    done = cli("compare", *three[:2], *options)
    assert done.code == 2 and message in done.err


def test_compare_says_what_is_wrong_with_a_report(cli: Cli, three: tuple[Path, ...], tmp_path: Path) -> None:
    assert cli("compare", three[0], "absent.json").code == 2
    (tmp_path / "cut.json").write_text(three[0].read_text()[:100])
    assert "not a report" in cli("compare", three[0], "cut.json").err
    alone = cli("compare", three[0])
    assert alone.code == 2 and "has no baseline to compare with" in alone.err


def test_shares_are_read_with_and_without_percent(cli: Cli, three: tuple[Path, ...]) -> None:
    texts = [cli("compare", *three[:2], "--band", band).out for band in ("3%", "3 %", "0.03")]
    assert len(set(texts)) == 1 and "beyond 3 %" in texts[0]


def test_compare_says_what_to_install_when_scipy_is_not_there(
    cli: Cli, three: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    done = cli("compare", *three[:2])
    assert done.code == 3 and 'pip install "edgebert[compare]"' in done.err


def test_compare_writes_over_no_report_and_not_both_outputs_to_one_file(
    cli: Cli, three: tuple[Path, ...], tmp_path: Path
) -> None:
    before = [file.read_bytes() for file in three]
    (tmp_path / "link.json").symlink_to(three[1])
    for option, path in (("--out", three[0]), ("--junit", three[1]), ("--out", three[2]), ("--junit", tmp_path / "link.json")):
        done = cli("compare", *three[:2], option, path)
        assert done.code == 2 and f"is a report; {option} would write over it" in done.err
    assert [file.read_bytes() for file in three] == before
    done = cli("compare", *three[:2], "--out", "one", "--junit", tmp_path / "one")
    assert done.code == 2 and "--out and --junit name the same file" in done.err and not (tmp_path / "one").exists()


def test_compare_replaces_what_it_wrote_and_leaves_nothing_beside(cli: Cli, three: tuple[Path, ...], tmp_path: Path) -> None:
    for _ in range(2):
        assert cli("compare", *three[:2], "--json", "--out", "made/it.json").code == 0
    assert [file.name for file in (tmp_path / "made").iterdir()] == ["it.json"]
    assert cli("compare", *three[:2], "--out", "/dev/null").code == 0 and not Path("/dev/null").is_file()


def test_compare_lists_reports_that_only_the_second_folder_has(cli: Cli, tmp_path: Path) -> None:
    for folder, names in (("old", ("a", "b")), ("new", ("a", "b", "c"))):
        for number, name in enumerate(names):
            write_report(tmp_path / folder / f"{name}.json", measured(number + 10 * len(names), queries=70))
    assert "new: c.json is in CHANGED and not in REF" in cli("compare", "old", "new").out
