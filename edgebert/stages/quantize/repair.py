"""Repairs: changes of the weights of a model whose INT8 answers miss the gates. They hardly cost time when it is served.

The search tries them in this order, each on top of the repairs kept so far, and keeps one that raises the score. The last
resort after them is `fallback.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgebert.models.families.base import Family

Repair = Callable[[Any, Sequence[Mapping[str, Any]], int], object]
"""(model, calibration batches, bits of the INT8 weights); edits the model in place."""


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
"""Repairs that are lost when the weights are saved."""
ONLY_WHEN_ROUNDED = ("biases",)
"""Repairs that change FP32 answers, so that they are wrong where a part of the model stays float."""
OF_ANY_LAYERS = ("biases",)
"""Repairs that do not need layers that are made of BERT's parts."""


def repairs_of(family: Family) -> tuple[str, ...]:
    """The repairs that hold for a family's models, in the order in which they are tried."""
    own = family.layer.repairs if family.layer is not None else ()
    return tuple(name for name in WEIGHT_REPAIRS if name in own or name in OF_ANY_LAYERS)
