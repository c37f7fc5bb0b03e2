"""SearchRecord: the trials of `quantize: auto`, their measurements, and what it kept. Part of a report."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from edgebert.core.strict import Frozen


class SearchTrial(Frozen):
    """One trial of the search."""

    what: str
    """`rewrite qkv`, `without SkipLayerNormFusion`, `static`, `repair values`, ..."""
    kept: bool
    ratio: float | None = None
    """Median latency of the best so far over this one's, measured in turns: above 1 is faster."""
    score: float | None = None
    """The task's first metric on the rows of the search."""
    note: str = ""


class LayerSensitivity(Frozen):
    """Loss of a model in which only this matrix product is INT8."""

    name: str
    lost: float
    """Loss in the task's first metric, on the rows of the search."""
    divergence: float
    """Mean over these rows of KL(FP32 || this) of the class probabilities, in nats."""
    weights_share: float
    """Share of the weights of all matrix products; 0 for a product of two activations."""


class SearchRecord(Frozen):
    """The whole search for one target."""

    method: str
    rewrites: tuple[str, ...]
    repairs: tuple[str, ...]
    """Repairs that were needed to hold the gates, in order."""
    excluded_nodes: tuple[str, ...] = Field(validation_alias=AliasChoices("excluded_nodes", "kept_float"))
    """Names of the matrix products that stay FP32."""
    tuning: dict[str, Any]
    """Settings of the runtime that differ from the target's own."""
    passed: bool
    """Whether the gates on answers held during the search."""
    rows: int
    """Number of rows that the search used: of `Report.selection`; in earlier reports, of the eval set."""
    baseline_score: float | None = None
    """FP32's score on these rows, by the task's first metric; None in earlier reports."""
    trials: tuple[SearchTrial, ...]
    sensitivity: tuple[LayerSensitivity, ...] = ()
    """Sensitivity of each matrix product, most sensitive first; empty when nothing was repaired."""
