"""MLCommons' LoadGen instead of this package's scenarios: it sends the queries and takes the times.

Every sample is sent once (`performance_issue_unique`), in LoadGen's order, with seeds from here. Latencies come from its trace,
which holds each sample's `complete_ns` from its scheduled time (loadgen/loadgen.cc, `TraceSample`). A run need not be valid for
a submission to MLPerf, which takes ten minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.errors import MissingPackage, StageError
from edgebert.measure.latency.scenarios import Query, Served, crew, queued, share_out
from edgebert.report.rounds import Setting
from edgebert.runtimes.base import Session

SCENARIOS = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "offline": "Offline", "server": "Server"}
Issue = Callable[[Sequence[Any]], None]
"""Takes mlperf_loadgen.QuerySample objects, each with an `id` and the `index` of a sample."""


def require() -> None:
    """Raises MissingPackage when LoadGen is not installed."""
    if find_spec("mlperf_loadgen") is None:
        raise MissingPackage("mlcommons-loadgen", needed_for="The driver mlcommons-loadgen", extra="loadgen")


def drive(
    sessions: Sequence[Session],
    samples: Sequence[Query],
    setting: Setting,
    *,
    seed: int = 0,
    collate: Callable[[Sequence[int]], Query] | None = None,
    folder: Path | None = None,
    around: contextlib.AbstractContextManager[object] | None = None,
) -> Served:
    """Has LoadGen send every sample once.

    Args:
        samples: queries of one batch; in multi-stream queries of one text, of which `setting.streams` are sent at once.
        seed: decides the order of the samples, and the arrivals in the server scenario.
        collate: indices of samples that were sent at once -> the query that they make; multi-stream needs it.
        folder: folder for LoadGen's logs meanwhile; by default the system's for temporary files.
        around: is entered just before LoadGen starts and left before its logs are read.

    Returns:
        Latencies and lengths of the queries, in the order in which they were sent. An offline latency counts from the
        start of all, because LoadGen sends all samples at once then.

    Raises:
        MissingPackage: LoadGen is not installed.
        StageError: it did not send every sample.
    """
    require()
    failures: list[BaseException] = []
    with tempfile.TemporaryDirectory(prefix="edgebert-loadgen-", dir=folder) as logs:
        with _issuing(sessions, samples, setting, failures, collate) as issue, around or contextlib.nullcontext():
            _start(issue, len(samples), _settings(setting, len(samples), seed), Path(logs))
        if failures:
            raise failures[0]
        events = _events(Path(logs) / "mlperf_log_trace.json")
    if len(events) != len(samples):
        raise StageError(
            f"LoadGen sent {len(events)} of {len(samples)} samples.", hint="This is a fault of edgebert; report it."
        )
    return _served(events, samples, setting.scenario)


def _settings(setting: Setting, count: int, seed: int) -> Any:
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, SCENARIOS[setting.scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.performance_issue_unique = True
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = count // setting.streams
    settings.multi_stream_samples_per_query = setting.streams
    settings.server_target_qps = setting.rate or 1.0
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = seed
    return settings


def _start(issue: Issue, count: int, settings: Any, folder: Path) -> None:
    """Runs LoadGen, which writes into the folder and nowhere else."""
    import mlperf_loadgen as lg

    output = lg.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = str(folder), False
    logs = lg.LogSettings()
    logs.log_output, logs.enable_trace = output, True
    system = lg.ConstructSUT(issue, _nothing)
    library = lg.ConstructQSL(count, count, _nothing, _nothing)
    try:
        lg.StartTestWithLogSettings(system, library, settings, logs, os.devnull)
    finally:
        lg.DestroyQSL(library)
        lg.DestroySUT(system)


def _nothing(*_: object) -> None:
    """All samples are in memory, and no query is held back."""


@contextlib.contextmanager
def _issuing(
    sessions: Sequence[Session],
    samples: Sequence[Query],
    setting: Setting,
    failures: list[BaseException],
    collate: Callable[[Sequence[int]], Query] | None,
) -> Iterator[Issue]:
    """The function that serves the scenario's queries. LoadGen cannot take an exception: they are collected, and work stops."""

    def serve(session: Session, sample: Any) -> None:
        with _collected(failures):
            if not failures:
                for batch in samples[sample.index].batches:
                    session.predict(batch)
        _complete([sample])

    if setting.scenario == "multi-stream":
        with crew(sessions) as serve_batches:
            yield lambda sent: _serve_together(serve_batches, sent, collate, failures)
    elif setting.scenario == "offline":
        yield lambda sent: _serve_all(sessions, sorted(sent, key=lambda sample: sample.index), serve)
    elif len(sessions) == 1:
        yield lambda sent: serve(sessions[0], sent[0])
    else:
        with queued(sessions, serve) as put:
            yield lambda sent: put(sent[0])


def _serve_together(
    serve: Callable[[Sequence[Any]], None],
    sent: Sequence[Any],
    collate: Callable[[Sequence[int]], Query] | None,
    failures: list[BaseException],
) -> None:
    assert collate is not None
    with _collected(failures):
        if not failures:
            serve(collate([sample.index for sample in sent]).batches)
    _complete(sent)


def _serve_all(sessions: Sequence[Session], sent: Sequence[Any], serve: Callable[[Session, Any], None]) -> None:
    share_out(sessions, len(sent), lambda session, index: serve(session, sent[index]))


@contextlib.contextmanager
def _collected(failures: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as failure:
        failures.append(failure)


def _complete(sent: Sequence[Any]) -> None:
    import mlperf_loadgen as lg

    lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0) for sample in sent])


def _events(trace: Path) -> list[Mapping[str, Any]]:
    """Events of the completed samples in a trace, which has one a line. `ts` is in microseconds."""
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [json.loads(line.rstrip(",")) for line in lines if '"name":"Sample"' in line and '"ph":"b"' in line]


def _served(events: Sequence[Mapping[str, Any]], samples: Sequence[Query], scenario: str) -> Served:
    """A query of several samples ends with its last one; offline, where all samples are one query, each counts."""
    key = "sample_seq" if scenario == "offline" else "query_seq"
    latencies: dict[int, int] = {}
    lengths: dict[int, int] = {}
    for facts in sorted((event["args"] for event in events), key=lambda facts: int(facts[key])):
        number = facts[key]
        latencies[number] = max(latencies.get(number, 0), int(facts["complete_ns"]))
        lengths[number] = max(lengths.get(number, 0), samples[facts["sample_idx"]].length)
    return Served(list(latencies.values()), list(lengths.values()), _wall(events), sum(query.examples for query in samples))


def _wall(events: Sequence[Mapping[str, Any]]) -> int:
    starts = np.array([event["ts"] * 1e3 for event in events])
    ends = starts + np.array([event["args"]["complete_ns"] for event in events])
    return int(ends.max() - starts.min())
