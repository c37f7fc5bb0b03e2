"""equalize: moves the range of large channels into the matrices that read them, so that both survive INT8.

The scales are SmoothQuant's (Xiao et al. 2023, arXiv 2211.10438, equation 4). `equalize_values` divides value channels by
them and multiplies the columns of the matrix that reads the mixed values: attention mixes tokens, not channels, so the function
stays the same, and serving costs nothing more. `smooth_norms` divides LayerNorms, and multiplies the matrices and residuals
that read them; scaling a residual is one multiplication when the model is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgebert.models.capture import observe
from edgebert.models.parts import EmbeddingParts, parts_of

FLOOR = 1e-5
"""Least size of a column, as a share of the matrix's largest weight, so that a column of zeros has a finite scale."""


@dataclass(frozen=True)
class Balance:
    """Unevenness of the channels that a matrix reads, before and after scaling: largest range over median, at least 1.

    Channels that are always 0 do not count.
    """

    before: float
    after: float


@torch.no_grad()
def equalize_values(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], *, alpha: float = 0.5) -> list[Balance]:
    """Scales the value channels of every layer, in place. What the model computes in FP32 stays the same, up to rounding.

    Args:
        model: a plain or pruned model of a known family, with any head.
        batches: task inputs with `input_ids` and `attention_mask`, shape (batch, length); padding is left out.
        alpha: 0 makes the columns of the output matrix even, 1 the channels that it reads.

    Returns:
        The balance of each layer's value channels.

    Raises:
        ValueError: alpha is not within 0 and 1, or there are no batches.
    """
    balances = []
    for layer, ranges in zip(parts_of(model), context_ranges(model, batches), strict=True):
        scales = scales_of(ranges, layer.attention_output.weight, alpha)
        value = layer.projections["value"]
        value.weight[-len(scales) :] /= scales[:, None]  # the last rows, where one matrix makes queries, keys and values
        if value.bias is not None:
            value.bias[-len(scales) :] /= scales
        layer.attention_output.weight *= scales
        balances.append(Balance(unevenness(ranges), unevenness(ranges / scales)))
    return balances


def context_ranges(model: Any, batches: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
    """Ranges of the channels that the matrix behind each layer's attention reads, as `channel_ranges` returns them."""
    return channel_ranges(model, [layer.attention_output for layer in parts_of(model)], batches)


def channel_ranges(model: Any, matrices: Sequence[Any], batches: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
    """For each matrix, the largest absolute value of each channel that it reads, shape (channels,).

    Raises:
        ValueError: there are no batches.
    """
    modules = {str(index): matrix for index, matrix in enumerate(matrices)}
    ranges = {name: torch.zeros_like(matrix.weight[0]) for name, matrix in modules.items()}

    def see(name: str, rows: torch.Tensor) -> None:
        ranges[name] = torch.maximum(ranges[name], rows.abs().amax(dim=0))

    observe(model, modules, batches, see)
    return list(ranges.values())


def scales_of(ranges: torch.Tensor, weight: torch.Tensor, alpha: float) -> torch.Tensor:
    """s_j = max|x_j|^alpha / max|W_j|^(1 - alpha); 1 for a channel that is always 0, which a scale could only harm.

    Raises:
        ValueError: alpha is not within 0 and 1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, not a number from 0 to 1")
    columns = weight.abs().amax(dim=0)
    columns = columns.clamp_min(FLOOR * columns.max().clamp_min(torch.finfo(columns.dtype).tiny / FLOOR))
    scales = ranges**alpha / columns ** (1 - alpha)
    usable = (ranges > 0) & torch.isfinite(scales) & (scales > 0)
    return torch.where(usable, scales, torch.ones_like(scales))


def unevenness(ranges: torch.Tensor) -> float:
    """Largest range over median range of the channels that are not always 0; at least 1."""
    live = ranges[ranges > 0]
    return float(live.max() / live.median()) if len(live) else 1.0


@dataclass(frozen=True)
class Reading:
    """A LayerNorm, the matrices that read its output, and where the output is added as a residual."""

    norm: Any
    matrices: tuple[Any, ...]
    adds: Any | None
    """A module called with (update, residual); None where the layer adds the residual itself."""
    update: Any
    """The matrix whose output the residual is added to."""
    next_norm: Any
    """The LayerNorm behind that sum."""


def readings(model: Any) -> Iterator[Reading]:
    """The LayerNorms in order: for each layer the one before its projections, then the one before its FFN. The norm of the
    embeddings is not one of them where a matrix stands between it and the first layer."""
    embeddings = EmbeddingParts.of(model)
    norm = None if embeddings.projection is not None else embeddings.norm
    for layer in parts_of(model):
        adds = layer.residuals or (None, None)
        if norm is not None:
            yield Reading(norm, tuple(layer.projections.values()), adds[0], layer.attention_output, layer.attention_norm)
        yield Reading(layer.attention_norm, (layer.up,), adds[1], layer.down, layer.norm)
        norm = layer.norm


@torch.no_grad()
def smooth_norms(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], *, alpha: float = 0.5) -> list[Balance]:
    """Scales the LayerNorms in place. What the model computes in FP32 stays the same, up to rounding.

    The residuals are scaled by hooks on the model: copies and exports have them, saved weights do not.

    Args:
        model: a plain or pruned model of a known family, with any head.
        batches: task inputs with `input_ids` and `attention_mask`, shape (batch, length); padding is left out.
        alpha: 0 makes the columns of the matrices even, 1 the channels that they read.

    Returns:
        The balance of each LayerNorm that matrices read.

    Raises:
        ValueError: alpha is not within 0 and 1, or there are no batches.
    """
    balances, read = [], list(readings(model))
    all_ranges = channel_ranges(model, [reading.matrices[0] for reading in read], batches)
    for reading, ranges in zip(read, all_ranges, strict=True):
        scales = scales_of(ranges, torch.cat([matrix.weight for matrix in reading.matrices]), alpha)
        reading.norm.weight /= scales
        reading.norm.bias /= scales
        for matrix in reading.matrices:
            matrix.weight *= scales
        _restore_residual(reading, scales)
        balances.append(Balance(unevenness(ranges), unevenness(ranges / scales)))
    return balances


def _restore_residual(reading: Reading, scales: torch.Tensor) -> None:
    """Multiplies the residual by the scales again; without a module that adds it, the sum of residual and divided update."""
    if reading.adds is not None:
        reading.adds.register_forward_pre_hook(_RescaledResidual(scales))
        return
    reading.update.weight /= scales[:, None]
    reading.update.bias /= scales
    reading.next_norm.register_forward_pre_hook(_RescaledSum(scales))


class _RescaledResidual:
    """Multiplies the residual by the scales that its LayerNorm was divided by."""

    def __init__(self, scales: torch.Tensor) -> None:
        self.scales = scales

    def __call__(self, module: Any, inputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        update, residual = inputs
        return update, residual * self.scales


class _RescaledSum:
    """Multiplies the sum before a LayerNorm by the scales that the residual and the update in it were divided by."""

    def __init__(self, scales: torch.Tensor) -> None:
        self.scales = scales

    def __call__(self, module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0] * self.scales,)
