"""Which share of a model's matrix products really runs in INT8, and how far its latency is from the arithmetic's floor.

A quantised file is no proof of INT8 arithmetic: a runtime runs what it cannot fuse in float, QuantizeLinear and
DequantizeLinear around it. So the share is read from what was executed, and weighted by multiply-accumulates (MACs).
The floor is the time that the same MACs would take at the INT8 rate of this core: all beyond it is overhead or float.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from pydantic import ValidationError

from edgebert.errors import StageError
from edgebert.measure.coverage import worker
from edgebert.measure.coverage.worker import CoverageJob
from edgebert.measure.latency.process import module_command
from edgebert.report.rounds import Coverage
from edgebert.runtimes.target import Target


def measure_coverage(model: Path, target: Target, length: int, folder: Path) -> Coverage:
    """Runs one query of `target.batch` texts in a fresh process and reads what was executed.

    Args:
        model: the file that the target's runtime opens.
        length: tokens of each text, padding included.
        folder: an empty one, for what the runtime writes of its graph.

    Raises:
        StageError: the process failed, or met a product that it cannot count; the message holds its last line.
    """
    job = CoverageJob(model=str(model), target=target, length=length, folder=str(folder))
    command = module_command(worker)
    done = subprocess.run(command, input=job.model_dump_json(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StageError(f"The process that counts what {model} runs ended with code {done.returncode}: {last}")
    try:
        return Coverage.model_validate_json(done.stdout)
    except ValidationError as error:
        raise StageError(f"The process that counts what {model} runs gave no usable answer: {done.stdout[:200]!r}") from error
