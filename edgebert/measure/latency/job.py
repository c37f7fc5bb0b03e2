"""RoundJob: the work of one process that measures. In a file of its own, because it is imported before the first answer."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from edgebert.bundle.signed_graph import SignedGraph
from edgebert.core.strict import Frozen
from edgebert.models.cut_side import Side
from edgebert.report.rounds import Setting
from edgebert.runtimes.target import Target


class RoundJob(Frozen):
    """The work of one process, on its standard input."""

    round: int = Field(ge=0)
    process: int | None = Field(None, ge=0)
    """Index of the process among all of the run; `measure_rounds` counts them."""
    started_ns: int | None = None
    """The system's monotonic clock just before the process was started; set when it is."""
    model: str
    signed: SignedGraph | None = None
    """The model's files by their hashes, for a bundle's; None: they are opened where they lie."""
    target: Target
    task: str | None
    """Name of the task; None where the queries are token ids and nobody reads the answers."""
    task_options: dict[str, Any] = Field(default_factory=dict)
    """The task's options that are not at their defaults."""
    labels: tuple[str, ...]
    max_length: int
    pad_id: int
    tokenizer: str | None
    """Path of tokenizer.json; None where `rows` holds lists of token ids."""
    tokenizer_sha256: str | None = None
    """What its content must be, for a bundle's."""
    truncation_side: Side | None = None
    """Side of a long text that is cut off; None: as the tokenizer says."""
    rows: str
    """Path of a file of `write_rows`: rows of text, or lists of token ids without a tokenizer, `texts_per_query` of them for
    each query, in order. The first `warmup` queries are served but not timed."""
    warmup: int = Field(ge=0)
    setting: Setting = Setting()
    settle: bool = False
    """Whether the first `warmup` queries are repeated until their latency has settled."""
    end_to_end: bool = False
    """Whether the timed queries are served once more from their text. Needs a tokenizer."""
    pin: tuple[int, ...] = ()
    """Cores that the process is pinned to; empty: any."""
    slowdown: float = Field(0.0, ge=0)
    """Share of its own time by which every query is slowed down, to prove that a slowdown is detected."""
    seed: int = Field(0, ge=0)
    """Seed of the arrivals of a server's queries, which differ from round to round and not from model to model."""

    @property
    def texts_per_query(self) -> int:
        """Number of rows that make one query."""
        return texts_per_query(self.setting, self.target)

    @model_validator(mode="after")
    def _is_complete(self) -> RoundJob:
        if self.tokenizer is not None and self.task is None:
            raise ValueError("text needs a task")
        if self.tokenizer is None and self.end_to_end:
            raise ValueError("end to end needs text and a tokenizer")
        if self.setting.scenario == "server" and self.setting.rate is None:
            raise ValueError("the server scenario needs a rate")
        return self


def texts_per_query(setting: Setting, target: Target) -> int:
    """Number of texts in one query: `streams` where several arrive at once, else one batch of the target."""
    return setting.streams if setting.scenario == "multi-stream" else target.batch
