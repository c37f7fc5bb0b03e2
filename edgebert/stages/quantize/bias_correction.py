"""bias_correction: corrects biases by the mean error that rounding weights to INT8 makes.

Rounding moves the mean of every output by (Q(W) - W) E[x]; subtracting that from the bias corrects it, at no cost when the
model is served (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv
1906.04721, section 4.2, with E[x] measured on calibration data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from edgebert.models.capture import observe
from edgebert.models.fake_quant import rounded_weight_of


@torch.no_grad()
def correct_biases(model: Any, batches: Sequence[Mapping[str, torch.Tensor]], *, bits: int = 8) -> dict[str, float]:
    """Changes the biases, in place: b += (W - Q(W)) E[x]. The weights stay FP32, for a quantiser to round.

    Args:
        model: any module with Linears. Its FP32 answers are wrong afterwards: give a copy, and only quantise it.
        batches: task inputs with `attention_mask`, shape (batch, length); padding is left out.
        bits: bits that the quantiser rounds weights to, symmetric, for each output channel: 8, or 7 for a reduced range.

    Returns:
        Name of each Linear with a bias -> largest change of its bias.

    Raises:
        ValueError: there are no batches.
    """
    changes = {}
    linears: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, mean in mean_inputs(model, linears, batches).items():
        weight, bias = linears[name].weight, linears[name].bias
        if bias is not None:
            change = (weight - rounded_weight_of(weight, bits=bits)).double() @ mean
            bias += change.to(bias.dtype)
            changes[name] = float(change.abs().max())
    return changes


def mean_inputs(
    model: Any, linears: Mapping[str, Any], batches: Sequence[Mapping[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Name of each Linear that the batches reach -> mean of its inputs, shape (in,), in double precision.

    Raises:
        ValueError: there are no batches.
    """
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}

    def see(name: str, values: torch.Tensor) -> None:
        total = values.double().sum(dim=0)
        sums[name] = sums[name] + total if name in sums else total
        rows[name] = rows.get(name, 0) + len(values)

    observe(model, linears, batches, see)
    return {name: total / rows[name] for name, total in sums.items()}
