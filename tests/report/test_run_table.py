"""The table: columns that say something, in the width that there is."""

from __future__ import annotations

from typing import Any

import pytest
from run_reports import entry, report, timed

from edgebert.report.entry import Entry
from edgebert.report.metric_table import first_to_leave
from edgebert.report.report import Report
from edgebert.report.rounds import Coverage
from edgebert.report.text.run_table import SHOWN_WHEN_CHANGED, columns_for, markdown_table, text_table
from edgebert.report.verdict import judge


def counted(role: Any, macs: float | None, parameters: int | None) -> Entry:
    return entry(timed(70), role=role).model_copy(update={"macs": macs, "parameters": parameters, "name": role})


def covered(role: Any, int8_macs: int | None) -> Entry:
    """An entry of 1000 MACs, or one whose MACs were not counted."""
    found = int8_macs is not None and Coverage(
        int8_macs=int8_macs, all_macs=1000, length=7, batch=1, kernels={}, float_products=(), int8_macs_per_second=1e9
    )
    return entry(timed(70), role=role).model_copy(update={"coverage": found or None})


def after_pruning() -> Report:
    """FP32, one intermediate and one candidate."""
    return report(
        counted("baseline", 549.2e6, 22_713_986),
        counted("intermediate", 109.84e6, 13_000_000),
        counted("candidate", 109.84e6, 13_000_000),
    )


def rows(found: Report, width: int = 1000) -> list[list[str]]:
    """The table's cells; no title and no cell of these reports holds two blanks."""
    lines, _ = text_table(found, judge(found), width)
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def column(found: Report, title: str) -> list[str]:
    header, *others = rows(found)
    return [row[header.index(title)] for row in others]


def test_macs_are_millions_for_fp32_and_its_share_for_the_others() -> None:
    assert column(after_pruning(), "MACs") == ["549 M", "1/5.0", "1/5.0"]
    assert column(after_pruning(), "params M") == ["22.71", "13.00", "13.00"]


def test_macs_are_millions_when_there_is_no_fp32_to_compare_with() -> None:
    alone = report(counted("candidate", 109.84e6, 13_000_000), counted("intermediate", 12_000e6, 14_000_000))
    assert column(alone, "MACs") == ["110 M", "12,000 M"]


def test_what_was_not_counted_is_not_available() -> None:
    mixed = report(counted("baseline", None, None), counted("candidate", 2e6, 3_000_000))
    assert column(mixed, "MACs") == ["n/a", "2 M"]


@pytest.mark.parametrize(("macs", "parameters"), [(None, None), (5e8, 22_000_000)], ids=["not counted", "the same"])
def test_columns_with_the_same_value_in_every_row_are_left_out(macs: float | None, parameters: int | None) -> None:
    same = report(counted("baseline", macs, parameters), counted("candidate", macs, parameters))
    assert not {item.name for item in columns_for(same)} & set(SHOWN_WHEN_CHANGED)
    assert {item.name for item in columns_for(after_pruning())} >= set(SHOWN_WHEN_CHANGED)


def test_only_the_column_that_changed_is_shown() -> None:
    smaller = report(counted("baseline", 5e8, 22_000_000), counted("candidate", 5e8, 12_000_000))
    assert [item.name for item in columns_for(smaller) if item.name in SHOWN_WHEN_CHANGED] == ["parameters"]


def test_int8_is_shown_as_a_share_when_something_runs_in_it() -> None:
    assert column(report(covered("baseline", 0), covered("candidate", 987)), "INT8") == ["0.0%", "98.7%"]
    assert column(report(covered("baseline", None), covered("candidate", 987)), "INT8") == ["n/a", "98.7%"]
    for nothing in (0, None):
        assert "INT8" not in rows(report(covered("baseline", 0), covered("candidate", nothing)))[0]


def test_int8_goes_early_when_the_terminal_is_narrow() -> None:
    found = report(covered("baseline", 0), covered("candidate", 987))
    lines, gone = text_table(found, judge(found), 70)
    assert "INT8" in gone and "p50 ms" in lines[0]


def test_an_intermediate_is_named_so_and_is_not_judged() -> None:
    found = after_pruning()
    assert column(found, "verdict") == ["FP32", "intermediate", "PASSED, best"]
    assert [judged.entry.role for judged in judge(found).judged_entries] == ["candidate"]
    assert "| intermediate |" in markdown_table(found, judge(found)).splitlines()[3]


def test_table_fits_a_narrow_terminal_and_says_what_it_dropped() -> None:
    found = after_pruning()
    whole, nothing = text_table(found, judge(found), 1000)
    assert nothing == []
    for width in (len(whole[0]) - 1, 100, 80):
        lines, gone = text_table(found, judge(found), width)
        assert max(map(len, lines)) <= width and gone
    assert "MACs" in text_table(found, judge(found), 80)[0][0]
    lines, gone = text_table(found, judge(found), 10)
    assert (
        "MACs" in gone
        and "params M" in gone
        and len(gone) == len([metric for metric in first_to_leave() if "run" in metric.tables or metric.name == "macro_f1"]) - 1
    )  # no INT8
    assert lines[0].split() == ["model", "accuracy", "p50", "ms", "faster", "verdict"]
