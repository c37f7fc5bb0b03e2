"""smooth: shares the range of LayerNorm's channels with the matrices that read them, so that both survive INT8.

A few channels of a LayerNorm's output are far larger than the others, for its gamma is. Divided by s in gamma and beta, and
multiplied by s in the columns of the matrices that read them, they compute the same (SmoothQuant, Xiao et al. 2023, arXiv
2211.10438, equation 4; for BERT, where the residual reads that output as well, Outlier Suppression, Wei et al. 2022, arXiv
2209.13325, section 4.1: gamma migrates to the matrices and to the residual). The residual gets its channels back by one
product with s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgebert.models.surgery import encoder_of, layers_of
from edgebert.stages.quantize.equalize import Balance, scales_of, unevenness
from edgebert.stages.quantize.observe import observe


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
    modules = {str(place): reading.matrices[0] for place, reading in enumerate(read)}
    ranges = {name: torch.zeros_like(matrix.weight[0]) for name, matrix in modules.items()}

    def see(name: str, rows: torch.Tensor) -> None:
        ranges[name] = torch.maximum(ranges[name], rows.abs().amax(dim=0))

    observe(model, modules, batches, see)
    return list(ranges.values())
