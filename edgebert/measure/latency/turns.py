"""Models taking turns: small comparisons of latency, for choosing between graphs and settings of one target.

All models are open in one fresh process and serve the same few queries, one model after the other, round after round, so that
what disturbs the machine disturbs them alike. The ratio of two models is taken round by round.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgebert.core.strict import Frozen
from edgebert.errors import StageError
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Encoded


class Turn(Frozen):
    """One model and how it runs."""

    model: str
    target: Target


class Job(Frozen):
    """What the process is told, on its standard input."""

    turns: tuple[Turn, ...]
    texts: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    """Token and segment ids of each text, in the order of the queries."""
    pad_id: int
    max_length: int
    seconds: float
    """For one model in all; the first model's speed decides how many turns that is."""


class Timings(Frozen):
    """Median latencies in nanoseconds, of shape (models, rounds)."""

    medians: tuple[tuple[float, ...], ...]

    def ratio(self, place: int, reference: int = 0) -> float:
        """How many times faster a model is than the reference: median over the rounds."""
        ours, theirs = self._of(place), self._of(reference)
        return float(np.median(theirs / ours))

    def p50_ms(self, place: int) -> float:
        """Median over the rounds."""
        return float(np.median(self._of(place))) / 1e6

    def _of(self, place: int) -> npt.NDArray[np.float64]:
        return np.array(self.medians[place], dtype=np.float64)


def take_turns(
    models: Sequence[tuple[Path, Target]],
    texts: Sequence[Encoded],
    *,
    pad_id: int,
    max_length: int,
    seconds: float,
) -> Timings:
    """Times the models in one fresh process.

    Raises:
        StageError: the process failed; the message holds its last line.
    """
    job = Job(
        turns=tuple(Turn(model=str(file), target=target) for file, target in models),
        texts=tuple((text.ids, text.type_ids) for text in texts),
        pad_id=pad_id,
        max_length=max_length,
        seconds=seconds,
    )
    command = [sys.executable, "-P", "-m", "edgebert.measure.latency.turns_worker"]
    done = subprocess.run(command, input=job.model_dump_json(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"The process that compares {len(models)} models ended with code {done.returncode}: {last}")
    return Timings.model_validate_json(done.stdout.splitlines()[-1])
