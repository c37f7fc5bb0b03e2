"""The search finds what trying everything finds, never exceeds its budget, and swaps units only to the good."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebert.models.sizes import Shape, mean_macs
from edgebert.models.surgery import Units
from edgebert.stages.prune.budget import MeanMacs
from edgebert.stages.prune.importance import Importance
from edgebert.stages.prune.size_search import BINS, Costs, cost, rearrange, search, top, widths

HIDDEN, HEAD = 8, 4


@dataclass(frozen=True)
class Bent:
    """Made-up costs: a size is cheap at first, then dear, with a step, as real hardware has it."""

    unit: float = 1.0

    def attention(self, heads: int) -> float:
        return self.unit * (3 + heads**2)

    def ffn(self, neurons: int) -> float:
        return self.unit * (1 + 4 * (neurons // 3) + neurons)


MACS = MeanMacs.of(Shape(HIDDEN, HEAD, (1,), (1,)), [3, 8])


@st.composite
def importances(draw: Any, *, removable: bool | None = None) -> Importance:
    """Importances of one to three layers of any small sizes, with losses of layers where layers may be removed."""
    layers = draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    heads = tuple(generator.random(draw(st.integers(1, 3))) ** 3 for _ in range(layers))
    neurons = tuple(generator.random(draw(st.integers(1, 7))) ** 3 for _ in range(layers))
    whole = draw(st.booleans()) if removable is None else removable
    losses = tuple(float(value) for value in 3 * generator.random(layers)) if whole else ()
    return Importance(heads, neurons, layers=losses)


def shape_of(kept: dict[int, Units]) -> Shape:
    sizes = [kept[layer] for layer in sorted(kept)]
    return Shape(HIDDEN, HEAD, tuple(len(units.heads) for units in sizes), tuple(len(units.neurons) for units in sizes))


def whole_of(importance: Importance) -> Shape:
    return Shape(HIDDEN, HEAD, tuple(map(len, importance.heads)), tuple(map(len, importance.neurons)))


def loss_of(importance: Importance, kept: dict[int, Units]) -> float:
    """Loss of all units that are not kept, added up unit by unit."""
    total = 0.0
    for index, (heads, neurons) in enumerate(zip(importance.heads, importance.neurons, strict=True)):
        if index not in kept:
            total += importance.layers[index]
            continue
        total += sum(value for unit, value in enumerate(heads) if unit not in kept[index].heads)
        total += sum(value for unit, value in enumerate(neurons) if unit not in kept[index].neurons)
    return total


def everything_within(importance: Importance, costs: Costs, block: int, layers: int | None) -> Iterator[tuple[float, float]]:
    """(cost, loss) of every choice of sizes there is, which keeps the largest units."""
    choices: list[list[tuple[int, float, float]]] = []
    for index, (heads, neurons) in enumerate(zip(importance.heads, importance.neurons, strict=True)):
        found = [(0, 0.0, importance.layers[index])] if importance.layers else []
        for many in range(1, len(heads) + 1):
            for wide in range(1, len(neurons) + 1):
                if wide % block == 0 or wide == len(neurons):
                    lost = sum(sorted(heads)[: len(heads) - many]) + sum(sorted(neurons)[: len(neurons) - wide])
                    found.append((1, costs.attention(many) + costs.ffn(wide), lost))
        choices.append(found)
    for choice in itertools.product(*choices):
        kept = sum(option[0] for option in choice)
        if kept and (layers is None or kept == layers):
            yield sum(option[1] for option in choice), sum(option[2] for option in choice)


def least(pairs: Iterator[tuple[float, float]], budget: float) -> float:
    return min((loss for spent, loss in pairs if spent <= budget), default=math.inf)


def found_loss(importance: Importance, costs: Costs, budget: float, block: int, layers: int | None) -> float:
    """Loss of the search's choice, which is checked to be within the budget; infinite where nothing fits."""
    try:
        kept = search(importance, costs, budget=budget, block=block, layers=layers)
    except ValueError as error:
        assert "costs more than the budget" in str(error)
        return math.inf
    assert list(kept) == sorted(kept)
    assert cost(shape_of(kept), costs) <= budget * (1 + 1e-9)
    assert layers is None or len(kept) == layers
    assert importance.layers or len(kept) == len(importance.heads)
    for layer, units in kept.items():
        there = len(importance.neurons[layer])
        assert len(units.neurons) % block == 0 or len(units.neurons) == there
        assert list(units.heads) == sorted(set(units.heads)) and list(units.neurons) == sorted(set(units.neurons))
        assert set(units.heads) <= set(range(len(importance.heads[layer]))) and set(units.neurons) <= set(range(there))
    return loss_of(importance, kept)


