"""Reports of random latencies whose true differences are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from answers import Answers, hash_of, statistics

from edgebert.report.compare.findings import Comparison, Finding
from edgebert.report.entry import Entry
from edgebert.report.environment import Environment
from edgebert.report.report import Report
from edgebert.report.rounds import Round, Setting
from edgebert.report.samples import Samples
from edgebert.runtimes.target import Target

MACHINE = Environment(
    cpu="EPYC",
    isa=("avx512_vnni", "avx2"),
    cores=2,
    machine="x86_64",
    system="Linux 6",
    python="3.11.7",
    packages={"numpy": "2"},
)
LENGTHS = np.exp(np.random.default_rng(7).normal(0, 0.3, 2000))
"""Relative duration of each query, the same for all reports: all serve the same texts."""


def a_round(
    number: int,
    *,
    generator: np.random.Generator,
    queries: int = 150,
    slower: float = 1.0,
    between: float = 0.001,
    wander: float = 0.0003,
    **changes: Any,
) -> Round:
    """A process with its own level, and drifting, heavy-tailed noise.

    Args:
        between: standard deviation of the level between processes, as a share.
        wander: standard deviation of the level's step from one query to the next, as a share.
    """
    level = slower * np.exp(generator.normal(0, between))
    drift = np.cumsum(generator.normal(0, wander, queries))
    tails = (generator.random(queries) < 0.02) * generator.exponential(0.3, queries)
    times = 2e6 * level * LENGTHS[:queries] * np.exp(drift - drift.mean() + generator.normal(0, 0.02, queries) + tails)
    wall = int(times.sum())
    usual = {
        "latencies_ns": Samples(times.astype(np.int64)),
        "tokenise_ns": Samples(np.full(queries, 40_000)),
        "lengths": Samples(np.full(queries, 7)),
        "load_ns": int(1e8 * level),
        "cold_start_ns": int(5e8 * level),
        "peak_rss_bytes": 100_000_000,
        "wall_ns": wall,
        "examples": queries,
        "reference_workload_ns": Samples(np.full(8, int(2.6e6 * np.exp(generator.normal(0, 0.001))))),
    }
    return Round(round=number, **{**usual, **changes})


def rounds(count: int = 8, *, seed: int = 0, **changes: Any) -> tuple[Round, ...]:
    """The processes of an entry."""
    generator = np.random.default_rng(seed)
    return tuple(a_round(number, generator=generator, **changes) for number in range(count))


def an_entry(
    measured: Sequence[Round] = (),
    *,
    predictions: Answers | None = None,
    references: Answers = (),
    fp32: Answers = (),
    **changes: Any,
) -> Entry:
    """A candidate; its answers are scored where it has predictions and there are references."""
    usual: dict[str, Any] = {
        "name": "int8",
        "role": "candidate",
        "stage": "int8-dynamic",
        "artifact": "a" * 64,
        "target": Target(runtime="onnxruntime"),
        "size_bytes": 23_000_000,
        "statistics": statistics(predictions, references, fp32),
        "rounds": tuple(measured),
        "setting": Setting(queries="q" * 64),
    }
    return Entry(**{**usual, **changes})


def a_report(*entries: Entry, references: Answers = (), **changes: Any) -> Report:
    """A report of entries, all measured on one machine.

    Args:
        references: the right answers, as its entries have them.
    """
    usual: dict[str, Any] = {
        "recipe": "r",
        "task": "text-classification",
        "labels": ("no", "yes"),
        "eval_data": "e" * 64,
        "right_answers": hash_of(references),
        "environment": MACHINE,
        "gates": (),
        "entries": entries,
    }
    return Report(**{**usual, **changes})


def measured(seed: int, *, count: int = 8, **changes: Any) -> Report:
    """A report with one entry."""
    return a_report(an_entry(rounds(count, seed=seed, **changes)))


def finding(comparison: Comparison, metric: str, pair: int = 0) -> Finding:
    """The finding on a metric of a pair."""
    return next(item for item in comparison.pairs[pair].findings if item.metric == metric)


def verdicts(comparison: Comparison, pair: int = 0) -> dict[str, str]:
    """Metric -> verdict."""
    return {item.metric: item.verdict for item in comparison.pairs[pair].findings}


MIRRORED = {
    "faster": "slower",
    "slower": "faster",
    "smaller": "larger",
    "larger": "smaller",
    "more-accurate": "less-accurate",
    "less-accurate": "more-accurate",
}
"""The verdict when the sides are swapped; the others stay."""
