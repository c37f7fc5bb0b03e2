"""Which share of a model's matrix products really runs in INT8, and how far its latency is from the arithmetic's floor.

A quantised file is no proof of INT8 arithmetic: a runtime runs what it cannot fuse in float, QuantizeLinear and
DequantizeLinear around it. So the share is read from what was executed, and weighted by multiply-accumulates (MACs).
The floor is the time that the same MACs would take at the INT8 rate of this core: all beyond it is overhead or float.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgebert.errors import StageError
from edgebert.runtimes.target import Target


class Frozen(BaseModel):
    """Read-only, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FloatProduct(Frozen):
    """Matrix products of one kernel that ran in float."""

    name: str
    op: str
    shape: tuple[int, ...]
    """(..., rows, inner, columns), its product is the MACs; empty where the runtime hides it."""
    macs: int = Field(gt=0)


class Coverage(Frozen):
    """What one query ran, counted."""

    int8_macs: int = Field(ge=0)
    """MACs of the matrix products that ran in INT8."""
    all_macs: int = Field(gt=0)
    """MACs of all matrix products."""
    length: int
    """Tokens of each text, padding included."""
    batch: int
    kernels: dict[str, int]
    """How often each kind of kernel ran, of whatever it computes."""
    float_products: tuple[FloatProduct, ...]
    """The largest first."""
    int8_macs_per_second: float = Field(gt=0)
    """Of one large product on the same runtime and threads, in the same process: the best of several."""

    @property
    def share(self) -> float:
        """INT8 MACs over all MACs."""
        return self.int8_macs / self.all_macs

    @property
    def floor_ms(self) -> float:
        """Time for all MACs at the INT8 rate: what no quantised model of these sizes goes below."""
        return 1e3 * self.all_macs / self.int8_macs_per_second


class Job(Frozen):
    """What the process is told, on its standard input."""

    model: str
    target: Target
    length: int
    folder: str
    """For what the runtime writes of its graph; the caller removes it."""


def measure_coverage(model: Path, target: Target, length: int, folder: Path) -> Coverage:
    """Runs one query of `target.batch` texts in a fresh process and reads what was executed.

    Args:
        model: the file that the target's runtime opens.
        length: tokens of each text, padding included.
        folder: an empty one, for what the runtime writes of its graph.

    Raises:
        StageError: the process failed, or met a product that it cannot count; the message holds its last line.
    """
    job = Job(model=str(model), target=target, length=length, folder=str(folder))
    command = [sys.executable, "-P", "-m", "edgebert.measure.coverage.coverage_worker"]
    done = subprocess.run(command, input=job.model_dump_json(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"The process that counts what {model} runs ended with code {done.returncode}: {last}")
    try:
        return Coverage.model_validate_json(done.stdout)
    except ValidationError as error:
        raise StageError(f"The process that counts what {model} runs gave no usable answer: {done.stdout[:200]!r}") from error
