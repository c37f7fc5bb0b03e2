"""The smallest difference between two models that so many processes could show.

The medians of fresh processes scatter by a relative standard deviation `s`. A two-sided t-test of the means of N of them a
side, at level a, finds a true relative difference with power p when it is at least

    (t(1 - a/2, 2N - 2) + t(p, 2N - 2)) * s * sqrt(2 / N)

the usual formula for the size of two samples (NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.2.2; Cohen, Statistical
Power Analysis, 1988, chapter 2). That processes, not queries, are the unit that repeats is from Kalibera and Jones,
Rigorous Benchmarking in Reasonable Time, ISMM 2013.
"""

from __future__ import annotations

import math
from statistics import NormalDist

LEVEL, POWER = 0.05, 0.8


def detectable(scatter: float, processes: int) -> float:
    """Smallest relative difference that is found in POWER of all comparisons.

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
