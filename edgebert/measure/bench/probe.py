"""A first look at a model, in a process of its own: does it open, what does it take, and about how long does a query last.

What cannot be measured is so found before the first round, and named.
"""

from __future__ import annotations

import time

from pydantic import ValidationError

from edgebert.core.strict import Frozen
from edgebert.errors import EnvironmentFault, SourceError, StageError
from edgebert.measure.bench.models import Subject
from edgebert.measure.latency.process import run_worker
from edgebert.runtimes.target import Target


class Job(Frozen):
    """What the process is told, on its standard input."""

    model: str
    target: Target
    usual: int
    """Tokens of a usual query."""
    longest: int
    """Tokens of the longest one."""
    vocabulary: int
    pad_id: int


class Probe(Frozen):
    """What the process found."""

    fixed_batch: int | None = None
    """Texts in one query, where the graph takes no other number."""
    fixed_length: int | None = None
    """Tokens, where it takes no other number."""
    open_s: float = 0.0
    first_s: float = 0.0
    """The first query: some runtimes compile then."""
    query_s: float = 0.0
    """A usual query after the first."""
    texts: int = 1
    """In such a query."""
    process_s: float = 0.0
    """From the start of the process to its end, all of the above in it."""
    fault: str | None = None
    """Why it cannot be measured; then nothing else counts."""
    missing: bool = False
    """Whether the fault lies in this machine and not in the model."""


def probe(subject: Subject, target: Target, *, usual: int, longest: int) -> Probe:
    """Opens the subject's model and asks it twice.

    Raises:
        SourceError: it cannot be opened, or does not take such queries.
        EnvironmentFault: what opens it is not as it should be here.
        StageError: the process failed, was ended or went silent.
    """
    job = Job(
        model=str(subject.model),
        target=target,
        usual=usual,
        longest=longest,
        vocabulary=subject.vocabulary,
        pad_id=subject.pad_id,
    )
    started = time.monotonic()
    said = run_worker("edgebert.measure.bench.probe_worker", job.model_dump_json(), f"opens {subject.model}")
    lasted = time.monotonic() - started
    try:
        found = Probe.model_validate_json(said)
    except ValidationError as error:
        raise StageError(f"The process that opens {subject.model} gave no usable result: {said[:200]!r}") from error
    if found.fault:
        raise (EnvironmentFault if found.missing else SourceError)(found.fault)
    return found.model_copy(update={"process_s": lasted})
