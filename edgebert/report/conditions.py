"""Setting: under which load a model was measured, beside its target."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scenario = Literal["single-stream", "multi-stream", "offline", "server"]


class Setting(BaseModel):
    """One kind of load, in the sense of MLPerf Inference (Reddi et al., 2020, arXiv:1911.02549, section IV).

    single-stream: the next query starts when the last one ended. multi-stream: a query is `streams` texts at once, and ends
    with the last of them. offline: all texts are there at once, and throughput counts. server: queries arrive at random
    times, `rate` a second (a Poisson process), and wait where the model is busy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scenario: Scenario = "single-stream"
    streams: int = Field(1, ge=1)
    """multi-stream: texts in one query."""
    instances: int = Field(1, ge=1)
    """Sessions in the process, each with the target's threads."""
    rate: float | None = Field(None, gt=0)
    """server: queries a second that arrive on average."""
    bound_ms: float | None = Field(None, gt=0)
    """server: the latency that must hold."""
    bound_percent: int = 99
    """server: the percentile at which it must hold."""
    lengths: str = "data"
    """`data` (texts as they are), a fixed number of tokens (`32`), or `log-traffic` (the list of lengths in traffic.txt)."""
    queries: str | None = None
    """sha256 of what was asked, in order: rows of text, or lengths in tokens. Equal where two measurements asked the same."""
    driver: Literal["edgebert", "mlcommons-loadgen"] = "edgebert"

    @property
    def name(self) -> str:
        """Short, and unique among the settings of one report: `single-stream`, `server-50/s-32`, `multi-stream-8`."""
        parts: list[str] = [self.scenario]
        parts += [str(self.streams)] if self.scenario == "multi-stream" else []
        parts += [f"{repr(self.rate).removesuffix('.0')}/s"] if self.rate else []
        parts += [f"x{self.instances}"] if self.instances != 1 else []
        parts += [self.lengths] if self.lengths != "data" else []
        parts += ["loadgen"] if self.driver != "edgebert" else []
        return "-".join(parts)
