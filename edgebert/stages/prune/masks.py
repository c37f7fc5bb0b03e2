"""masks: heads and FFN neurons multiplied by numbers, without surgery; to weigh them, and to compare with surgery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from edgebert.models.surgery import Kept, layers_of, shape_of


@contextmanager
def masked(model: Any, heads: Sequence[torch.Tensor], neurons: Sequence[torch.Tensor]) -> Iterator[None]:
    """Multiplies while the context is open.

    Args:
        heads: for each layer, shape (heads,), or (batch, heads) for one mask for each example.
        neurons: for each layer, shape (intermediate_size,) or (batch, intermediate_size).
    """
    with ExitStack() as stack:
        size = shape_of(model).head_size
        for layer, head_mask, neuron_mask in zip(layers_of(model), heads, neurons, strict=True):
            for module, mask, repeat in ((layer.attention.output.dense, head_mask, size), (layer.output.dense, neuron_mask, 1)):
                handle = module.register_forward_pre_hook(_multiply(mask, repeat))
                stack.callback(handle.remove)
        yield


def _multiply(mask: torch.Tensor, repeat: int) -> Any:
    def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        wide = mask.repeat_interleave(repeat, dim=-1)
        return (inputs[0] * (wide if wide.ndim == 1 else wide.unsqueeze(1)),)  # hidden states: (batch, length, width)

    return hook


def masks_of(model: Any, kept: Kept) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """1 for what is kept, 0 for the rest, as `masked` takes them. Every layer must be kept: no mask removes a layer."""
    shape = shape_of(model)
    heads, neurons = [], []
    for place in range(shape.layers):
        head_mask, neuron_mask = torch.zeros(shape.heads[place]), torch.zeros(shape.intermediate_sizes[place])
        head_mask[list(kept[place].heads)] = 1
        neuron_mask[list(kept[place].neurons)] = 1
        heads.append(head_mask)
        neurons.append(neuron_mask)
    return heads, neurons
