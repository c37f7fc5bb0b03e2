"""SearchRecord: what `quantize: auto` tried and measured, and what it kept. Part of the report; light."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

from edgebert.core.strict import Frozen


class SearchTrial(Frozen):
    """One thing that was tried."""

    what: str
    """`rewrite qkv`, `without SkipLayerNormFusion`, `static`, `repair values`, ..."""
    kept: bool
    ratio: float | None = None
    """Median latency of the best so far over this one's, measured in turns: above 1 is faster."""
    score: float | None = None
    """The task's first metric on the rows that the search looks at."""
    note: str = ""


class LayerSensitivity(Frozen):
    """What a model loses when only this matrix product is INT8."""

    name: str
    lost: float
    """Of the task's first metric, on the rows that the search looks at."""
    divergence: float
    """Mean over these rows of KL(FP32 || this) of the class probabilities, in nats."""
    weights_share: float
    """Of the weights of all matrix products; 0 for a product of two activations."""


class SearchRecord(Frozen):
    """The whole search for one target."""

    method: str
    rewrites: tuple[str, ...]
    repairs: tuple[str, ...]
    """What had to be done to hold the gates, in order; empty when nothing had to."""
    excluded_nodes: tuple[str, ...] = Field(validation_alias=AliasChoices("excluded_nodes", "kept_float"))
    """Names of the matrix products that stay FP32."""
    tuning: dict[str, Any]
    """Settings of the runtime that differ from the target's own."""
    passed: bool
    """Whether the gates on answers held during the search."""
    rows: int
    """Eval rows that the search looked at."""
    trials: tuple[SearchTrial, ...]
    sensitivity: tuple[LayerSensitivity, ...] = ()
    """Most sensitive first; empty when nothing was repaired."""
