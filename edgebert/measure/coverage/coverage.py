"""The share of a model's matrix products that really runs in INT8, and how far its latency is from the arithmetic's floor.

A quantised file is no proof of INT8 arithmetic: a runtime runs what it cannot fuse in float, QuantizeLinear and
DequantizeLinear around it. So the share is read from what was executed, and weighted by multiply-accumulates (MACs).
The floor is the time of the same MACs at the INT8 rate of this core: time beyond it is overhead or float.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edgebert.errors import StageError
from edgebert.measure.coverage import worker
from edgebert.measure.coverage.worker import CoverageJob
from edgebert.measure.latency.process import run_once
from edgebert.report.rounds import Coverage
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target


def measure_coverage(model: Path, target: Target, length: int, folder: Path) -> Coverage:
    """Runs one query of `target.batch` texts in a fresh process and reads what it executed.

    Args:
        model: the file that the target's runtime opens.
        length: tokens of each text, padding included.
        folder: an empty folder, for the files that the runtime writes about its graph.

    Raises:
        StageError: the runtime does not tell, the process failed, or it met a product that it cannot count; the message holds
            its last line.
    """
    runtime = get_runtime(target.runtime)
    if runtime.products_reader is None:
        raise StageError(f"{runtime.title} does not tell which products it runs in INT8.")
    job = CoverageJob(model=str(model), target=target, length=length, folder=str(folder))
    output = run_once(worker, f"counts what {model} runs", job=job.model_dump_json())
    try:
        return Coverage.model_validate_json(output)
    except ValidationError as error:
        raise StageError(f"The process that counts what {model} runs gave no usable answer: {output[:200]!r}") from error
