"""Single-stream latency: the next query starts when the last one ended, in fresh processes, models taking turns.

Each round starts one process for every model, in an order that rotates; each process opens its model, warms up, and
serves the same seeded queries. Tokenisation is timed apart. Raw nanoseconds are kept in their order.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgebert.errors import StageError
from edgebert.progress import Progress
from edgebert.runtimes.target import Target


class Round(BaseModel):
    """What one process measured. Times in nanoseconds, one for each query, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    latencies_ns: tuple[int, ...]
    tokenise_ns: tuple[int, ...]
    lengths: tuple[int, ...]
    load_ns: int
    peak_rss_bytes: int | None


class Job(BaseModel):
    """What one process is told, on its standard input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    model: str
    target: Target
    task: str
    labels: tuple[str, ...]
    max_length: int
    pad_id: int
    tokenizer: str
    rows: str
    """JSON file with the rows, in the order of the queries; the first `warmup` queries are served but not timed."""
    warmup: int


def query_order(examples: int, queries: int, seed: int) -> list[int]:
    """Indices of examples in a seeded order; a set that is smaller than the queries is gone through again."""
    generator = np.random.default_rng(seed)
    passes = -(-queries // examples)
    return [int(index) for _ in range(passes) for index in generator.permutation(examples)][:queries]


def measure_rounds(jobs: Sequence[Job], rounds: int, progress: Progress) -> list[list[Round]]:
    """Runs every job once a round, in fresh processes, and returns the rounds of each job.

    Raises:
        StageError: a process failed; the message holds its last line.
    """
    results: list[list[Round]] = [[] for _ in jobs]
    with progress.step("measure latency", rounds * len(jobs)) as step:
        for number in range(rounds):
            for place in rotated(len(jobs), number):
                results[place].append(run_job(jobs[place].model_copy(update={"round": number})))
                step.advance()
    return results


def rotated(count: int, turn: int) -> list[int]:
    """0..count-1, starting one further each turn and backwards on odd ones, so that nobody always follows the same."""
    order = [(turn + place) % count for place in range(count)]
    return order if turn % 2 == 0 else order[::-1]


def run_job(job: Job) -> Round:
    """One job in a fresh process."""
    command = [sys.executable, "-P", "-m", "edgebert.measure.worker"]
    done = subprocess.run(command, input=job.model_dump_json(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"The process that measures {job.model} ended with code {done.returncode}: {last}")
    return Round.model_validate_json(done.stdout)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The rows of the queries, for the processes."""
    path.write_text(json.dumps(rows))
