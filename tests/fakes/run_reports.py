"""Reports of rounds whose latencies are 1, 2, 3, ... ms, so that every statistic of them is known."""

from __future__ import annotations

from typing import Any

from answers import Answers, hash_of, statistics

from edgebert.report.entry import Entry
from edgebert.report.environment import Environment
from edgebert.report.report import Report
from edgebert.report.rounds import Round
from edgebert.runtimes.target import Target

REFERENCES = (0, 1, 0, 0)
"""The right answers to the four eval examples."""


def timed(count: int, *, number: int = 0) -> Round:
    """`count` queries of 1, 2, 3, ... ms."""
    return Round(
        round=number,
        latencies_ns=tuple(index * 1_000_000 for index in range(1, count + 1)),
        tokenise_ns=(40_000,) * count,
        lengths=(7,) * count,
        load_ns=5_000_000 * (number + 1),
        peak_rss_bytes=100_000_000 * (number + 1),
    )


def entry(
    *rounds: Round, role: Any = "candidate", predictions: Answers | None = (0, 1, 1, 0), fp32: Answers = (), threads: int = 1
) -> Entry:
    """A model of 1.5 MB, measured in these rounds.

    Args:
        fp32: predictions of FP32; empty: there is none on its target.
    """
    return Entry(
        name=f"{role}-{threads}",
        role=role,
        stage="int8-dynamic",
        artifact=("b" if role == "baseline" else "a") * 64,
        target=Target(runtime="onnxruntime", threads=threads),
        size_bytes=1_500_000,
        statistics=statistics(predictions, REFERENCES, fp32),
        rounds=rounds,
    )


def report(*entries: Entry) -> Report:
    """A report of these entries, without gates."""
    return Report(
        recipe="r",
        task="text-classification",
        labels=("no", "yes"),
        eval_data="e" * 64,
        right_answers=hash_of(REFERENCES),
        environment=Environment(cpu="a", isa=("avx2",), cores=1, machine="m", system="s", python="3", packages={"numpy": "2"}),
        gates=(),
        entries=entries,
    )
