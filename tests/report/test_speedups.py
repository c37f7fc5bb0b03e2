"""A verdict knows what the page knows: how sure a speed-up is, what disturbed it, and when FP32 is compared with itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_reports import MACHINE, a_report, an_entry, rounds

from edgebert.errors import MissingPackage
from edgebert.report import speedups
from edgebert.report.entry import Entry
from edgebert.report.environment import MachineState
from edgebert.report.gates import Gate
from edgebert.report.page import conditions
from edgebert.report.page.source import PageSource
from edgebert.report.page.summary import facts
from edgebert.report.report import Report
from edgebert.report.samples import Samples
from edgebert.report.search_record import SearchRecord
from edgebert.report.selection import Selection
from edgebert.report.text.bench_table import remark_lines
from edgebert.report.text.disturbances import disturbance_lines
from edgebert.report.text.run_table import markdown_table, text_table, unsure_line
from edgebert.report.text.selection import selection_lines
from edgebert.report.verdict import judge

FP32 = "onnxruntime/fp32"
INT8 = "onnxruntime/int8"


def fp32(seed: int = 0, **changes: Any) -> Entry:
    return an_entry(rounds(seed=seed, count=4, **changes), name=FP32, role="baseline", artifact="b" * 64)


def gated(*entries: Entry, least: float = 1.2, **changes: Any) -> Report:
    return a_report(*entries, gates=(Gate(metric="speedup", min=least),), **changes)


def noisy() -> Report:
    """The same speed twice, on a machine that is twice as fast in some processes."""
    levels = [1.0, 2.0, 1.1, 1.9]
    sides = []
    for seed, order in ((1, levels), (2, levels[::-1])):
        made = rounds(seed=seed, count=4)
        sides.append(
            [
                item.model_copy(update={"latencies_ns": Samples((item.latencies_ns.values * level).astype(np.int64))})
                for item, level in zip(made, order, strict=True)
            ]
        )
    slow = an_entry(sides[0], name=FP32, role="baseline", artifact="b" * 64)
    return gated(slow, an_entry(sides[1], name=INT8))


def cell(report: Report, row: int) -> str:
    header, *lines = (line.split() for line in text_table(report, judge(report), 1000)[0])
    offset = len(lines[row]) - len(header)  # titles of two words, verdicts of two
    return next(word for word in lines[row][: len(header) + max(offset, 0)] if word.endswith("x"))


def test_a_speedup_that_noise_explains_is_marked_and_its_interval_stands_in_the_gate() -> None:
    report = noisy()
    verdict = judge(report)
    assert cell(report, 1).startswith("~") and not cell(report, 0).startswith("~")
    assert f"| ~{report.value(report.entries[1], 'speedup'):.2f}x |" in markdown_table(report, verdict)
    (line,) = [unsure_line(verdict)]
    assert line.startswith(f"~ not told from noise: {INT8} ") and line.endswith("(95 %)")
    (reason,) = verdict.best.failures or [result.reason for result in verdict.best.results]
    assert "so noise decides: measure more rounds)" in reason
    assert PageSource("r", None, report).within.pairs[0].findings[0].verdict == "inconclusive"  # type: ignore[arg-type]


def test_a_speedup_that_is_sure_has_its_interval_and_no_mark() -> None:
    report = gated(fp32(slower=3.0), an_entry(rounds(seed=1, count=4), name=INT8))
    verdict = judge(report)
    assert verdict.passed and unsure_line(verdict) == "" and not cell(report, 1).startswith("~")
    low, high = verdict.speedups[INT8].interval or (0, 0)
    assert low < (report.value(report.entries[1], "speedup") or 0) < high
    assert verdict.best.results[0].reason.endswith(f" ({low:.3g} to {high:.3g}), holds")
    assert "3." in facts(PageSource("r", None, report), report.entries[1])[0].text  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_processes_are_never_sure(count: int) -> None:
    report = gated(
        an_entry(rounds(count=count, slower=3.0), name=FP32, role="baseline", artifact="b" * 64),
        an_entry(rounds(seed=1, count=count), name=INT8),
    )
    assert cell(report, 1).startswith("~")
    assert unsure_line(judge(report)) == "~ not told from noise, for too few processes were measured"


def test_a_device_without_scipy_judges_without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Any:
        raise MissingPackage("scipy", needed_for="Comparing", extra="compare")

    monkeypatch.setattr(speedups, "compare_within", missing)
    report = gated(fp32(slower=3.0), an_entry(rounds(seed=1), name=INT8))
    assert judge(report).passed and judge(report).speedups == {}


@pytest.mark.parametrize(("least", "passes"), [(1.0, True), (1.01, False)])
@pytest.mark.parametrize("slower", [0.9, 1.0, 1.12])
def test_the_graph_of_fp32_is_as_fast_as_itself_whatever_was_measured(slower: float, least: float, passes: bool) -> None:
    again = an_entry(rounds(seed=1, count=4, slower=slower), name="onnxruntime/export", artifact="b" * 64)
    report = gated(fp32(), again, least=least)
    assert report.value(again, "speedup") == 1.0
    verdict = judge(report)
    assert verdict.passed is passes
    assert "(the graph is FP32's own)" in verdict.best.results[0].reason
    (line,) = disturbance_lines(report)
    assert line.startswith(f"onnxruntime/export is the graph of {FP32}: nothing was compressed")
    assert ("which is noise" in line) == (slower != 1.0)


def with_reference(report: Report, *levels: float) -> Report:
    def timed(entry: Entry) -> Entry:
        made = [
            item.model_copy(update={"reference_workload_ns": Samples([int(2.6e6 * level)] * 8)})
            for item, level in zip(entry.rounds, levels, strict=False)
        ]
        return entry.model_copy(update={"rounds": tuple(made)})

    return report.model_copy(update={"entries": tuple(map(timed, report.entries))})


def quiet() -> Report:
    return gated(fp32(slower=3.0), an_entry(rounds(seed=1, count=4), name=INT8))


def on(**state: Any) -> Report:
    """The quiet report, on a machine whose counters gained these values, with a load average of 0.5 before."""
    before = MachineState(load_average=state.pop("load_average", 0.5), stolen_ticks=100, busy_ticks=1000)
    after = MachineState(**{"load_average": 9.0, "stolen_ticks": 100, "busy_ticks": 2000, **state})
    return quiet().model_copy(update={"environment": MACHINE.model_copy(update={"before": before, "after": after})})


DISTURBED = {
    "load": (on(load_average=3.5), "others worked on the machine: load average 3.5 on 2 cores when it began"),
    "stolen": (on(stolen_ticks=300), "other guests of the host took 17% of the machine's time"),
    "speed": (with_reference(quiet(), 1.0, 1.0, 1.2, 1.0), "the machine's own speed varied by 20% between the processes"),
}


@pytest.mark.parametrize("kind", DISTURBED)
def test_a_load_that_disturbed_is_said_beside_the_table_of_every_verb(kind: str) -> None:
    report, sentence = DISTURBED[kind]
    assert any(line.startswith(sentence) for line in disturbance_lines(report))
    assert any(line.startswith(sentence) for line in remark_lines(report))


def test_a_quiet_machine_has_no_such_sentence() -> None:
    steady = MACHINE.model_copy(update={"load_average": 2.5})  # edgebert's own work before the measurement
    for report in (
        quiet(),
        on(),
        with_reference(quiet(), 1.0, 1.0, 1.03, 1.0),
        quiet().model_copy(update={"environment": steady}),
    ):
        assert disturbance_lines(report) == []


def test_processes_that_throttled_or_did_not_settle_are_named() -> None:
    marked = rounds(seed=1, count=4)
    marked = (marked[0].model_copy(update={"throttled": True, "stable": False}), *marked[1:])
    assert disturbance_lines(gated(fp32(), an_entry(marked, name=INT8))) == [
        f"{INT8}: the machine throttled in 1 of 4 processes",
        f"{INT8}: latency had not settled in 1 of 4 processes",
    ]


SENTENCES = {
    "data.select": "The search chose on 300 rows of data.select; data.eval was looked at once, for the verdict.",
    "data.train": "The search chose on 300 rows held out of data.train; data.eval was looked at once, for the verdict.",
    "data.eval": "The search chose on the 300 rows of data.eval that also judge its result, so its score is somewhat too good. "
    "Give data.select, or data.train to hold rows out of.",
}


@pytest.mark.parametrize("source", SENTENCES)
def test_selection_says_which_rows_chose(source: Any) -> None:
    assert Selection(source=source, rows=300, data="d" * 64).sentence == SENTENCES[source]


def test_selection_says_that_eval_holds_some_of_its_rows() -> None:
    sentence = Selection(source="data.select", rows=300, data="d" * 64, also_in_eval=12).sentence
    assert "300 rows of data.select, of which 12 are in data.eval, too;" in sentence


def searched(fp32_score: float, source: Any = "data.train") -> Report:
    """FP32 that is right in 80 of 100 eval examples, and scored so much on the rows of the search."""
    references = (0, 1) * 50
    given = {"references": references, "predictions": (1,) * 40 + references[40:]}
    fp32 = an_entry(rounds(count=4), name=FP32, role="baseline", artifact="b" * 64, **given)
    search = SearchRecord(
        method="dynamic", rewrites=(), repairs=(), excluded_nodes=(), tuning={}, passed=True, rows=1000,
        baseline_score=fp32_score, trials=(),
    )  # fmt: skip
    selection = Selection(source=source, rows=1000, data="d" * 64)
    int8 = an_entry(rounds(count=4, seed=1), name=INT8, search=search, **given)
    return a_report(fp32, int8, references=references, selection=selection)


def test_rows_that_fp32_was_trained_on_are_no_rows_to_choose_on() -> None:
    (_, warning) = selection_lines(searched(0.995))
    assert warning.startswith(
        "FP32 has accuracy 0.9950 on the rows that chose and 0.8000 on data.eval: it was probably trained"
    )
    assert any(line == warning for line in conditions.warnings(PageSource("r", None, searched(0.995))))  # type: ignore[arg-type]
    for other in (searched(0.82), searched(0.7), searched(0.995, "data.eval")):
        assert len(selection_lines(other)) == 1
    assert selection_lines(quiet()) == []
