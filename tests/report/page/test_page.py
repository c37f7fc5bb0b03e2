"""The page's text: its structure, what is left out, that no name becomes markup, and that it asks nobody for anything."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
from former_reports import version_2
from page_reports import HOSTILE, Element, a_report, a_round, an_entry, bench_report, full_report, sections, source, tree

from edgebert.report.file import write_report
from edgebert.report.page.page import render, script_json
from edgebert.report.page.palette import DARK, LIGHT
from edgebert.report.page.source import RunRecord, read_sources
from edgebert.report.report import Report

MEGABYTES = 5.0
"""Largest page, in 10^6 bytes."""


def page(*reports: Report) -> tuple[str, Element]:
    text = render([source(report, f"mine {index}") for index, report in enumerate(reports)])
    return text, tree(text)


def headings(root: Element) -> list[tuple[int, str]]:
    return [(int(item.tag[1]), item.words()) for item in root.all() if re.fullmatch(r"h[1-6]", item.tag)]


@pytest.fixture(scope="module")
def full() -> tuple[str, Element]:
    return page(full_report())


@pytest.fixture(scope="module")
def beside() -> tuple[str, Element]:
    return page(full_report(), bench_report())


@pytest.fixture(params=["full", "beside"])
def every(request: pytest.FixtureRequest) -> tuple[str, Element]:
    return request.getfixturevalue(request.param)


def test_page_has_one_main_heading_and_no_level_is_skipped(every: tuple[str, Element]) -> None:
    levels = [level for level, _ in headings(every[1])]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_every_picture_is_described_and_has_its_numbers_as_a_table(every: tuple[str, Element]) -> None:
    figures = every[1].all("figure")
    assert len(figures) > 8
    for figure in figures:
        (plot,) = [item for item in figure.all("div") if item.attributes.get("class") == "plot"]
        assert plot.attributes["role"] == "img" and plot.attributes["aria-label"]
        (details,) = [item for item in figure.all("details") if "numbers" in item.attributes["class"]]
        (table,) = details.all("table")
        assert len(table.all("tr")) > 1


def test_every_table_has_a_caption_scopes_and_rows_as_wide_as_its_head(every: tuple[str, Element]) -> None:
    for table in every[1].all("table"):
        assert table.all("caption")[0].words()
        head, *rows = table.all("tr")
        assert {cell.attributes["scope"] for cell in head.all("th")} == {"col"}
        for row in rows:
            assert [cell.attributes["scope"] for cell in row.all("th")] == ["row"]
            assert len(row.all("th") + row.all("td")) == len(head.all("th"))


def test_numbers_of_a_sortable_column_are_there_in_full(full: tuple[str, Element]) -> None:
    table = next(table for table in full[1].all("table") if "measured" in table.all("caption")[0].words())
    titles = [cell.words() for cell in table.all("tr")[0].all("th")]
    column = titles.index("p50 ms")
    values = [float((row.all("th") + row.all("td"))[column].attributes["data-value"]) for row in table.all("tr")[1:]]
    assert values == [entry.percentile_ms(50) for entry in full_report().entries]


def test_every_id_is_unique_and_every_reference_leads_somewhere(every: tuple[str, Element]) -> None:
    root = every[1]
    ids = [item.attributes["id"] for item in root.all() if "id" in item.attributes]
    assert len(ids) == len(set(ids))
    assert {link.attributes["href"][1:] for link in root.all("a")} <= set(ids)
    assert {item.attributes["aria-labelledby"] for item in root.all() if "aria-labelledby" in item.attributes} <= set(ids)
    assert set(json.loads(script(root, "figures"))) == {
        item.attributes["id"] for item in root.all("div") if item.attributes.get("class") == "plot"
    }


def script(root: Element, name: str) -> str:
    return next(item for item in root.all("script") if item.attributes.get("id") == name).words()


def test_page_asks_for_nothing_and_its_policy_forbids_it(every: tuple[str, Element]) -> None:
    _, root = every
    assert not [item for item in root.all() if {"src", "srcset", "action", "data", "poster"} & set(item.attributes)]
    assert all(link.attributes["href"].startswith("#") for link in root.all("a"))
    assert not root.all("link") and not root.all("iframe") and not root.all("img")
    style = root.all("style")[0].words()
    assert "url(" not in style and "@import" not in style
    policy = next(item for item in root.all("meta") if item.attributes.get("http-equiv") == "Content-Security-Policy")
    policies = dict(part.strip().partition(" ")[::2] for part in policy.attributes["content"].split(";"))
    assert (
        policies["default-src"] == "'none'"
        and "unsafe" not in policies["script-src"]
        and policies["script-src"].count("sha256-") == 2
    )
    assert set(policies) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert not [name for item in root.all() for name in item.attributes if name.startswith("on")]


def test_page_is_small(full: tuple[str, Element]) -> None:
    assert len(full[0].encode()) / 1e6 < MEGABYTES


def test_hostile_names_stay_text_wherever_they_stand() -> None:
    report = full_report(recipe=HOSTILE, labels=(HOSTILE, "b"))
    record = RunRecord.model_validate(
        {
            "recipe": {"model": HOSTILE, HOSTILE: 1},
            "steps": [{"step": HOSTILE, "key": "k", "sha256": "s", "facts": {HOSTILE: HOSTILE}}],
        }
    )
    text = render([source(report, HOSTILE, record=record), source(report, f"{HOSTILE} 2")])
    root = tree(text)
    assert not root.all("img") and not root.all("b")
    assert len(root.all("script")) == 3
    assert not [name for item in root.all() for name in item.attributes if name.startswith("on")]
    assert HOSTILE in [heading for _, heading in headings(root)]
    figures = json.loads(script(root, "figures"))
    names = {trace.get("name", "") for figure in figures.values() for trace in figure["data"]}
    assert any("&lt;img" in name for name in names) and not any("<img" in name or "<b>" in name for name in names)
    templates = {trace.get("hovertemplate", "") for figure in figures.values() for trace in figure["data"]}
    assert not any("onerror" in template for template in templates)


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "\u2028", "&amp;", "é漢😀"])
def test_json_in_a_script_says_the_same_and_cannot_end_it(text: str) -> None:
    written = script_json({"a": [text]})
    assert json.loads(written) == {"a": [text]}
    assert not set("<>&\u2028") & set(written)


def test_json_in_a_script_holds_no_number_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON"):
        script_json([float("nan")])


def test_verdict_comes_first_with_the_reason_of_each_gate(full: tuple[str, Element]) -> None:
    words = full[1].all("main")[0].words()
    assert words.index("PASSED") < words.index("All models")
    for reason in ("accuracy >= 0.9 of FP32: 1", "speedup >= 1.1", "size_mb <= 30: 23"):
        assert reason in words


def test_page_of_a_failed_report_says_what_is_missed_and_what_to_try() -> None:
    from edgebert.report.gates import Gate

    words = page(full_report(gates=(Gate(metric="accuracy", min=1.01),)))[1].all("main")[0].words()
    assert words.index("FAILED") < words.index("All models")
    assert "accuracy >= 1.01: 1" in words
    assert "What to try next" in words


def test_page_of_bench_names_the_fastest_of_each_load_and_the_bounds() -> None:
    root = page(bench_report())[1]
    words = root.all("main")[0].words()
    assert "Fastest" in words and "PASSED" not in words
    assert "the bound of 5 ms at p90 holds" in words and "the bound of 5 ms at p90 is missed" in words
    assert {"scaling", "differences", "conditions", "lineage", "again"} <= set(sections(root))
    assert not {"tradeoff", "structure", "arithmetic"} & set(sections(root))
    assert "edgebert bench MODEL --baseline MODEL --scenario single-stream --scenario server" in words


def test_every_section_is_there_when_there_is_something_to_show(full: tuple[str, Element]) -> None:
    first = ["models", "labels", "differences", "tradeoff", "distribution", "structure", "scaling", "resources", "arithmetic"]
    assert sections(full[1]) == [*first, "conditions", "lineage"]


def test_sections_without_data_are_left_out() -> None:
    bare = an_entry("alone", role="baseline", rounds=0, predictions=None)
    root = page(a_report(bare, task=None, right_answers=None, eval_data=None))[1]
    assert not {"tradeoff", "distribution", "structure", "scaling", "arithmetic", "differences"} & set(sections(root))
    assert "models" in sections(root)
    assert [level for level, _ in headings(root)].count(1) == 1


def test_disturbances_are_named_at_the_top() -> None:
    rounds = (a_round(0, 2.0, throttled=True), a_round(1, 2.0, stable=False), a_round(2, 2.0, overhead_ns=1e6))
    slow = tuple(item.model_copy(update={"overhead_ns": 1e6}) for item in rounds)
    words = page(a_report(an_entry("a", rounds=0).model_copy(update={"rounds": slow})))[1].all("main")[0].words()
    assert words.index("marks against these numbers") < words.index("All models")
    assert "the machine throttled in 1 of 3 processes" in words
    assert "had not settled after warm-up in 1 of 3 processes" in words
    assert "the loop itself costs 1,000 µs a query" in words
    assert "INT8 with" in words and "avx512_vnni" in words


def test_models_of_the_same_name_have_labels_of_their_own() -> None:
    entries = bench_report().entries
    labels = source(a_report(*entries)).labels
    assert len(set(labels)) == len(labels)
    assert labels[0] == "fp32, 1 thread, batch 1" and labels[-1] == "int8, server-100/s, 1 thread, batch 1"
    twins = an_entry("a"), an_entry("a")
    assert source(a_report(*twins)).labels == ("a #1", "a #2")


def test_page_of_a_report_of_version_1_is_of_the_same_values(tmp_path: Path) -> None:
    report = full_report()
    content = version_2(json.loads(report.model_dump_json()))
    for entry in content["entries"]:
        for item, known in zip(entry["rounds"], next(e for e in report.entries if e.name == entry["name"]).rounds, strict=True):
            for name in ("latencies_ns", "tokenise_ns", "lengths", "end_to_end_ns"):
                item[name] = list(getattr(known, name))
            item["pulse_ns"] = list(known.reference_workload_ns)
    (tmp_path / "old.json").write_text(json.dumps({**content, "schema_version": 1}))
    write_report(tmp_path / "new.json", report)
    old, new = read_sources([tmp_path / "old.json"]), read_sources([tmp_path / "new.json"])
    assert [item.name for item in old] == ["mine"]
    assert old[0].report.model_copy(update={"sha256": new[0].report.sha256}) == new[0].report


def test_reports_of_the_same_name_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name / "report.json", full_report())
    names = [item.name for item in read_sources([tmp_path / "a", tmp_path / "b", tmp_path / "b"])]
    assert names == ["mine (a)", "mine (b) #1", "mine (b) #2"]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_have_enough_contrast_on_their_grounds(colours: dict[str, str]) -> None:
    for name in ("ink", "soft", "accent", "good", "bad"):
        assert min(contrast(colours[name], colours[ground]) for ground in ("page", "surface")) >= 4.5, name
    for name in ("good", "bad", "warn"):
        assert contrast(colours[name], colours[f"{name}-ground"]) >= 4.5, name
    for name in (*(name for name in colours if name.startswith("series-")), "grey"):
        assert contrast(colours[name], colours["surface"]) >= 3, name


def test_palettes_have_the_same_names() -> None:
    assert set(LIGHT) == set(DARK)


def test_same_reports_give_the_same_page(full: tuple[str, Element]) -> None:
    assert render([source(full_report(), "mine 0")]) == full[0]