DEPTHS = st.sampled_from([None, None, 1, 2, 3])


def depth_of(importance: Importance, depth: int | None) -> int | None:
    return None if depth is None else min(depth, len(importance.heads))


@settings(max_examples=120)
@given(
    importance=importances(),
    budget=st.sampled_from([value for value in range(5, 90) if BINS % value == 0]),
    block=st.integers(1, 4),
    depth=DEPTHS,
)
def test_search_finds_what_trying_everything_finds(importance: Importance, budget: int, block: int, depth: int | None) -> None:
    """The costs are whole numbers of the budget's parts, so nothing is rounded."""
    layers = depth_of(importance, depth)
    wanted = least(everything_within(importance, Bent(), block, layers), budget)
    assert found_loss(importance, Bent(), budget, block, layers) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@settings(max_examples=120)
@given(
    importance=importances(),
    costs=st.sampled_from([MACS, Bent(0.0137)]),
    share=st.floats(0.02, 1.1),
    block=st.integers(1, 4),
    depth=DEPTHS,
)
def test_rounding_costs_one_part_of_the_budget_for_each_layer_at_most(
    importance: Importance, costs: Costs, share: float, block: int, depth: int | None
) -> None:
    layers, budget = depth_of(importance, depth), share * cost(whole_of(importance), costs)
    found = found_loss(importance, costs, budget, block, layers)
    tight = budget * (1 - len(importance.heads) / BINS)
    best = least(everything_within(importance, costs, block, layers), budget * (1 + 1e-9))
    assert best - 1e-9 <= found <= least(everything_within(importance, costs, block, layers), tight) + 1e-9


@settings(max_examples=60)
@given(
    importance=importances(),
    costs=st.sampled_from([MACS, Bent(0.0137)]),
    shares=st.tuples(st.floats(0.02, 1.2), st.floats(0.02, 1.2)).map(sorted),
    block=st.integers(1, 4),
    depth=DEPTHS,
)
def test_a_larger_budget_never_costs_more_loss(
    importance: Importance, costs: Costs, shares: list[float], block: int, depth: int | None
) -> None:
    layers, full = depth_of(importance, depth), cost(whole_of(importance), costs)
    small, large = (found_loss(importance, costs, share * full, block, layers) for share in shares)
    assert large <= small + 1e-9


def equal_layers(count: int, *, heads: int = 4, neurons: int = 8, removable: bool = True, scale: float = 1.0) -> Importance:
    generator = np.random.default_rng(count)
    return Importance(
        heads=tuple(scale * (1 + generator.random(heads)) for _ in range(count)),
        neurons=tuple(scale * (1 + generator.random(neurons)) for _ in range(count)),
        layers=tuple(float(value) for value in scale * generator.random(count)) if removable else (),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 24])
@pytest.mark.parametrize("removable", [True, False])
def test_a_budget_of_all_keeps_all(count: int, removable: bool) -> None:
    importance = equal_layers(count, removable=removable)
    kept = search(importance, MACS, budget=cost(whole_of(importance), MACS), block=8, layers=count)
    assert kept == {index: Units((0, 1, 2, 3), tuple(range(8))) for index in range(count)}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_a_budget_of_some_layers_keeps_the_dearest_to_lose_whole(count: int) -> None:
    importance = equal_layers(6)
    budget = cost(whole_of(importance), MACS) * count / 6
    kept = search(importance, MACS, budget=budget, block=8, layers=count)
    assert tuple(kept) == top(np.array(importance.layers), count)
    assert all(units == Units((0, 1, 2, 3), tuple(range(8))) for units in kept.values())


