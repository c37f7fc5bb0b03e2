"""The process that probes a model. Imports only what a device has."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import numpy as np

from edgebert.bundle.signed_graph import SignedGraph, held_files
from edgebert.core.packages import quiet_libraries
from edgebert.core.strict import Frozen
from edgebert.errors import EdgebertError, EnvironmentFault
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Held, Session, Shapes
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch, Encoded, collate

NAMES = ("input_ids", "attention_mask", "token_type_ids")
LONGEST_REASON = 200
"""Last characters of a runtime's message that are shown: it begins with lines of the runtime's own source."""


class ProbeJob(Frozen):
    """The work of the process, on its standard input."""

    model: str
    signed: SignedGraph | None = None
    """As in a RoundJob."""
    target: Target
    usual: int
    """Tokens of a usual query."""
    longest: int
    """Tokens of the longest one."""
    vocabulary: int
    pad_id: int


class Probe(Frozen):
    """What the process learned of a model."""

    fixed_batch: int | None = None
    """Number of texts in one query, where the graph takes no other."""
    fixed_length: int | None = None
    """Number of tokens in a text, where the graph takes no other."""
    open_s: float = 0.0
    """Seconds of opening the model."""
    first_s: float = 0.0
    """Seconds of the first query: some runtimes compile then."""
    query_s: float = 0.0
    """Seconds of a usual query after the first."""
    texts: int = 1
    """Number of texts in such a query."""
    process_s: float = 0.0
    """Seconds from the start of the process to its end, all of the above included."""
    fault: str | None = None
    """Reason why it cannot be measured; the other fields mean nothing then."""
    missing: bool = False
    """Whether the fault lies in this machine and not in the model."""


def look(job: ProbeJob) -> Probe:
    """Opens the model, and asks it a usual and the longest query.

    Raises:
        EdgebertError: the model cannot be opened, or was altered after its signature was checked.
    """
    with held_files(job.signed) as held:
        return _look(job, held)


def _look(job: ProbeJob, held: Held | None) -> Probe:
    runtime = get_runtime(job.target.runtime)
    shapes = runtime.input_shapes(Path(job.model), job.target, held)
    if strange := sorted(set(shapes) - set(NAMES)):
        asked = ", ".join(NAMES)
        return Probe(fault=f"{job.model} wants the input {strange[0]}; what can be asked are models that take {asked}.")
    batch, length = _fixed(shapes, 0), _fixed(shapes, 1)
    texts = batch or job.target.batch
    usual = _query(job, texts, length or job.usual)
    clock = [time.perf_counter()]
    session = runtime.open(Path(job.model), job.target, held)
    clock.append(time.perf_counter())
    for _ in range(2):
        if fault := _fault(session, usual):
            return Probe(fault=f"{job.model} does not answer: {fault}.")
        clock.append(time.perf_counter())
    if length is None and (fault := _fault(session, _query(job, batch or 1, job.longest))):
        return Probe(fault=f"{job.model} does not take {job.longest} tokens: {fault}.\n  Ask shorter ones with --lengths.")
    opened, first, query = (after - before for before, after in itertools.pairwise(clock))
    return Probe(fixed_batch=batch, fixed_length=length, open_s=opened, first_s=first, query_s=query, texts=texts)


def _fixed(shapes: Shapes, axis: int) -> int | None:
    sizes = {shape[axis] for shape in shapes.values() if len(shape) == 2 and isinstance(shape[axis], int)}
    return int(sizes.pop()) if len(sizes) == 1 else None


def _query(job: ProbeJob, texts: int, length: int) -> Batch:
    ids = np.random.default_rng(0).integers(0, job.vocabulary, length).tolist()
    return collate([Encoded(tuple(ids), (0,) * length)] * texts, length=length, pad_id=job.pad_id)


def _fault(session: Session, query: Batch) -> str | None:
    try:
        session.predict(query)
    except Exception as error:  # every runtime has classes of its own
        return _last_line(error)
    return None


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else error.__class__.__name__).rstrip(".")[-LONGEST_REASON:]


def main() -> None:
    """Writes a probe to standard output, whatever happens."""
    job = ProbeJob.model_validate_json(sys.stdin.read())
    try:
        with quiet_libraries():
            outcome = look(job)
    except EdgebertError as error:
        outcome = Probe(fault=str(error), missing=isinstance(error, EnvironmentFault))
    sys.stdout.write(outcome.model_dump_json())


if __name__ == "__main__":
    main()
