"""Whether the samples of two entries were taken once: a report compared with itself, or with its samples in another order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgebert.report.compare.pairing import Pair
from edgebert.report.entry import Entry
from edgebert.report.rounds import Round

Values = npt.NDArray[np.int64]
FINE = 0.9
"""Least share of different values of a clock so fine that two processes hardly have a time in common."""
MOST_SHARED = 0.5
"""Share of a side's samples that the other has as well, beyond which they were taken once, if the clock is fine."""
TELLING = 16
"""Fewest different values of a process whose samples are not those of another by chance."""
LARGEST = 1_000_000
"""Most samples of a side whose values are compared one by one; of more, only those of whole processes."""


def shared_samples(pair: Pair) -> str | None:
    """What two entries share that two measurements would not; None where they share nothing.

    The order of samples and of processes does not count, and neither does how samples are divided among processes.
    """
    ref, changed = (_processes(entry) for entry in (pair.ref, pair.changed))
    if not ref or not changed:
        return None
    if pair.ref is pair.changed or _equal(_joined(ref), _joined(changed)):
        return "they have the same samples"
    if common := _common_processes(ref, changed):
        return f"{common} of {len(changed)} processes of CHANGED are processes of REF"
    share = _common_share(_joined(ref), _joined(changed))
    return f"{share:.0%} of the samples are the same" if share > MOST_SHARED else None


def repeated_process(entry: Entry) -> str | None:
    """The numbers of two rounds that hold the samples of one process; None where each has its own."""
    seen: dict[tuple[int, int], list[Round]] = {}
    for item in entry.rounds:
        values = item.latencies_ns.values
        alike = seen.setdefault((len(values), int(values.sum())), [])
        for other in alike if _tells(values) else ():
            if _equal(values, other.latencies_ns.values):
                return f"rounds {other.round} and {item.round}"
        alike.append(item)
    return None


def _processes(entry: Entry) -> list[Values]:
    """The latencies of each process that answered a query."""
    return [item.latencies_ns.values for item in entry.rounds if len(item.latencies_ns)]


def _joined(processes: Sequence[Values]) -> Values:
    return np.concatenate(processes)


def _equal(ref: Values, changed: Values) -> bool:
    """Whether two arrays hold the same values, in any order. Sums decide most cases without sorting."""
    if len(ref) != len(changed) or ref.sum() != changed.sum():
        return False
    return np.array_equal(np.sort(ref), np.sort(changed))


def _common_processes(ref: Sequence[Values], changed: Sequence[Values]) -> int:
    """Number of processes of CHANGED whose samples, in any order, are those of a process of REF."""
    sums: dict[tuple[int, int], list[Values]] = {}
    for values in ref:
        sums.setdefault((len(values), int(values.sum())), []).append(values)
    alike = [(values, sums.get((len(values), int(values.sum())), [])) for values in changed]
    return sum(_tells(values) and any(_equal(values, other) for other in others) for values, others in alike)


def _tells(values: Values) -> bool:
    return len(np.unique(values[: TELLING * 64])) >= TELLING


def _common_share(ref: Values, changed: Values) -> float:
    """Share of the smaller side's samples that the other has too; 0 where the clock is too coarse, or there are too many."""
    if max(len(ref), len(changed)) > LARGEST or min(len(ref), len(changed)) < TELLING:
        return 0.0
    found = [np.unique(side, return_counts=True) for side in (ref, changed)]
    if any(len(values) < FINE * counts.sum() for values, counts in found):
        return 0.0
    _, ours, theirs = np.intersect1d(found[0][0], found[1][0], assume_unique=True, return_indices=True)
    both = np.minimum(found[0][1][ours], found[1][1][theirs]).sum()
    return float(both / min(len(ref), len(changed)))
