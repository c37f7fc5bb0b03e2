"""Latency in fresh processes, models taking turns.

Each round starts one process for every model, in an order that rotates; each process opens its model, warms up, and
serves the same seeded queries under the load that its setting names. Raw nanoseconds are kept in their order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgebert.core.progress import Progress
from edgebert.core.store import hash_json
from edgebert.errors import StageError
from edgebert.measure.latency import worker
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.process import run_worker
from edgebert.measure.machine.cooling import Cooling, open_cooling
from edgebert.measure.machine.cores import check_cores
from edgebert.report.rounds import Round
from edgebert.tasks.base import Row, Task


def query_order(examples: int, queries: int, seed: int) -> list[int]:
    """Indices of examples in a seeded order; a set that is smaller than the queries is repeated."""
    generator = np.random.default_rng(seed)
    passes = -(-queries // examples)
    return [int(index) for _ in range(passes) for index in generator.permutation(examples)][:queries]


def measure_rounds(
    jobs: Sequence[RoundJob],
    rounds: int,
    progress: Progress,
    *,
    first_process: int = 0,
    cooling: Cooling | None = None,
    on_round: Callable[[list[list[Round]]], None] | None = None,
) -> list[list[Round]]:
    """Runs every job once a round, in fresh processes, and returns the rounds of each job.

    Args:
        first_process: number of processes that the run had before; the new ones are counted from there.
        cooling: waits before each process while the CPU is too hot; by default as `open_cooling` does.
        on_round: called with the rounds of each job whenever all jobs have finished one, to keep them if a later one fails.

    Raises:
        InputError: a job names a core that this process may not use.
        StageError: a process failed, was ended or went silent.
    """
    for job in jobs:
        check_cores(job.pin)
    results: list[list[Round]] = [[] for _ in jobs]
    cooling = cooling or open_cooling(progress)
    process = first_process
    with progress.step("measure latency", rounds * len(jobs)) as step:
        for number in range(rounds):
            for index in rotated(len(jobs), number):
                job = jobs[index].model_copy(update={"round": number, "process": process})
                results[index].append(_run_cool(job, cooling))
                process += 1
                step.advance()
            if on_round:
                on_round([list(measured) for measured in results])
    return results


def rotated(count: int, turn: int) -> list[int]:
    """The order of a turn: 0..count-1, backwards on odd turns and starting one further after each two turns.

    So no model always follows the same one. Two take turns as ABBA; three go through all six orders.
    """
    order = [(turn // 2 + index) % count for index in range(count)]
    return order if turn % 2 == 0 else order[::-1]


def _run_cool(job: RoundJob, cooling: Cooling) -> Round:
    """One job in a fresh process on a CPU that has cooled down; the round is marked where the CPU stayed hot or throttled."""
    before = cooling.wait()
    started = time.perf_counter_ns()
    measured = run_job(job)
    return measured.model_copy(update={"throttled": cooling.after(before, time.perf_counter_ns() - started)})


def run_job(job: RoundJob) -> Round:
    """One job in a fresh process.

    Raises:
        StageError: it failed, was ended or went silent.
    """
    text = job.model_copy(update={"started_ns": time.monotonic_ns()}).model_dump_json()
    output = run_worker(worker, text, f"measures {job.model}")
    try:
        return Round.model_validate_json(output)
    except ValidationError as error:
        raise StageError(f"The process that measures {job.model} gave no usable result: {output[:200]!r}") from error


def hash_queries(rows: Sequence[Row], task: Task) -> str:
    """sha256 of the queries, in order: the same for the same texts wherever they come from; labels do not count."""
    asked = [column.name for column in task.columns if not column.is_label]
    return hash_json({"rows": [{name: row[name] for name in asked if name in row} for row in rows]})


def write_rows(path: Path, rows: Sequence[dict[str, Any]] | Sequence[Sequence[int]]) -> None:
    """Writes the rows of the queries, or their token ids, for the processes: one a line, as JSON."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
