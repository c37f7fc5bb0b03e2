"""The pictures: valid for plotly, true to the samples, and made only where there is something to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reports import HOSTILE, a_report, a_round, an_entry, bench_report, full_report, source

from edgebert.report.entry import SAMPLES_FOR
from edgebert.report.page import differences, distribution, scaling, structure, tradeoff
from edgebert.report.page.page import chapters, figures
from edgebert.report.page.palette import DARK, LIGHT, plain, tick
from edgebert.report.page.parts import Section
from edgebert.report.report import Report
from edgebert.report.samples import Samples

COLOURS = {"color", "fgcolor", "bgcolor", "fillcolor"}
"""Keys whose values report.js replaces by the colour of that name."""


def coloured(value: Any, colours: dict[str, str], key: str = "") -> Any:
    """The figure as report.js draws it; a name that is not in the palette is an error."""
    if isinstance(value, dict):
        return {name: coloured(item, colours, name) for name, item in value.items()}
    if isinstance(value, list):
        return [coloured(item, colours, key) for item in value]
    return colours[value.removeprefix("--")] if key in COLOURS and isinstance(value, str) else value


@pytest.mark.parametrize("report", [full_report(), bench_report()], ids=["compress", "bench"])
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_figure_is_one_that_plotly_takes(report: Report, colours: dict[str, str]) -> None:
    import plotly.graph_objects as graph

    made = figures(chapters([source(report)]), Section("beside", ""))
    assert len(made) > 5
    for figure in made.values():
        graph.Figure(coloured(figure, colours))


def test_curve_is_the_samples_when_there_are_few() -> None:
    values, shares = distribution.ecdf(np.array([3.0, 1.0, 2.0, 2.0]))
    assert values.tolist() == [1, 2, 2, 3]
    assert shares.tolist() == [0.25, 0.5, 0.75, 1]


@given(st.integers(1, 20_000), st.integers(0, 2**32 - 1))
def test_curve_is_short_and_each_of_its_points_is_true(count: int, seed: int) -> None:
    samples = np.random.default_rng(seed).lognormal(0, 1, count)
    values, shares = distribution.ecdf(samples)
    assert len(values) <= distribution.POINTS
    assert values[0] == samples.min() and values[-1] == samples.max() and shares[-1] == 1
    assert np.array_equal(shares, np.searchsorted(np.sort(samples), values, side="right") / count)


def test_curve_of_many_samples_reaches_far_into_the_tail() -> None:
    _, shares = distribution.ecdf(np.arange(100_000.0))
    assert (shares > 0.999).sum() > 20


def test_percentiles_are_those_of_all_samples_and_missing_where_there_are_too_few() -> None:
    entry = an_entry("a", count=40, rounds=4)
    table = distribution.percentiles([("a", entry)])
    cells = dict(zip([column.title for column in table.columns], table.rows[0], strict=True))
    assert cells["samples"].value == 160
    assert cells["p95"].value == entry.percentile_ms(95)
    assert "p99.9" not in cells and "p99" not in cells, "columns that nobody has are left out"


def point(p50: float, score: float) -> tradeoff.Point:
    return tradeoff.Point("m", an_entry("m", rounds=0), 0, p50, score)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_front_is_what_no_other_beats_in_both(pairs: list[tuple[int, int]]) -> None:
    best = [(found.p50, found.score) for found in tradeoff.front([point(*pair) for pair in pairs])]
    beaten = {pair for pair in pairs if any(other != pair and other[0] <= pair[0] and other[1] >= pair[1] for other in pairs)}
    assert best == sorted(set(pairs) - beaten)


def test_accuracy_is_drawn_against_latency_of_one_load_only() -> None:
    report = bench_report()
    scored = report.model_copy(
        update={
            "task": "text-classification",
            "entries": tuple(
                entry.model_copy(update={"statistics": an_entry("scored").statistics}) for entry in report.entries
            ),
        }
    )
    loads = {(found.entry.setting.name, found.entry.target.batch) for found in tradeoff.points(source(scored))}
    assert len(loads) == 1


def test_trials_are_drawn_in_their_order_and_all_are_in_the_table() -> None:
    label, search = tradeoff.searches(source(full_report()))[0]
    picture = tradeoff.trials(label, search)
    assert picture is not None
    kept, dropped = picture.data
    assert (kept["x"], kept["y"]) == ([1.2], [0])
    assert (dropped["x"], dropped["y"]) == ([0.9], [1])
    assert "score 0.7500" in dropped["text"][0] and "<img" not in dropped["text"][0]
    assert len(picture.table.rows) == 3


def test_lengths_are_grouped_so_that_each_median_has_its_samples() -> None:
    lengths, latencies = [5] * 20 + [6] * 4 + [7] * 13 + [9] * 3, list(range(1, 41))
    item = a_round(0, 1.0, 40, lengths=Samples(lengths), latencies_ns=Samples([value * 1_000_000 for value in latencies]))
    groups = scaling.by_length(an_entry("a", rounds=0).model_copy(update={"rounds": (item,)}))
    assert [(group.shortest, group.longest, group.count) for group in groups] == [(5, 5, 20), (6, 7, 17)]
    assert [group.p50 for group in groups] == [10.5, 29]
    assert all(group.count >= SAMPLES_FOR[50] for group in groups)


def test_no_picture_over_length_where_all_texts_are_as_long() -> None:
    item = a_round(0, 1.0, 40, lengths=Samples([5] * 40))
    alone = an_entry("a", rounds=0).model_copy(update={"rounds": (item,)})
    assert scaling.length_picture(source(a_report(alone))) is None


def test_sweep_joins_what_differs_in_one_thing_alone() -> None:
    found = source(bench_report())
    threads = next(dimension for dimension in scaling.DIMENSIONS if dimension.title == "threads")
    lots = scaling.sweeps(found, threads)
    assert len(lots) == 4, "two models at two batches"
    for lot in lots:
        assert [value for *_, value in lot] == [1, 2]
        assert len({(entry.name, entry.target.batch) for _, _, entry, _ in lot}) == 1
    assert {picture.table.caption.rpartition(" over ")[2] for picture in scaling.section(found).pictures} >= {
        "batch",
        "threads",
    }


def test_removal_is_drawn_head_by_head_and_neuron_by_neuron() -> None:
    found = structure.section(source(full_report()))
    heads, widths = found.pictures[:2]
    kept, gone = heads.data
    assert list(zip(kept["x"], kept["y"], strict=True)) == [(0, 0), (2, 0)]
    assert len(gone["x"]) == 6
    assert [trace["x"] for trace in widths.data] == [[16, 0], [48, 64]]
    assert [row[2].text for row in heads.table.rows] == ["0, 2", "layer removed"]
    assert len(found.pictures) == 3, "one encoder is drawn once, however many entries have it"


def test_intervals_are_drawn_as_speeds_around_the_ratio_of_medians() -> None:
    found = source(full_report())
    (picture,) = differences.interval_pictures([found.within])
    faster = next(trace for trace in picture.data if trace["name"] == "faster")
    expected = [found.speedup(entry) for entry in found.report.candidates()]
    assert faster["x"] == pytest.approx(expected, rel=1e-3)
    for speed, up, down in zip(faster["x"], faster["error_x"]["array"], faster["error_x"]["arrayminus"], strict=True):
        assert 0 < down < speed and up > 0


@pytest.mark.parametrize("text", [HOSTILE, "<a href='javascript:1'>x</a>", "a" * 500, "a\nb", "", "$x$"])
def test_names_are_no_markup_in_figures(text: str) -> None:
    for shown in (plain(text), tick(text)):
        assert "<" not in shown.replace("<br>", "") and ">" not in shown.replace("<br>", "")
        assert len(plain(text)) < 4 * 70


def test_ticks_have_a_line_for_the_runtime() -> None:
    assert tick("onnxruntime/int8, 1 thread, batch 4") == "onnxruntime/<br>int8<br>1 thread, batch 4"


def test_more_models_than_colours_begin_hidden() -> None:
    many = a_report(*(an_entry(f"m{number}", rounds=1) for number in range(11)))
    shown = [trace["visible"] for trace in distribution.section(source(many)).pictures[0].data]
    assert shown == [True] * 8 + ["legendonly"] * 3
    styles = {(trace["line"]["color"], trace["line"]["dash"]) for trace in distribution.section(source(many)).pictures[0].data}
    assert len(styles) == 11


def test_offline_speed_is_by_throughput() -> None:
    from edgebert.report.rounds import Setting

    offline = Setting(scenario="offline")
    slow, fast = (
        an_entry(name, 2.0, role=role, setting=offline, rounds=0).model_copy(
            update={"rounds": (a_round(0, 2.0, examples=60, wall_ns=wall),)}
        )
        for name, role, wall in (("fp32", "baseline", 3_000_000), ("int8", "candidate", 1_000_000))
    )
    assert source(a_report(slow, fast)).speedup(fast) == pytest.approx(3)


def test_axis_begins_logarithmic_when_a_few_queries_are_very_slow() -> None:
    quick = an_entry("a", rounds=1)
    slow = quick.model_copy(update={"rounds": (*quick.rounds, a_round(1, 500.0, 2))})
    for entry, expected in ((quick, False), (slow, True)):
        assert distribution.section(source(a_report(entry))).pictures[0].logarithmic is expected
