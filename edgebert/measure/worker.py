"""The process that serves one model and times it. Imports only what a device has."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from edgebert.measure.latency import Job, Round
from edgebert.runtimes import get_runtime
from edgebert.serving import Serving
from edgebert.tasks import get_task


def serve(job: Job) -> Round:
    """Opens the model, warms up, serves the queries."""
    if job.tokenizer is None or job.task is None:
        raise NotImplementedError
    rows = json.loads(Path(job.rows).read_text())
    serving = Serving(get_task(job.task), job.labels, job.max_length, job.pad_id, Path(job.tokenizer))
    tokenizer = serving.open_tokenizer()
    clock = time.perf_counter_ns
    queries, tokenise = [], []
    step = job.target.batch
    for start in range(0, len(rows), step):
        before = clock()
        encoded = serving.encode(tokenizer, rows[start : start + step])
        tokenise.append(clock() - before)
        queries.append(serving.batch(encoded, job.target))
    before = clock()
    session = get_runtime(job.target.runtime).open(Path(job.model), job.target)
    session.prepare([query["input_ids"].shape for query in queries])
    session.predict(queries[0])  # some runtimes finish loading at their first query
    load_ns = clock() - before
    for query in queries[: job.warmup]:
        session.predict(query)
    latencies = []
    for query in queries[job.warmup :]:
        before = clock()
        session.predict(query)
        latencies.append(clock() - before)
    return Round(
        round=job.round,
        process=job.process,
        latencies_ns=tuple(latencies),
        tokenise_ns=tuple(tokenise[job.warmup :]),
        lengths=tuple(query["input_ids"].shape[1] for query in queries[job.warmup :]),
        load_ns=load_ns,
        peak_rss_bytes=peak_rss(),
    )


def peak_rss() -> int | None:
    """Largest resident memory of this process, in bytes; None where the system does not say.

    From VmHWM: `getrusage` would report the parent's peak, which a child inherits across exec on Linux.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) * 1024 if line else None


if __name__ == "__main__":
    sys.stdout.write(serve(Job.model_validate_json(sys.stdin.read())).model_dump_json())
