"""Gate: a bound that a candidate's metric must hold, relative to FP32 or absolute; and how a gate is judged.

Which metrics may have a gate says each metric's line in metric_table.py.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from edgebert.core.flat import unknown
from edgebert.core.strict import Strict
from edgebert.report.metric_table import FORMER_NAMES, GATED, metric_named
from edgebert.tasks.metrics import AGREEMENT
from edgebert.tasks.metrics.own import is_own

BOUNDS = ("min", "max", "min_ratio", "max_ratio", "max_drop", "max_rise")
OTHER_WAY = {"min": "max", "min_ratio": "max_ratio", "max_drop": "max_rise"}
"""Bound from below -> the same from above, for a metric of which less is better."""

METRIC_SCHEMA: dict[str, Any] = {"anyOf": [{"enum": list(GATED)}, {"type": "string", "pattern": ":"}]}
"""What a gate may be on: a metric that edgebert has, or one of the recipe's own."""


class Gate(Strict):
    """One bound on one metric. Give exactly one of min, max, min_ratio, max_ratio, max_drop, max_rise.

    Sample:

        - {metric: accuracy, min_ratio: 0.99}   # at least 99 % of FP32's
        - {metric: speedup, min: 2.0}           # at least twice as fast
        - {metric: size_mb, max: 30}
        - {metric: macs, max_ratio: 0.34}       # at most a third of FP32's multiply-accumulates
        - {metric: int8_coverage, min: 0.95}    # at least 95 % of the multiply-accumulates run in INT8
    """

    metric: Annotated[str, WithJsonSchema(METRIC_SCHEMA)] = Field(
        description="What is bounded: a metric of the task's answers or of `metrics`, agreement with FP32, latency, speed-up, "
        "size, memory or arithmetic."
    )
    min: float | None = Field(None, description="The candidate's value is at least this.")
    max: float | None = Field(None, description="The candidate's value is at most this.")
    min_ratio: float | None = Field(None, gt=0, description="The candidate's value is at least this share of FP32's.")
    max_ratio: float | None = Field(None, gt=0, description="The candidate's value is at most this share of FP32's.")
    max_drop: float | None = Field(None, ge=0, description="The candidate's value is at most this much lower than FP32's.")
    max_rise: float | None = Field(None, ge=0, description="The candidate's value is at most this much higher than FP32's.")

    @field_validator("metric", mode="before")
    @classmethod
    def _present_name(cls, metric: object) -> object:
        return FORMER_NAMES.get(metric, metric) if isinstance(metric, str) else metric

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str) -> str:
        if metric not in GATED and not is_own(metric):
            raise unknown(GATED)
        return metric

    @model_validator(mode="after")
    def _one_bound(self) -> Gate:
        given = [name for name in BOUNDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of {', '.join(BOUNDS)}; it has {', '.join(given) or 'none'}")
        if (kind := metric_named(self.metric).gate) != "any" and given[0] not in ("min", "max"):
            reason = "is already relative to FP32" if kind == "relative" else "of FP32 is 0, nothing to compare with"
            raise ValueError(f"{self.metric} {reason}: use min or max")
        if metric_named(self.metric).less_is_better and (instead := OTHER_WAY.get(given[0])):
            raise ValueError(f"less {self.metric} is better: use {instead}")
        return self

    @property
    def bound(self) -> tuple[str, float]:
        """Name of the bound that was given, and its value."""
        return next((name, value) for name in BOUNDS if (value := getattr(self, name)) is not None)

    def __str__(self) -> str:
        kind, value = self.bound
        return {
            "min": f"{self.metric} >= {value:g}",
            "max": f"{self.metric} <= {value:g}",
            "min_ratio": f"{self.metric} >= {value:.4g} of FP32",
            "max_ratio": f"{self.metric} <= {value:.4g} of FP32",
            "max_drop": f"{self.metric} >= FP32 - {value:g}",
            "max_rise": f"{self.metric} <= FP32 + {value:g}",
        }[kind]


def answer_gates(gates: Sequence[Gate], metrics: Collection[str]) -> list[Gate]:
    """The gates on a model's answers: on the task's own metrics, and on agreement with FP32."""
    return [gate for gate in gates if gate.metric in (*metrics, AGREEMENT.name)]


@dataclass(frozen=True)
class GateResult:
    """The result of one gate for one candidate."""

    gate: Gate
    passed: bool
    reason: str


def judge_gate(gate: Gate, candidate: float | None, baseline: float | None, *, beside: str = "") -> GateResult:
    """Judges one metric. A value that was not measured, on either side, fails the gate: a gate never fails open.

    Args:
        beside: what the reason says beside the candidate's value, such as its interval.
    """
    kind, bound = gate.bound
    against_baseline = kind not in ("min", "max")
    for value, who in ((candidate, "candidate"), (baseline if against_baseline else 0.0, "FP32")):
        if value is None or not math.isfinite(value):
            return GateResult(gate, False, f"{gate}: not measured on the {who}")
    assert candidate is not None
    if kind == "min_ratio" and baseline == 0:
        return GateResult(gate, False, f"{gate}: FP32 has 0, and every candidate has a share of nothing")
    limit = _limit(kind, bound, baseline)
    # A bound that is met exactly in decimals must not fail by the last bit of a division.
    passed = candidate >= limit - 1e-12 if kind in ("min", "min_ratio", "max_drop") else candidate <= limit + 1e-12
    beside += f" (FP32 {baseline:.4g})" if against_baseline else ""
    return GateResult(gate, passed, f"{gate}: {candidate:.4g}{beside}, {'holds' if passed else 'missed'}")


def _limit(kind: str, bound: float, baseline: float | None) -> float:
    if kind in ("min", "max"):
        return bound
    assert baseline is not None
    return {
        "min_ratio": baseline * bound,
        "max_ratio": baseline * bound,
        "max_drop": baseline - bound,
        "max_rise": baseline + bound,
    }[kind]
