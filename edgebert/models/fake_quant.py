"""Simulates INT8 in FP32, so that a model can be trained to be accurate after quantisation.

Every Linear rounds its weights to INT8, symmetric, one scale for each output channel, and its inputs to UINT8, asymmetric, by
their range at run time: ONNX Runtime's dynamic quantisation (DynamicQuantizeLinear, then MatMulInteger). Rounding has no
useful gradient; the straight-through estimator (Bengio et al. 2013, arXiv 1308.3432) treats it as the identity, and the
weights adapt to it (Jacob et al. 2018, arXiv 1712.05877).

Each example has a range of its own, over its own tokens: the model is served one text at a time, where neither other texts of
a batch nor padding widen the range.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

LIMITS = {8: 127, 7: 64}
"""Bits of a weight -> its largest integer in ONNX Runtime, which calls 7 bits a reduced range."""
INPUT_LIMIT = 255


@contextmanager
def fake_quantized(model: Any, *, bits: int = 8) -> Iterator[None]:
    """Within the context every Linear of the model rounds its weights and inputs. Parameters and their names stay.

    Args:
        model: any module of Linears that takes `attention_mask`, shape (batch, length), as a keyword; without a mask every
            token counts.
        bits: bits of a weight, 8 or 7.
    """
    tokens = _Tokens()
    linears: list[Any] = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    handle = model.register_forward_pre_hook(tokens.note, with_kwargs=True)
    for linear in linears:
        # Hides the method of the class. Weights keep their names, unlike with parametrisation.
        linear.forward = _forward(linear, tokens, bits)
    try:
        yield
    finally:
        handle.remove()
        for linear in linears:
            del linear.forward


@dataclass
class _Tokens:
    """Which tokens of the current batch are not padding."""

    mask: torch.Tensor | None = None

    def note(self, module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """A forward pre-hook: remembers the attention mask."""
        mask = options.get("attention_mask")
        self.mask = None if mask is None else mask.bool()


class _StraightThrough(torch.autograd.Function):
    """Returns the rounded values; passes the gradient on unchanged."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


_straight_through: Any = _StraightThrough.apply


def _forward(linear: Any, tokens: _Tokens, bits: int) -> Any:
    def forward(inputs: torch.Tensor) -> torch.Tensor:
        mask = tokens.mask if inputs.ndim == 3 else None
        rounded_inputs = _straight_through(inputs, rounded_inputs_of(inputs, mask))
        rounded_weight = _straight_through(linear.weight, rounded_weight_of(linear.weight, bits=bits))
        return functional.linear(rounded_inputs, rounded_weight, linear.bias)

    return forward


@torch.no_grad()
def rounded_weight_of(weight: torch.Tensor, *, bits: int = 8) -> torch.Tensor:
    """A Linear's weight, shape (out, in), rounded as INT8 does: to multiples of each row's largest absolute value / limit."""
    values = weight.float()
    scales = _usable(values.abs().amax(dim=1, keepdim=True) / LIMITS[bits])
    return (values / scales).round_().mul_(scales).to(weight.dtype)


@torch.no_grad()
def rounded_inputs_of(inputs: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """Inputs rounded as UINT8 does, each example by its own range.

    Args:
        inputs: shape (batch, ...).
        tokens: shape (batch, length), False for padding, which does not widen the range and is clipped. None: all count.
    """
    values = inputs.float()
    counted = values if tokens is None else values.masked_fill(~tokens[:, :, None], 0)  # every range contains 0 anyway
    dims = tuple(range(1, values.ndim))
    low, high = counted.amin(dim=dims, keepdim=True).clamp_max(0), counted.amax(dim=dims, keepdim=True).clamp_min(0)
    scales = _usable((high - low) / INPUT_LIMIT)
    zeros = (-low / scales).round_()
    codes = (values / scales).round_().add_(zeros).clamp_(0, INPUT_LIMIT)
    return codes.sub_(zeros).mul_(scales).to(inputs.dtype)


def _usable(scales: torch.Tensor) -> torch.Tensor:
    """Scales, with 1 instead of 0: all values of a scale of 0 are 0."""
    return torch.where(scales >= torch.finfo(scales.dtype).tiny, scales, 1.0)
