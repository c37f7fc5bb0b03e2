"""The search of `quantize: auto` as text: its choice, its trials, advice where it failed, each layer's sensitivity."""

from __future__ import annotations

from collections.abc import Sequence

from edgebert.report.entry import Entry
from edgebert.report.report import Report
from edgebert.report.search_record import LayerSensitivity, SearchRecord
from edgebert.report.text.concerns import concern_lines
from edgebert.report.verdict import Verdict
from edgebert.report.worthless import worthless
from edgebert.tasks.metrics import AGREEMENT

BAR_WIDTH = 24
NAMED = 3
"""Number of sensitive layers that are named where no candidate passes."""
REPAIRS = {
    "values": "value channels that share their range with attention's output matrix",
    "norms": "LayerNorms that share their range with the matrices that read them",
    "biases": "biases that take up the mean error of the rounded weights",
    "fallback": "matrix products that stay float",
}
"""Repair -> its description."""


def choice_lines(entry: Entry) -> list[str]:
    """The choice of the search for one entry; empty where there was no search."""
    search = entry.search
    if search is None:
        return []
    parts = [f"method {search.method}"]
    parts += [f"rewrites {', '.join(search.rewrites)}"] if search.rewrites else []
    parts += [f"{name} {_plain(value)}" for name, value in search.tuning.items()]
    lines = [f"{entry.name}: {'; '.join(parts)}"]
    if search.repairs:
        lines.append(f"  repaired by {'; '.join(REPAIRS.get(name, name) for name in search.repairs)}")
    if search.excluded_nodes:
        lines.append(f"  float: {', '.join(search.excluded_nodes)}; {_price(search)}")
    return lines


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _price(search: SearchRecord) -> str:
    """Cost of the float products in latency, relative to the first method on the best graph."""
    name = f"fallback of {len(search.excluded_nodes)}:"
    ratio = next((trial.ratio for trial in search.trials if trial.what.startswith(name)), None)
    return f"{1 / ratio - 1:+.0%} latency" if ratio else "its price was not measured"


def advice_lines(report: Report, verdict: Verdict) -> list[str]:
    """What makes the scores doubtful; and the most sensitive layers and what to try next, where no candidate passes the gates
    on answers although FP32's are worth something."""
    best = verdict.best.entry
    concerns = concern_lines(report, verdict)
    if verdict.passed or not _answers_missed(verdict, report) or worthless(report, report.baseline_of(best)):
        return concerns
    search = best.search
    lines = concerns
    if search and search.sensitivity:
        named = ", ".join(layer.name for layer in search.sensitivity[:NAMED])
        lines.append(f"most sensitive to INT8: {named}")
    lines.append("what to try next:")
    if search is None:
        lines.append("  quantize: {method: auto}, which repairs a model and leaves its weakest layers float")
    lines.append(
        "  distill: {quantization_aware: dynamic, epochs: 1, learning_rate: 3.0e-6}, before quantize: training for INT8"
    )
    lines.append("  more calibration rows like the ones that will be served, in data.calibration")
    lines.append("  a gate that the best candidate holds, if its answers are good enough for you")
    return lines


def _answers_missed(verdict: Verdict, report: Report) -> bool:
    """Whether the best candidate misses a gate on its answers."""
    answers = (*report.task_metrics, AGREEMENT.name)
    return any(not result.passed and result.gate.metric in answers for result in verdict.best.results)


def trial_rows(search: SearchRecord) -> list[list[str]]:
    """A row for each trial: what, faster, score, kept, note."""
    return [
        [
            trial.what,
            "" if trial.ratio is None else f"{trial.ratio:.3f}x",
            "" if trial.score is None else f"{trial.score:.4f}",
            "kept" if trial.kept else "",
            trial.note,
        ]
        for trial in search.trials
    ]


def sensitivity_lines(layers: Sequence[LayerSensitivity], mark: str = "█") -> list[str]:
    """A line for each matrix product, most sensitive first: score lost and divergence when it alone is INT8, and a bar."""
    if not layers:
        return []
    width = max(len(layer.name) for layer in layers)
    most = max((layer.divergence for layer in layers), default=0.0) or 1.0
    lines = []
    for layer in layers:
        bar = mark * round(BAR_WIDTH * layer.divergence / most)
        lines.append(f"{layer.name.ljust(width)}  {layer.lost:+8.4f}  {layer.divergence:9.2e}  {bar}".rstrip())
    return lines
