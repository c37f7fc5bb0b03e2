"""The uncertainty of a mean over processes whose machine drifts while they run.

Processes that run one after another are no independent draws where the machine's speed wanders: neighbours resemble each other,
the spread among them is small, and their mean may lie far from the speed at the start. Two reports measured apart would then
differ, with narrow intervals, although the model is the same.

The model is the local level of Harvey (1989), Forecasting, Structural Time Series Models and the Kalman Filter, sec. 4.2: the
log percentile of process i is a constant, plus a random walk of i steps of variance q s^2, plus independent noise of variance
s^2. The share q is estimated from both sides by maximum likelihood of the differences between neighbours, whose covariance is
a tridiagonal matrix with known eigenvectors (sines). The largest q whose likelihood is hardly lower is taken: few processes
cannot exclude a drift. The noise is at least what the queries of a process alone explain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SHARES = np.concatenate([[0.0], np.geomspace(0.01, 1000, 61)])
"""Values of q that are tried: variance of a step of the walk over the variance of the noise."""
HARDLY_LOWER = 0.05
"""A share is taken where its log likelihood is at most this much below the highest."""


def drift_variance(sides: Sequence[Floats], sampling: float = 0.0) -> float:
    """Variance of the difference of two means, each of one side's values, the drift since each side's start included.

    Args:
        sides: log values of each side's processes, in the order in which they ran, each of shape (processes,), two or more.
        sampling: variance of such a value from the finite number of its queries.
    """
    parts = [_independent(side) for side in sides]
    squares = np.concatenate([part[0] for part in parts])
    if not squares.any():
        return 0.0
    spreads = np.concatenate([part[1] for part in parts])
    scaled = spreads[None, :] + SHARES[:, None]
    free = (squares / scaled).mean(axis=1)
    noise = np.maximum(free, sampling)
    likelihood = -0.5 * (len(squares) * (np.log(noise) + free / noise) + np.log(scaled).sum(axis=1))
    taken = likelihood >= likelihood.max() - HARDLY_LOWER
    counts = np.array([len(side) for side in sides], dtype=np.float64)
    walked = ((counts + 1) * (2 * counts + 1) / (6 * counts)).sum()
    return float((noise * ((1 / counts).sum() + SHARES * walked))[taken].max())


def sampling_variance(halves: Sequence[tuple[Floats, Floats]]) -> float:
    """Variance of a process's log value from the finite number of its queries: half of them against the other half.

    Args:
        halves: for each side, log values of every other query of its processes and of the rest, both of shape (processes,).
            What differs between the halves in every process alike, such as their texts, does not count.
    """
    freedom = sum(len(ours) - 1 for ours, _ in halves)
    return float(sum(np.var(ours - theirs) * len(ours) for ours, theirs in halves) / freedom / 4)


def _independent(side: Floats) -> tuple[Floats, Floats]:
    """Squares of the sine transform of a side's differences, and their variance from noise of variance 1."""
    count = len(side)
    angles = np.arange(1, count) * np.pi / count
    basis = np.sqrt(2 / count) * np.sin(np.outer(np.arange(1, count), angles))
    return (basis.T @ np.diff(side)) ** 2, 2 - 2 * np.cos(angles)
