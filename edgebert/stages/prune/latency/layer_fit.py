"""The arithmetic of a latency table: which stacks of equal layers to time, and the costs of layers that follow from them.

One least-squares fit over stacks of different sizes separates the parts, which are never timed apart:

    latency(stack) = rest + layers * (attention(heads) + ffn(neurons))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebert.stages.prune.latency.latency_table import Array
from edgebert.stages.prune.latency.layer_graphs import StackSizes

LAYERS = 4
"""Layers of a stack: enough to outweigh the rest, few enough to measure BERT-base in minutes."""
QUANTILES = (0.05, 0.5, 0.95)
"""Quantiles of the lengths that are measured."""
NARROWEST = 16
"""FFN neurons of the smallest layer that is measured; fewer neurons cost the same."""


def length_grid(lengths: Sequence[int]) -> tuple[int, ...]:
    """Lengths to measure: quantiles of the lengths of the data."""
    return tuple(sorted({int(length) for length in np.quantile(lengths, QUANTILES, method="nearest")}))


def heads_grid(most: int, count: int | None) -> tuple[int, ...]:
    """Numbers of heads to measure, from 1 to `most`: all, or `count` of them, denser among the small."""
    if count is None:
        return tuple(range(1, most + 1))
    return tuple(sorted({round(size) for size in np.geomspace(1, most, count)}))


def neurons_grid(most: int, count: int) -> tuple[int, ...]:
    """Numbers of neurons to measure: `count` up to `most`, in nearly equal ratios, multiples of NARROWEST but for `most`."""
    if most <= NARROWEST:
        return (most,)
    inner = {round(size / NARROWEST) * NARROWEST for size in np.geomspace(NARROWEST, most, count)[:-1]}
    return (*sorted(size for size in inner if size < most), most)


@dataclass(frozen=True)
class Stack:
    """A model to time, of `count` equal layers."""

    layer: StackSizes
    count: int


def plan_stacks(heads: Sequence[int], neurons: Sequence[int]) -> list[Stack]:
    """The stacks that separate the costs of all sizes. A size is paired with one that is typical of pruned layers."""
    head, wide = _nearest(heads, heads[-1] / 3), _nearest(neurons, neurons[-1] / 4)
    return [
        *(Stack(StackSizes(count, wide), LAYERS) for count in heads),
        *(Stack(StackSizes(head, width), LAYERS) for width in neurons if width != wide),
        # One layer against four separates the rest from the layers,
        Stack(StackSizes(head, wide), 1),
        Stack(StackSizes(heads[0], neurons[0]), 1),
        # and a stack without FFNs separates the halves, which come together in all other stacks.
        Stack(StackSizes(head, None), LAYERS),
        *([] if (heads[0], neurons[0]) == (head, wide) else [Stack(StackSizes(heads[0], neurons[0]), LAYERS)]),
    ]


def _nearest(grid: Sequence[int], value: float) -> int:
    return min(grid, key=lambda size: abs(size - value))


@dataclass(frozen=True)
class Fit:
    """Costs at one length, in milliseconds."""

    rest: float
    attention: tuple[float, ...]
    ffn: tuple[float, ...]


def fit(stacks: Sequence[Stack], latencies: Sequence[float] | Array, heads: Sequence[int], neurons: Sequence[int]) -> Fit:
    """Computes the costs of layers from the latencies of stacks, by least squares of the relative errors.

    A larger half never comes out cheaper than a smaller one: a search would pick every dip, and most dips are noise.

    Args:
        latencies: milliseconds of each stack.
    """
    design = np.zeros((len(stacks), 1 + len(heads) + len(neurons)))
    design[:, 0] = 1
    for row, item in zip(design, stacks, strict=True):
        if item.layer.heads is not None:
            row[1 + heads.index(item.layer.heads)] = item.count
        if item.layer.neurons is not None:
            row[1 + len(heads) + neurons.index(item.layer.neurons)] = item.count
    scale = 1 / np.asarray(latencies)
    costs: Array = np.linalg.lstsq(design * scale[:, None], np.ones(len(stacks)), rcond=None)[0].astype(np.float64)
    attention, ffn = costs[1 : 1 + len(heads)], costs[1 + len(heads) :]
    return Fit(max(0.0, float(costs[0])), rising(attention), rising(ffn))


def rising(values: Sequence[float] | Array) -> tuple[float, ...]:
    """The nearest sequence by squares that neither falls nor is negative: neighbours out of order get their mean."""
    groups: list[tuple[float, int]] = []
    for value in values:
        mean, count = float(value), 1
        while groups and groups[-1][0] > mean:
            before, members = groups.pop()
            mean, count = (before * members + mean * count) / (members + count), members + count
        groups.append((mean, count))
    return tuple(max(0.0, mean) for mean, count in groups for _ in range(count))
