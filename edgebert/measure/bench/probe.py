"""Probes a model in a process of its own: does it open, which queries does it take, and about how long does one last.

So a model that cannot be measured is named before the first round.
"""

from __future__ import annotations

import time

from pydantic import ValidationError

from edgebert.errors import EnvironmentFault, SourceError, StageError
from edgebert.measure.bench import probe_worker
from edgebert.measure.bench.models import BenchModel
from edgebert.measure.bench.probe_worker import Probe, ProbeJob
from edgebert.measure.latency.process import run_worker
from edgebert.runtimes.target import Target


def probe(model: BenchModel, target: Target, *, usual: int, longest: int) -> Probe:
    """Opens the model and asks it twice.

    Args:
        usual: tokens of a usual query.
        longest: tokens of the longest query.

    Raises:
        SourceError: it cannot be opened, or does not take such queries.
        EnvironmentFault: the runtime is missing here, or does not work.
        StageError: the process failed, was ended or went silent.
    """
    job = ProbeJob(
        model=str(model.file),
        signed=model.signed,
        target=target,
        usual=usual,
        longest=longest,
        vocabulary=model.vocabulary,
        pad_id=model.pad_id,
    )
    started = time.monotonic()
    output = run_worker(probe_worker, job.model_dump_json(), f"opens {model.file}")
    lasted = time.monotonic() - started
    try:
        found = Probe.model_validate_json(output)
    except ValidationError as error:
        raise StageError(f"The process that opens {model.file} gave no usable result: {output[:200]!r}") from error
    if found.fault:
        raise (EnvironmentFault if found.missing else SourceError)(found.fault)
    return found.model_copy(update={"process_s": lasted})
