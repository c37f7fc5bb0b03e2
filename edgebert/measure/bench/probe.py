"""A first look at a model, in a process of its own: does it open, what does it take, and about how long does a query last.

What cannot be measured is so found before the first round, and named.
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


def probe(bench_model: BenchModel, target: Target, *, usual: int, longest: int) -> Probe:
    """Opens the bench_model's model and asks it twice.

    Raises:
        SourceError: it cannot be opened, or does not take such queries.
        EnvironmentFault: what opens it is not as it should be here.
        StageError: the process failed, was ended or went silent.
    """
    job = ProbeJob(
        model=str(bench_model.model),
        target=target,
        usual=usual,
        longest=longest,
        vocabulary=bench_model.vocabulary,
        pad_id=bench_model.pad_id,
    )
    started = time.monotonic()
    said = run_worker(probe_worker, job.model_dump_json(), f"opens {bench_model.model}")
    lasted = time.monotonic() - started
    try:
        found = Probe.model_validate_json(said)
    except ValidationError as error:
        raise StageError(f"The process that opens {bench_model.model} gave no usable result: {said[:200]!r}") from error
    if found.fault:
        raise (EnvironmentFault if found.missing else SourceError)(found.fault)
    return found.model_copy(update={"process_s": lasted})
