"""equalize: shares the range of value channels with the output matrix that reads them, so that both survive INT8.

Attention mixes tokens and leaves channels alone: a value channel divided by s, and the column of `attention.output.dense` that
reads it multiplied by s, are the same function. Nothing else of a BERT needs scaling at run time, so a scale chosen here
costs nothing when the model is served. The scales are SmoothQuant's (Xiao et al. 2023, arXiv 2211.10438, equation 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgebert.models.capture import observe
from edgebert.models.surgery import encoder_of, layers_of

FLOOR = 1e-5
"""Share of a matrix's largest weight below which a column counts as no smaller: a column of zeros has a scale as well."""


@dataclass(frozen=True)
class Balance:
    """How uneven the channels are that go into one layer's attention output matrix: largest over median range, at least 1.

    Channels that are always 0 do not count.
    """

    before: float
    after: float


@torch.no_grad()
def equalize_values(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], *, alpha: float = 0.5) -> list[Balance]:
    """Scales the value channels of every layer, in place. What the model computes in FP32 stays the same, up to rounding.

    Args:
        model: a BERT or pruned BERT, with any head.
        batches: task inputs with `input_ids` and `attention_mask`, shape (batch, length); padding is left out.
        alpha: 0 makes the columns of the output matrix even, 1 the channels that it reads.

    Returns:
        For each layer what the scales did.

    Raises:
        ValueError: alpha is not within 0 and 1, or there are no batches.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, not a number from 0 to 1")
    found = []
    for layer, ranges in zip(layers_of(model), context_ranges(model, batches), strict=True):
        scales = scales_of(ranges, layer.attention.output.dense.weight, alpha)
        value = layer.attention.self.value
        value.weight /= scales[:, None]
        if value.bias is not None:
            value.bias /= scales
        layer.attention.output.dense.weight *= scales
        found.append(Balance(unevenness(ranges), unevenness(ranges / scales)))
    return found


def context_ranges(model: Any, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
    """For each layer the largest absolute value of each channel that its `attention.output.dense` reads, shape (channels,).

    Raises:
        ValueError: there are no batches.
    """
    outputs = {str(index): layer.attention.output.dense for index, layer in enumerate(layers_of(model))}
    ranges = {name: torch.zeros_like(dense.weight[0]) for name, dense in outputs.items()}

    def see(name: str, rows: torch.Tensor) -> None:
        ranges[name] = torch.maximum(ranges[name], rows.abs().amax(dim=0))

    observe(model, outputs, batches, see)
    return list(ranges.values())


def scales_of(ranges: torch.Tensor, weight: torch.Tensor, alpha: float) -> torch.Tensor:
    """s_j = max|x_j|^alpha / max|W_j|^(1 - alpha); 1 for a channel that is always 0, which a scale could only harm."""
    columns = weight.abs().amax(dim=0)
    columns = columns.clamp_min(FLOOR * columns.max().clamp_min(torch.finfo(columns.dtype).tiny / FLOOR))
    scales = ranges**alpha / columns ** (1 - alpha)
    usable = (ranges > 0) & torch.isfinite(scales) & (scales > 0)
    return torch.where(usable, scales, torch.ones_like(scales))


def unevenness(ranges: torch.Tensor) -> float:
    """Largest over median of the channels that are not always 0; at least 1."""
    live = ranges[ranges > 0]
    return float(live.max() / live.median()) if len(live) else 1.0


@dataclass(frozen=True)
class Reading:
    """A LayerNorm whose output some matrices read, and the module that adds it as a residual."""

    norm: Any
    matrices: tuple[Any, ...]
    adds: Any
    """Called with (update, residual)."""


def readings(model: Any) -> Iterator[Reading]:
    """In order: what feeds each layer's projections, and what feeds its FFN."""
    norm = encoder_of(model).embeddings.LayerNorm
    for layer in layers_of(model):
        attention = layer.attention.self
        yield Reading(norm, (attention.query, attention.key, attention.value), layer.attention.output)
        yield Reading(layer.attention.output.LayerNorm, (layer.intermediate.dense,), layer.output)
        norm = layer.output.LayerNorm


@torch.no_grad()
def smooth_norms(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], *, alpha: float = 0.5) -> list[Balance]:
    """Scales the LayerNorms in place. What the model computes in FP32 stays the same, up to rounding.

    The scales of the residuals are hooks on the model: they go with a copy and into an export, but not into saved weights.

    Args:
        model: a BERT or pruned BERT, with any head.
        batches: task inputs with `input_ids` and `attention_mask`, shape (batch, length); padding is left out.
        alpha: 0 makes the columns of the matrices even, 1 the channels that they read.

    Returns:
        For each LayerNorm that matrices read, what the scales did.

    Raises:
        ValueError: alpha is not within 0 and 1, or there are no batches.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, not a number from 0 to 1")
    found, read = [], list(readings(model))
    for reading, ranges in zip(read, _ranges(model, read, batches), strict=True):
        scales = scales_of(ranges, torch.cat([matrix.weight for matrix in reading.matrices]), alpha)
        reading.norm.weight /= scales
        reading.norm.bias /= scales
        for matrix in reading.matrices:
            matrix.weight *= scales
        reading.adds.register_forward_pre_hook(_GivesBack(scales))
        found.append(Balance(unevenness(ranges), unevenness(ranges / scales)))
    return found


class _GivesBack:
    """Multiplies the residual by the scales that its LayerNorm was divided by."""

    def __init__(self, scales: torch.Tensor) -> None:
        self.scales = scales

    def __call__(self, module: Any, inputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        update, residual = inputs
        return update, residual * self.scales


def _ranges(model: Any, read: Sequence[Reading], batches: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
    """The largest absolute value of each channel that the matrices of a reading see, shape (channels,)."""
    modules = {str(index): reading.matrices[0] for index, reading in enumerate(read)}
    ranges = {name: torch.zeros_like(matrix.weight[0]) for name, matrix in modules.items()}

    def see(name: str, rows: torch.Tensor) -> None:
        ranges[name] = torch.maximum(ranges[name], rows.abs().amax(dim=0))

    observe(model, modules, batches, see)
    return list(ranges.values())