def test_layers_stay_whose_loss_is_not_known() -> None:
    importance = equal_layers(3, removable=False)
    kept = search(importance, MACS, budget=0.5 * cost(whole_of(importance), MACS), block=1)
    assert list(kept) == [0, 1, 2]
    with pytest.raises(ValueError, match="costs more than the budget"):
        search(importance, MACS, budget=cost(whole_of(importance), MACS), block=1, layers=2)


def test_a_layer_that_may_not_be_removed_stays_though_another_may() -> None:
    importance = replace(equal_layers(2), layers=(math.inf, 0.0))
    assert list(search(importance, MACS, budget=0.4 * cost(whole_of(importance), MACS), block=1)) == [0]


def test_the_units_that_stay_are_the_most_important() -> None:
    heads = (np.array([0.2, 0.9, 0.1, 0.5]), np.array([5.0, 6.0, 7.0, 8.0]))
    neurons = (np.array([9.0, 8.0, 0.1, 0.2, 7.0]), np.array([0.3, 0.1, 0.4, 0.2, 0.5]))
    costs = Bent()
    budget = costs.attention(2) + costs.ffn(3) + costs.attention(4) + costs.ffn(2)
    kept = search(Importance(heads, neurons), costs, budget=budget + 0.1, block=1)
    assert kept == {0: Units((1, 3), (0, 1, 4)), 1: Units((0, 1, 2, 3), (2, 4))}


@pytest.mark.parametrize("budget", [0.0, -1.0, 4.99, math.nan])
def test_a_budget_that_nothing_fits_is_refused(budget: float) -> None:
    importance = equal_layers(2)  # one layer of one head and one neuron costs 6
    with pytest.raises(ValueError, match="budget"):
        search(importance, Bent(), budget=budget, block=1)
    assert list(search(importance, Bent(), budget=6.0, block=1, layers=1))


def test_a_number_of_layers_that_fits_no_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="costs more than the budget"):
        search(equal_layers(2), Bent(), budget=11.9, block=1, layers=2)
    assert len(search(equal_layers(2), Bent(), budget=12.0, block=1, layers=2)) == 2


@pytest.mark.parametrize("layers", [-1, 0, 3])
@pytest.mark.parametrize("removable", [True, False])
def test_a_number_of_layers_without_sense_is_refused(layers: int, removable: bool) -> None:
    with pytest.raises(ValueError, match=f"{layers} layers cannot be kept; the model has 2"):
        search(equal_layers(2, removable=removable), MACS, budget=1e9, block=1, layers=layers)


@pytest.mark.parametrize(
    ("neurons", "block", "wanted"),
    [(8, 4, [4, 8]), (9, 4, [4, 8, 9]), (3, 4, [3]), (4, 4, [4]), (3, 1, [1, 2, 3])],
)
def test_widths_are_multiples_of_the_block_and_what_there_is(neurons: int, block: int, wanted: list[int]) -> None:
    assert widths(neurons, block) == wanted


def test_top_takes_the_largest_and_of_equal_ones_the_first() -> None:
    assert top(np.array([1.0, 3.0, 3.0, 2.0, 3.0]), 2) == (1, 2)
    assert top(np.array([0.0, 0.0]), 2) == (0, 1)
    assert top(np.array([5.0, 1.0, 4.0]), 2) == (0, 2)


def test_macs_of_a_shape_are_the_sum_of_its_parts() -> None:
    shape = Shape(HIDDEN, HEAD, (3, 1), (7, 2))
    assert cost(shape, MeanMacs.of(shape, [3, 8])) == pytest.approx(mean_macs(shape, [3, 8]), rel=1e-12)


