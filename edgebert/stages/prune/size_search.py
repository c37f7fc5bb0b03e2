"""size_search: which units to keep under a budget. Dynamic programming chooses the sizes of all layers together, exactly.

The loss of removing units is the sum of their importances, and the cost of a model is a sum over its layers (of MACs or
measured milliseconds), so the choice is a multiple-choice knapsack over the layers. It is exact up to rounding costs to
parts of the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgebert.models.sizes import Shape
from edgebert.models.surgery import Units
from edgebert.stages.prune.importance import Importance

BINS = 5040
"""Number of parts that the budget is divided into; an option's cost is rounded up to whole parts, so that the budget holds.

Divisible by 1 to 10, 12 and 24, so that this many equal layers fill their budget without a remainder.
"""


class Costs(Protocol):
    """Cost of a layer by its sizes, in any unit. A removed layer costs nothing."""

    def attention(self, heads: int) -> float:
        """Cost of the attention half of a layer with this many heads."""
        ...

    def ffn(self, neurons: int) -> float:
        """Cost of the FFN half of a layer with this many neurons."""
        ...


def cost(shape: Shape, costs: Costs) -> float:
    """Cost of all layers of a shape."""
    return sum(map(costs.attention, shape.heads)) + sum(map(costs.ffn, shape.intermediate_sizes))


def search(importance: Importance, costs: Costs, *, budget: float, block: int, layers: int | None = None) -> dict[int, Units]:
    """The units to keep: least expected loss among all choices that cost `budget` at most.

    Args:
        importance: importance of every unit. Where it holds `layers`, whole layers may be removed.
        budget: largest cost, in the unit of `costs`.
        block: FFN neurons are kept in multiples of this (all of them where a layer has fewer).
        layers: keep exactly this many layers.

    Raises:
        ValueError: nothing fits the budget.
    """
    if not budget > 0:
        raise ValueError(f"the budget is {budget:g}; no model costs as little")
    if layers is not None and not 1 <= layers <= len(importance.heads):
        raise ValueError(f"{layers} layers cannot be kept; the model has {len(importance.heads)}")
    options = [_options(importance, costs, index, block) for index in range(len(importance.heads))]
    removable = bool(importance.layers)
    step = budget / BINS
    count = len(options)
    # best[k, b]: least loss with k layers kept so far, at a cost of at most b bins
    best = np.full((count + 1, BINS + 1), np.inf)
    best[0] = 0.0
    choices: list[npt.NDArray[np.int64]] = []
    for index, layer in enumerate(options):
        bins = np.ceil(layer.costs / step - 1e-9).astype(int)
        after = np.full_like(best, np.inf)
        chosen = np.full(best.shape, -1, dtype=np.int64)
        if removable:
            after = best + importance.layers[index]
        for option, (used, loss) in enumerate(zip(bins, layer.losses, strict=True)):
            if used > BINS:
                continue
            candidate = np.full_like(best, np.inf)
            candidate[1:, used:] = best[:-1, : BINS + 1 - used] + loss
            better = candidate < after
            after[better], chosen[better] = candidate[better], option
        best = after
        choices.append(chosen)
    kept = layers if layers is not None else int(np.argmin(best[1:, BINS])) + 1
    if not np.isfinite(best[kept, BINS]):
        raise ValueError(
            "the smallest model that keeps a head and a block of neurons in every layer costs more than the budget"
        )
    return _chosen_units(importance, options, choices, kept, step)


@dataclass(frozen=True)
class _Options:
    """Sizes that a layer may take as (heads, neurons), with the cost and the loss of each."""

    sizes: list[tuple[int, int]]
    costs: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]


def _options(importance: Importance, costs: Costs, index: int, block: int) -> _Options:
    heads, neurons = np.sort(importance.heads[index]), np.sort(importance.neurons[index])
    lost_heads, lost_neurons = np.r_[0, np.cumsum(heads)], np.r_[0, np.cumsum(neurons)]
    sizes = [(kept, wide) for kept in range(1, len(heads) + 1) for wide in widths(len(neurons), block)]
    return _Options(
        sizes=sizes,
        costs=np.array([costs.attention(kept) + costs.ffn(wide) for kept, wide in sizes]),
        losses=np.array([lost_heads[len(heads) - kept] + lost_neurons[len(neurons) - wide] for kept, wide in sizes]),
    )


def widths(neurons: int, block: int) -> list[int]:
    """Numbers of neurons that a layer may keep: multiples of `block`, and all of them."""
    return sorted({*range(block, neurons + 1, block), neurons})


def _chosen_units(
    importance: Importance, options: list[_Options], choices: list[npt.NDArray[np.int64]], kept: int, step: float
) -> dict[int, Units]:
    """Follows the choices from the last layer back to the first."""
    units: dict[int, Units] = {}
    bins = BINS
    for index in reversed(range(len(options))):
        option = int(choices[index][kept, bins])
        if option < 0:
            continue
        heads, neurons = options[index].sizes[option]
        units[index] = Units(top(importance.heads[index], heads), top(importance.neurons[index], neurons))
        bins -= int(np.ceil(options[index].costs[option] / step - 1e-9))
        kept -= 1
    return dict(sorted(units.items()))


def top(values: npt.NDArray[np.float64], count: int) -> tuple[int, ...]:
    """Indices of the `count` largest values, ascending."""
    return tuple(sorted(int(index) for index in np.argsort(-values, kind="stable")[:count]))


def rearrange(kept: dict[int, Units], importance: Importance) -> dict[int, Units]:
    """Swaps units within each layer while the expected loss with the full Fisher matrix of the layer falls.

    One of several redundant units has to stay, and units that cancel each other may both go; the diagonal of the matrix does
    not show either (mask rearrangement, Kwon et al. 2022, arXiv 2204.09656, section 4.2).
    """
    if not importance.head_fisher:
        return kept
    return {
        index: Units(
            _rearranged(units.heads, importance.head_fisher[index]),
            _rearranged(units.neurons, importance.neuron_fisher[index]),
        )
        for index, units in kept.items()
    }


def _rearranged(kept: tuple[int, ...], matrix: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Kept units after greedy swaps with removed ones, the best swap first."""
    inside = np.zeros(len(matrix), dtype=bool)
    inside[list(kept)] = True
    diagonal = np.diag(matrix)
    for _ in range(len(matrix)):
        removed = (~inside).astype(float)
        pull = matrix @ removed  # loss is 0.5 r'Fr; swapping a in, b out changes it by the terms below
        entering, leaving = np.flatnonzero(inside), np.flatnonzero(~inside)
        if not len(leaving):
            break
        change = (
            (pull[entering] + 0.5 * diagonal[entering])[:, None]
            + (-pull[leaving] + 0.5 * diagonal[leaving])[None, :]
            - matrix[np.ix_(entering, leaving)]
        )
        a, b = np.unravel_index(int(change.argmin()), change.shape)
        if change[a, b] >= -1e-12 * diagonal.sum():  # relative, because the gradients of a good model are tiny
            break
        inside[entering[a]], inside[leaving[b]] = False, True
    return tuple(int(index) for index in np.flatnonzero(inside))
