"""The trial: a fixed piece of work, repeated in several fresh processes, as models are when they are measured."""

from __future__ import annotations

import json
import subprocess

import numpy as np

from edgebert.core.progress import Progress
from edgebert.core.strict import Frozen
from edgebert.errors import StageError
from edgebert.measure.doctor import trial_worker
from edgebert.measure.doctor.detectable import detectable
from edgebert.measure.latency.process import module_command
from edgebert.report.samples import Samples

PROCESSES = 10


class WorkloadTrial(Frozen):
    """Nanoseconds of each repetition, in order, of each process."""

    processes: tuple[Samples, ...]

    @property
    def median_ms(self) -> float:
        """Of all repetitions."""
        return float(np.median(self._all())) / 1e6

    @property
    def tail(self) -> float:
        """99th percentile over the median, each process by its own median: how uneven one process runs."""
        parts = [part.values / np.median(part.values) for part in self.processes]
        return float(np.percentile(np.concatenate(parts), 99))

    @property
    def largest_gap_ms(self) -> float:
        """How much longer than the median the longest repetition took."""
        return float(self._all().max()) / 1e6 - self.median_ms

    @property
    def scatter(self) -> float:
        """Relative standard deviation of the processes' medians."""
        medians = [float(np.median(part.values)) for part in self.processes]
        return float(np.std(medians, ddof=1) / np.mean(medians))

    def detectable(self, processes: int) -> float:
        """Smallest relative difference that so many processes a side could show, were a model to scatter as this work does."""
        return detectable(self.scatter, processes)

    def _all(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        return np.concatenate([part.values for part in self.processes])


def run_trial(seconds: float, progress: Progress, processes: int = PROCESSES) -> WorkloadTrial:
    """Shares `seconds` of work among the processes; starting them takes longer.

    Raises:
        StageError: a process failed.
    """
    found = []
    with progress.step(f"time a fixed piece of work in {processes} processes", processes) as step:
        for _ in range(processes):
            found.append(_run_process(seconds / processes))
            step.advance()
    return WorkloadTrial(processes=tuple(found))


def _run_process(seconds: float) -> Samples:
    command = module_command(trial_worker, seconds)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"The process that times a fixed piece of work ended with code {done.returncode}: {last}")
    try:
        return Samples(json.loads(done.stdout))
    except ValueError as error:
        raise StageError(f"The process that times a fixed piece of work answered {done.stdout[:200]!r}.") from error