# Rearranging.


def quadratic(matrix: Any, kept: tuple[int, ...]) -> float:
    removed = np.array([unit not in kept for unit in range(len(matrix))], dtype=float)
    return float(0.5 * removed @ matrix @ removed)


def fisher_like(generator: np.random.Generator, size: int, scale: float) -> Any:
    gradients = generator.normal(size=(int(generator.integers(1, 6)), size)) * generator.random(size)
    return scale * gradients.T @ gradients / len(gradients)


def with_matrices(heads: list[Any], neurons: list[Any]) -> Importance:
    return Importance(
        heads=tuple(np.diag(matrix) / 2 for matrix in heads),
        neurons=tuple(np.diag(matrix) / 2 for matrix in neurons),
        head_fisher=tuple(heads),
        neuron_fisher=tuple(neurons),
    )


@settings(max_examples=80)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-14, 1e-6, 1.0, 1e6]))
def test_rearranging_never_raises_the_loss_and_keeps_the_numbers(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    sizes = [(int(generator.integers(1, 6)), int(generator.integers(1, 12))) for _ in range(3)]
    importance = with_matrices(*([fisher_like(generator, pair[side], scale) for pair in sizes] for side in (0, 1)))
    kept = {
        layer: Units(*(tuple(sorted(generator.permutation(size)[: generator.integers(1, size + 1)].tolist())) for size in pair))
        for layer, pair in enumerate(sizes)
        if layer != 1  # a layer that was removed
    }
    found = rearrange(kept, importance)
    assert list(found) == list(kept)
    for layer, units in found.items():
        for ours, theirs, matrix in (
            (units.heads, kept[layer].heads, importance.head_fisher[layer]),
            (units.neurons, kept[layer].neurons, importance.neuron_fisher[layer]),
        ):
            assert len(ours) == len(theirs) and list(ours) == sorted(set(ours))
            assert set(ours) <= set(range(len(matrix)))
            before, after = quadratic(matrix, theirs), quadratic(matrix, ours)
            assert after <= before + 1e-9 * np.trace(matrix)
            assert ours == theirs or after < before


@pytest.mark.parametrize("seed", range(8))
def test_after_rearranging_no_swap_is_better(seed: int) -> None:
    generator = np.random.default_rng(seed)
    matrix = fisher_like(generator, 9, 1.0)
    kept = tuple(sorted(generator.permutation(9)[:4].tolist()))
    found = rearrange({0: Units((0,), kept)}, with_matrices([np.eye(1)], [matrix]))[0].neurons
    loss = quadratic(matrix, found)
    swaps = [{*found, entering} - {leaving} for entering in set(range(9)) - set(found) for leaving in found]
    assert min(quadratic(matrix, tuple(swap)) for swap in swaps) >= loss - 1e-9


@pytest.mark.parametrize("scale", [1e-14, 1.0, 1e8])
def test_units_that_cancel_go_together_and_units_that_carry_the_same_do_not(scale: float) -> None:
    """By the diagonal 0 and 1 stay. But without both hardly anything changes, and without 2 and 3 much does."""
    gradient = np.array([2.0, -1.9, 1.5, 1.5])
    matrix = scale * np.outer(gradient, gradient)
    importance = with_matrices([matrix], [matrix])
    start = top(importance.heads[0], 2)
    assert start == (0, 1)
    assert rearrange({0: Units(start, start)}, importance) == {0: Units((2, 3), (2, 3))}


def test_without_a_matrix_nothing_is_rearranged() -> None:
    kept = {0: Units((0,), (1,))}
    assert rearrange(kept, equal_layers(1)) == kept


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), np.eye(3)])
def test_units_that_are_all_alike_stay(matrix: Any) -> None:
    kept = {0: Units((1,), (0, 1, 2))}
    assert rearrange(kept, with_matrices([matrix], [matrix])) == kept
