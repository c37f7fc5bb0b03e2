"""Repairs of the weights of a model whose INT8 answers miss the gates. They cost no time, or next to none, when it is served.

They are tried in this order, each on top of those that were kept, and kept where the score rises. After them,
`edgebert.stages.quantize.repair` is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Repair = Callable[[Any, Sequence[Mapping[str, Any]], int], object]
"""(model, calibration batches, bits of the weights); edits the model in place."""


def _values(model: Any, batches: Sequence[Mapping[str, Any]], bits: int) -> object:
    from edgebert.stages.quantize.equalize import equalize_values

    return equalize_values(model, batches)


def _norms(model: Any, batches: Sequence[Mapping[str, Any]], bits: int) -> object:
    from edgebert.stages.quantize.equalize import smooth_norms

    return smooth_norms(model, batches)


def _biases(model: Any, batches: Sequence[Mapping[str, Any]], bits: int) -> object:
    from edgebert.stages.quantize.bias_correction import correct_biases

    return correct_biases(model, batches, bits=bits)


WEIGHT_REPAIRS: dict[str, Repair] = {"values": _values, "norms": _norms, "biases": _biases}
NOT_IN_WEIGHTS = ("norms",)
"""Repairs that a saved folder of weights does not hold."""
ONLY_WHEN_ROUNDED = ("biases",)
"""Repairs after which FP32 no longer answers as it did: not for models of which a part stays float."""
