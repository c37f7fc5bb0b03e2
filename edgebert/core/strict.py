"""The two bases of every pydantic model here: what users write, and what programs write."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """What users write: no unknown keys, no silent conversions, no NaN, no changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Frozen(BaseModel):
    """What programs write and read again: no unknown keys, no NaN, no changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
