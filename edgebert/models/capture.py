"""capture: hidden states, queries, keys and values of a forward pass, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from edgebert.models.surgery import encoder_of, layers_of

PROJECTIONS = ("query", "key", "value")


@contextmanager
def captured(model: Any, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """What a forward pass inside the context computes, name -> tensor of shape (batch, length, width).

    Args:
        names: `hidden-K` (what comes out of K layers; 0 is the embeddings), or `query-K`, `key-K`, `value-K` of layer K,
            counted from 1. A width is all heads' in a row.

    Raises:
        ValueError: a name stands for nothing.
    """
    found: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for name in names:
            handle = _module(model, name).register_forward_hook(_keep(found, name))
            stack.callback(handle.remove)
        yield found


def _module(model: Any, name: str) -> Any:
    kind, _, number = name.partition("-")
    layers, place = layers_of(model), int(number) if number.isdecimal() else -1
    if kind == "hidden" and place == 0:
        return encoder_of(model).embeddings
    if kind not in ("hidden", *PROJECTIONS) or not 1 <= place <= len(layers):
        raise ValueError(f"{name!r} names nothing that can be captured in a model of {len(layers)} layers")
    return layers[place - 1] if kind == "hidden" else getattr(layers[place - 1].attention.self, kind)


def _keep(found: dict[str, torch.Tensor], name: str) -> Any:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        found[name] = output[0] if isinstance(output, tuple) else output

    return hook


def width_of(model: Any, name: str) -> int:
    """Width of what `captured` finds under a name."""
    if name.startswith("hidden"):
        return int(model.config.hidden_size)
    return int(_module(model, name).out_features)
