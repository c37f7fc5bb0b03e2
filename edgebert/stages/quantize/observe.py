"""observe: shows what goes into modules while batches run through a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch


@torch.no_grad()
def observe(
    model: Any,
    modules: Mapping[str, Any],
    batches: Sequence[Mapping[str, torch.Tensor]],
    see: Callable[[str, torch.Tensor], None],
) -> None:
    """Runs the batches in evaluation mode; afterwards the model is as it was.

    Args:
        modules: those of the model to look at, by any names.
        batches: task inputs with `attention_mask`, shape (batch, length); labels are left out.
        see: called with a name and what goes in, shape (rows, width). A row is a token, padding left out, or a text, where
            the module sees one vector for each.

    Raises:
        ValueError: there are no batches.
    """
    if not batches:
        raise ValueError("at least one batch is needed")
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        for batch in batches:
            inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
            tokens = inputs["attention_mask"].bool()
            with ExitStack() as stack:
                for name, module in modules.items():
                    stack.callback(module.register_forward_pre_hook(_show(name, tokens, see)).remove)
                model(**inputs)
    finally:
        model.train(training)


def _show(name: str, tokens: torch.Tensor, see: Callable[[str, torch.Tensor], None]) -> Any:
    def hook(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        see(name, inputs[0][tokens] if inputs[0].ndim == 3 else inputs[0])

    return hook
