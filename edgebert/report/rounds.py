"""The raw measurements of one process (Round), the load they were made under (Setting), and counts of kernels (Coverage)."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field, model_validator

from edgebert.core.strict import Frozen
from edgebert.report.samples import Samples


class Round(Frozen):
    """The measurements of one process. Times are in nanoseconds, one for each query, in order. None: not measured."""

    round: int = Field(ge=0)
    process: int | None = Field(None, ge=0)
    """Index of the process among all of the run, in the order of their starts."""
    latencies_ns: Samples
    """Time from a query's start to its answer; in the server scenario from its scheduled arrival, so that waiting counts."""
    tokenise_ns: Samples
    lengths: Samples
    """Tokens of each query's texts, padding included."""
    end_to_end_ns: Samples = Samples()
    """Time from text to answer, tokenisation included: the same queries, served once more."""
    load_ns: int = Field(ge=0)
    """Time to open the model, prepare it for the queries' shapes, and answer the first query."""
    cold_start_ns: int | None = Field(None, ge=0)
    """Time from just before the process was started to its first answer: Python, tokenizer and model opened, text tokenised."""
    peak_rss_bytes: int | None = Field(None, ge=0)
    pss_bytes: int | None = Field(None, ge=0)
    """Proportional set size after the last query: a page shared by n processes counts 1/n."""
    wall_ns: int | None = Field(None, ge=0)
    """Time from the first query's start to the last one's end."""
    examples: int | None = Field(None, ge=0)
    """Texts served within `wall_ns`."""
    warmup: int | None = Field(None, ge=0)
    """Queries served before the timed ones."""
    stable: bool | None = None
    """Whether latency had settled by the end of warm-up."""
    overhead_ns: float | None = Field(None, ge=0)
    """Cost of the measuring loop per query, measured in this process with a session that does nothing. In the server
    scenario the median lateness of sending is added."""
    reference_workload_ns: Samples = Field(Samples(), validation_alias=AliasChoices("reference_workload_ns", "pulse_ns"))
    """Time of a fixed workload without a model, run before and after the queries: the speed of the machine itself."""
    energy_uj: int | None = Field(None, ge=0)
    """Microjoules that the energy counter of the whole CPU package added within `wall_ns`."""
    pinned: tuple[int, ...] = ()
    """Numbers of the cores that the process was pinned to; empty: it was not pinned."""
    isa: str | None = None
    """Strongest instruction set that the process could use for INT8: of the CPU's flags, AMX only where the kernel had granted
    it to the process after the first answer. A runtime does not tell which of its kernels ran."""
    throttled: bool | None = None
    """Whether the machine throttled while this process measured; where it does not report that, whether it was too hot."""

    @model_validator(mode="after")
    def _is_possible(self) -> Round:
        if len(self.latencies_ns) and self.latencies_ns.values.min() == 0:
            raise ValueError("a latency is 0")
        if len(self.lengths) not in (0, len(self.latencies_ns)):
            raise ValueError("there are not as many lengths as latencies")
        return self


Scenario = Literal["single-stream", "multi-stream", "offline", "server"]


class Setting(Frozen):
    """One kind of load, in the sense of MLPerf Inference (Reddi et al., 2020, arXiv:1911.02549, section IV).

    single-stream: the next query starts when the last one ended. multi-stream: a query is `streams` texts at once, and ends
    with the last of them. offline: all texts are available at once, and throughput counts. server: queries arrive at random
    times, `rate` per second (a Poisson process), and wait while the model is busy.
    """

    scenario: Scenario = "single-stream"
    streams: int = Field(1, ge=1)
    """multi-stream: texts in one query."""
    instances: int = Field(1, ge=1)
    """Number of sessions in the process, each with the target's threads."""
    rate: float | None = Field(None, gt=0)
    """server: mean number of queries that arrive per second."""
    bound_ms: float | None = Field(None, gt=0)
    """server: largest latency allowed, in milliseconds."""
    bound_percent: int = 99
    """server: percentile of latency that must be within the bound."""
    lengths: str = "data"
    """`data` (texts as they are), a fixed number of tokens (`32`), or `log-traffic` (the list of lengths in traffic.txt)."""
    queries: str | None = None
    """sha256 of the queries, in order: rows of text, or lengths in tokens."""
    driver: Literal["edgebert", "mlcommons-loadgen"] = "edgebert"

    @property
    def name(self) -> str:
        """Short name, unique among the settings of one report: `single-stream`, `server-50/s-32`, `multi-stream-8`."""
        parts: list[str] = [self.scenario]
        parts += [str(self.streams)] if self.scenario == "multi-stream" else []
        parts += [f"{repr(self.rate).removesuffix('.0')}/s"] if self.rate else []
        parts += [f"x{self.instances}"] if self.instances != 1 else []
        parts += [self.lengths] if self.lengths != "data" else []
        parts += ["loadgen"] if self.driver != "edgebert" else []
        return "-".join(parts)


class FloatProduct(Frozen):
    """Matrix products of one kernel that ran in float."""

    name: str
    op: str
    shape: tuple[int, ...]
    """(..., rows, inner, columns), whose product is the number of MACs; empty where the runtime hides it."""
    macs: int = Field(gt=0)


class Coverage(Frozen):
    """Counts of the kernels that one query ran."""

    int8_macs: int = Field(ge=0)
    """MACs of the matrix products that ran in INT8."""
    all_macs: int = Field(gt=0)
    """MACs of all matrix products."""
    length: int
    """Tokens of each text, padding included."""
    batch: int
    kernels: dict[str, int]
    """Kind of kernel -> number of times that it ran, matrix products and all others."""
    float_products: tuple[FloatProduct, ...]
    """Matrix products that ran in float, the largest first."""
    int8_macs_per_second: float = Field(gt=0)
    """INT8 rate of one large product on the same runtime and threads, in the same process: the best of several runs."""

    @property
    def share(self) -> float:
        """INT8 MACs over all MACs."""
        return self.int8_macs / self.all_macs

    @property
    def roofline_ms(self) -> float:
        """Milliseconds for all MACs at the INT8 rate: a lower bound for every quantised model of these sizes."""
        return 1e3 * self.all_macs / self.int8_macs_per_second
