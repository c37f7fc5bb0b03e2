"""Records tensors during forward passes: hidden states, queries, keys and values by name, and the inputs of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from edgebert.models.load import run_model
from edgebert.models.parts import EmbeddingParts, family_of, layers_of, parts_of

PROJECTIONS = ("query", "key", "value")


@contextmanager
def captured(model: Any, names: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Name -> tensor of shape (batch, length, width), filled by a forward pass inside the context.

    Args:
        names: `hidden-K` (output of layer K; 0 is what the first layer reads), or `query-K`, `key-K`, `value-K` of layer K,
            counted from 1. The width of these three is the heads' sizes together.

    Raises:
        ValueError: the model has no tensor of a name.
    """
    found: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for name in names:
            handle = _module(model, name).register_forward_hook(_keep(model, found, name))
            stack.callback(handle.remove)
            if _is_called_again(model, name):
                attention = parts_of(model)[int(name.partition("-")[2]) - 1].attention
                stack.callback(attention.register_forward_pre_hook(_forget(found, name)).remove)
        yield found


def _module(model: Any, name: str) -> Any:
    kind, _, number = name.partition("-")
    layers, layer = layers_of(model), int(number) if number.isdecimal() else -1
    if kind == "hidden" and layer == 0:
        embeddings = EmbeddingParts.of(model)
        return embeddings.projection or embeddings.module
    if kind not in ("hidden", *PROJECTIONS) or not 1 <= layer <= len(layers):
        raise ValueError(f"{name!r} names nothing that can be captured in a model of {len(layers)} layers")
    return layers[layer - 1] if kind == "hidden" else parts_of(model)[layer - 1].projections[kind]


def _keep(model: Any, found: dict[str, torch.Tensor], name: str) -> Any:
    block = _block(model, name)

    def hook(module: Any, inputs: Any, output: Any) -> None:
        if name in found and _is_called_again(model, name):
            return
        value = output[0] if isinstance(output, tuple) else output
        found[name] = value if block is None else value.chunk(len(PROJECTIONS), dim=-1)[block]

    return hook


def _is_called_again(model: Any, name: str) -> bool:
    """Whether a projection is applied to relative positions as well, after the hidden states."""
    paths = family_of(model).layer
    return paths is not None and bool(paths.more_projections) and name.partition("-")[0] in PROJECTIONS


def _forget(found: dict[str, torch.Tensor], name: str) -> Any:
    return lambda module, inputs: found.pop(name, None) and None


def _block(model: Any, name: str) -> int | None:
    """Which third of its module's output a projection is, where one matrix makes all three; None where it is the whole."""
    paths, kind = family_of(model).layer, name.partition("-")[0]
    return PROJECTIONS.index(kind) if paths is not None and paths.qkv and kind in PROJECTIONS else None


def width_of(model: Any, name: str) -> int:
    """Width of the tensor that `captured` records under a name."""
    if name.startswith("hidden"):
        return int(model.config.hidden_size)
    width = int(_module(model, name).out_features)
    return width if _block(model, name) is None else width // len(PROJECTIONS)


@torch.no_grad()
def observe(
    model: Any,
    modules: Mapping[str, Any],
    batches: Sequence[Mapping[str, torch.Tensor]],
    see: Callable[[str, torch.Tensor], None],
) -> None:
    """Shows what goes into modules while the batches run in evaluation mode; afterwards the model is as before.

    Args:
        modules: any name -> module of the model.
        batches: task inputs with `attention_mask`, shape (batch, length); labels are left out.
        see: called with a name and the input of its module, shape (rows, width). A row is a token without padding, or a text
            if the module has one vector for each.

    Raises:
        ValueError: there are no batches.
    """
    if not batches:
        raise ValueError("at least one batch is needed")
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.items()}
            tokens = inputs["attention_mask"].bool()
            with ExitStack() as stack:
                for name, module in modules.items():
                    stack.callback(module.register_forward_pre_hook(_show(name, tokens, see)).remove)
                run_model(model, inputs)
    finally:
        model.train(training)


def _show(name: str, tokens: torch.Tensor, see: Callable[[str, torch.Tensor], None]) -> Any:
    def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        rows = inputs[0]
        if rows.ndim == 3 and rows.shape[:2] != tokens.shape:
            return  # relative positions, which some families put through the projections as well
        see(name, rows[tokens] if rows.ndim == 3 else rows)

    return hook
