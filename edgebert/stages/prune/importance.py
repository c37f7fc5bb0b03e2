"""importance: the loss that removing a head, an FFN neuron or a layer costs, estimated on task data; and masks of units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgebert.models.parts import parts_of
from edgebert.models.surgery import everything, prune, shape_of

Array = npt.NDArray[np.float64]
Batch = Mapping[str, torch.Tensor]
LossOf = Callable[[Any, Batch], torch.Tensor]
"""(model, batch) -> sum of the losses of the batch's examples."""


@dataclass(frozen=True)
class Importance:
    """Expected increase of the loss when a unit is removed, in the unit of the task's loss, for one example.

    For a set of units of one layer the expectation is `0.5 * m' F m`, with F the layer's Fisher matrix and m 1 for the
    removed units; the diagonal alone is `heads[layer]` and `neurons[layer]`.
    """

    heads: tuple[Array, ...]
    """Importance of the heads of each layer, shape (heads,)."""
    neurons: tuple[Array, ...]
    """Importance of the neurons of each layer, shape (intermediate_size,)."""
    head_fisher: tuple[Array, ...] = ()
    """Fisher matrix of each layer's heads, shape (heads, heads); empty where the method has none."""
    neuron_fisher: tuple[Array, ...] = ()
    """Fisher matrix of each layer's neurons, shape (intermediate_size, intermediate_size); empty where the method has none."""
    layers: tuple[float, ...] = ()
    """Measured increase of the loss when the layer alone is removed; empty where it was not measured."""


def fisher(
    model: Any, batches: Iterable[Batch], loss_of: LossOf, *, tick: Callable[[int], None] = lambda _: None
) -> Importance:
    """Empirical Fisher information of head and neuron masks, per example.

    Every unit gets a mask of ones, with an entry for each example, so that one backward pass gives the gradients of all
    examples; F is the mean of their outer products (Kwon et al. 2022, arXiv 2204.09656, section 4, which takes the gradient
    of a batch instead).

    Args:
        loss_of: summed loss of a batch; dropout is off.
        tick: called with the number of examples done.

    Raises:
        ValueError: there is no batch.
    """
    shape = shape_of(model)
    head_sums = [torch.zeros(size, size, dtype=torch.float64) for size in shape.heads]
    neuron_sums = [torch.zeros(size, size, dtype=torch.float64) for size in shape.intermediate_sizes]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    examples = 0
    try:
        for batch in batches:
            count = len(batch["input_ids"])
            heads = [torch.ones(count, size, requires_grad=True) for size in shape.heads]
            neurons = [torch.ones(count, size, requires_grad=True) for size in shape.intermediate_sizes]
            with masked(model, heads, neurons):
                gradients = torch.autograd.grad(loss_of(model, batch), [*heads, *neurons])
            for total, gradient in zip([*head_sums, *neuron_sums], gradients, strict=True):
                total += (gradient.T @ gradient).double()
            examples += count
            tick(count)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    if not examples:
        raise ValueError("Fisher information needs one batch or more")
    head_fisher = tuple((total / examples).numpy() for total in head_sums)
    neuron_fisher = tuple((total / examples).numpy() for total in neuron_sums)
    return Importance(
        heads=tuple(0.5 * np.diag(matrix) for matrix in head_fisher),
        neurons=tuple(0.5 * np.diag(matrix) for matrix in neuron_fisher),
        head_fisher=head_fisher,
        neuron_fisher=neuron_fisher,
    )


def magnitude(model: Any) -> Importance:
    """Squared L2 norm of a unit's output weights, which bounds what it can add to the residual stream."""
    size = shape_of(model).head_size
    heads, neurons = [], []
    for layer in parts_of(model):
        columns = layer.attention_output.weight.detach().double().square().sum(dim=0)
        heads.append(columns.reshape(-1, size).sum(dim=1).numpy())
        neurons.append(layer.down.weight.detach().double().square().sum(dim=0).numpy())
    return Importance(tuple(heads), tuple(neurons))


def random(model: Any, seed: int) -> Importance:
    """Uniform on (0, 1) for heads and smaller for neurons: the baseline for any method."""
    shape, generator = shape_of(model), np.random.default_rng(seed)
    return Importance(
        heads=tuple(generator.random(size) for size in shape.heads),
        neurons=tuple(generator.random(size) / 64 for size in shape.intermediate_sizes),
    )


def layer_losses(model: Any, batches: Iterable[Batch], loss_of: LossOf) -> tuple[float, ...]:
    """Increase of the mean loss when each layer alone is removed; 0 where it falls. It takes a pass a layer, and one more."""
    batches = list(batches)
    whole = everything(model)
    if len(whole) == 1:
        return (float("inf"),)
    base = mean_loss(model, batches, loss_of)
    increases = []
    for gone in whole:  # one copy of the model at a time
        variant = prune(model, {index: units for index, units in whole.items() if index != gone})
        increases.append(max(0.0, mean_loss(variant, batches, loss_of) - base))
    return tuple(increases)


def mean_loss(model: Any, batches: Iterable[Batch], loss_of: LossOf) -> float:
    """Mean loss of one example."""
    total, examples = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            total += float(loss_of(model, batch))
            examples += len(batch["input_ids"])
    return total / examples


@contextmanager
def masked(model: Any, heads: Sequence[torch.Tensor], neurons: Sequence[torch.Tensor]) -> Iterator[None]:
    """Multiplies units by masks while the context is open.

    Args:
        heads: for each layer a mask of shape (heads,), or (batch, heads) for a mask for each example.
        neurons: for each layer a mask of shape (intermediate_size,) or (batch, intermediate_size).
    """
    with ExitStack() as stack:
        size = shape_of(model).head_size
        for layer, head_mask, neuron_mask in zip(parts_of(model), heads, neurons, strict=True):
            for module, mask, repeat in ((layer.attention_output, head_mask, size), (layer.down, neuron_mask, 1)):
                handle = module.register_forward_pre_hook(_multiply(mask, repeat))
                stack.callback(handle.remove)
        yield


def _multiply(mask: torch.Tensor, repeat: int) -> Any:
    def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        wide = mask.repeat_interleave(repeat, dim=-1)
        return (inputs[0] * (wide if wide.ndim == 1 else wide.unsqueeze(1)),)  # hidden states: (batch, length, width)

    return hook
