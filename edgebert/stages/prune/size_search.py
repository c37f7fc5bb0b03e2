"""search: which units to keep under a budget. The sizes of all layers are chosen together, exactly, by dynamic programming.

Removing a set of units costs the sum of their importances, what is left costs the sum over layers of a table's entries
(MACs, or milliseconds that were measured), so the choice is a multiple-choice knapsack over the layers. Exact means: up to
the rounding of costs to parts of the budget.
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
"""The budget is divided into this many parts; each option's cost is rounded up, so that the budget holds.

Divisible by 1 to 10, 12, 24: that many equal layers fill their budget without a rest.
"""


class Costs(Protocol):
    """What a layer of some size costs, in any unit. A removed layer costs nothing."""

    def attention(self, heads: int) -> float:
        """Of the attention half of a layer with this many heads."""
        ...

    def ffn(self, neurons: int) -> float:
        """Of the FFN half of a layer with this many neurons."""
        ...


def cost(shape: Shape, costs: Costs) -> float:
    """Of all layers of a shape."""
    return sum(map(costs.attention, shape.heads)) + sum(map(costs.ffn, shape.intermediate_sizes))


def search(importance: Importance, costs: Costs, *, budget: float, block: int, layers: int | None = None) -> dict[int, Units]:
    """The units to keep: least expected loss among all choices that cost `budget` at most.

    Args:
        importance: of every unit. Where it holds `layers`, layers may be removed whole.
        budget: in the unit of `costs`.
        block: FFN neurons are kept in multiples of this (all of them where a layer has fewer).
        layers: keep exactly this many.

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
    # best[k, b]: least loss with k layers kept so far at a cost of b bins at most
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
    return _walk_back(importance, options, choices, kept, step)


@dataclass(frozen=True)
class _Options:
    """Sizes that a layer may take: (heads, neurons), with what each costs and loses."""

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
    """Multiples of `block` up to what there is; what there is, too."""
    return sorted({*range(block, neurons + 1, block), neurons})


def _walk_back(
    importance: Importance, options: list[_Options], choices: list[npt.NDArray[np.int64]], kept: int, step: float
) -> dict[int, Units]:
    found: dict[int, Units] = {}
    bins = BINS
    for place in reversed(range(len(options))):
        option = int(choices[place][kept, bins])
        if option < 0:
            continue
        heads, neurons = options[place].sizes[option]
        found[place] = Units(top(importance.heads[place], heads), top(importance.neurons[place], neurons))
        bins -= int(np.ceil(options[place].costs[option] / step - 1e-9))
        kept -= 1
    return dict(sorted(found.items()))


def top(values: npt.NDArray[np.float64], count: int) -> tuple[int, ...]:
    """Places of the `count` largest, ascending."""
    return tuple(sorted(int(index) for index in np.argsort(-values, kind="stable")[:count]))


def rearrange(kept: dict[int, Units], importance: Importance) -> dict[int, Units]:
    """Swaps units within each layer while the expected loss with the full Fisher matrix of the layer falls.

    Of units that carry the same one has to stay, and units that cancel each other may both go, which the diagonal does not
    see (mask rearrangement, Kwon et al. 2022, arXiv 2204.09656, section 4.2).
    """
    if not importance.head_fisher:
        return kept
    return {
        place: Units(
            _rearranged(units.heads, importance.head_fisher[place]),
            _rearranged(units.neurons, importance.neuron_fisher[place]),
        )
        for place, units in kept.items()
    }


def _rearranged(kept: tuple[int, ...], matrix: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Greedy swaps, the best one each time, of a kept unit with a removed one."""
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
        if change[a, b] >= -1e-12 * diagonal.sum():  # a share, for gradients of a good model are tiny
            break
        inside[entering[a]], inside[leaving[b]] = False, True
    return tuple(int(place) for place in np.flatnonzero(inside))
