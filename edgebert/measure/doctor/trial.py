"""The trial: a fixed piece of work, timed in several fresh processes as models are; and the smallest difference that shows.

The medians of fresh processes scatter by a relative standard deviation `s`. A two-sided t-test of the means of N of them a
side, at level a, finds a true relative difference with power p when it is at least

    (t(1 - a/2, 2N - 2) + t(p, 2N - 2)) * s * sqrt(2 / N)

the usual formula for the size of two samples (NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.2.2; Cohen, Statistical
Power Analysis, 1988, chapter 2). That processes, not queries, are the unit that repeats is from Kalibera and Jones,
Rigorous Benchmarking in Reasonable Time, ISMM 2013.
"""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import numpy as np

from edgebert.core.progress import Progress
from edgebert.core.strict import Frozen
from edgebert.errors import StageError
from edgebert.measure.doctor import trial_worker
from edgebert.measure.latency.process import run_once
from edgebert.report.samples import Samples

PROCESSES = 10


class WorkloadTrial(Frozen):
    """Nanoseconds of each repetition, in order, of each process."""

    processes: tuple[Samples, ...]

    @property
    def median_ms(self) -> float:
        """Median of all repetitions, in milliseconds."""
        return float(np.median(self._all())) / 1e6

    @property
    def tail(self) -> float:
        """99th percentile over the median, each process by its own median: how uneven one process runs."""
        parts = [part.values / np.median(part.values) for part in self.processes]
        return float(np.percentile(np.concatenate(parts), 99))

    @property
    def largest_gap_ms(self) -> float:
        """Milliseconds by which the longest repetition exceeds the median."""
        return float(self._all().max()) / 1e6 - self.median_ms

    @property
    def scatter(self) -> float:
        """Relative standard deviation of the processes' medians."""
        medians = [float(np.median(part.values)) for part in self.processes]
        return float(np.std(medians, ddof=1) / np.mean(medians))

    def detectable(self, processes: int) -> float:
        """Smallest relative difference that `processes` on each side could show for a model that scatters as this work does."""
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
    output = run_once(trial_worker, "times a fixed piece of work", seconds)
    try:
        return Samples(json.loads(output))
    except ValueError as error:
        raise StageError(f"The process that times a fixed piece of work answered {output[:200]!r}.") from error


LEVEL, POWER = 0.05, 0.8
"""Level of the t-test, and share of the comparisons in which it finds the smallest difference."""


def detectable(scatter: float, processes: int) -> float:
    """Smallest relative difference that the test finds in POWER of all comparisons.

    Args:
        scatter: relative standard deviation of the medians of fresh processes.
        processes: on each side, 2 or more.
    """
    freedom = 2 * processes - 2
    return (student(1 - LEVEL / 2, freedom) + student(POWER, freedom)) * scatter * math.sqrt(2 / processes)


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's distribution, by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5).

    Up to a probability of 0.975 right to 1 % from 3 degrees of freedom on, for which the device install needs no SciPy.
    """
    x: float = NormalDist().inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
