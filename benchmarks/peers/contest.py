"""One contest: every contender answers the same texts, at the same batch and threads, in fresh processes that take turns.

As a script it is the process that opens one contender; it reads its job from standard input.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from edgebert.measure.latency.latency import query_order, rotated
from edgebert.runtimes import get_runtime
from edgebert.runtimes.base import Session
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task

LABELS = ("negative", "positive")
PAD_ID = 0


@dataclass(frozen=True)
class Contender:
    """A graph, and the target that its user would serve it on."""

    name: str
    file: Path
    target: Target
    one_graph: bool = False
    """Whether OpenVINO compiles one model for all lengths, as its documentation does."""


@dataclass(frozen=True)
class Texts:
    """The texts to answer. `rows` have a `text` and a `label`."""

    rows: Sequence[Mapping[str, str]]
    tokenizer: Path
    max_length: int


@dataclass(frozen=True)
class Result:
    """Accuracy and latencies of a contender."""

    accuracy: float
    milliseconds: np.ndarray[Any, Any]
    """The latency of every timed query, of all rounds."""

    def percentile(self, percent: int) -> float:
        """A percentile of the latencies, in milliseconds."""
        return float(np.percentile(self.milliseconds, percent))

    @property
    def spread(self) -> float:
        """p90 over p50."""
        return self.percentile(90) / self.percentile(50)


class RoundJob(BaseModel):
    """The job of one process."""

    file: str
    target: Target
    one_graph: bool
    tokenizer: str
    max_length: int
    texts: tuple[str, ...]
    """In the order of the queries; each query takes the next `target.batch` texts."""
    warmup: int
    """Queries that are answered but not timed."""


class Answers(BaseModel):
    """The answers of one process."""

    nanoseconds: tuple[int, ...]
    predictions: tuple[int, ...]


class OneGraph(Session):
    """OpenVINO, one compiled model with dynamic shapes and the runtime's own choice of precision."""

    def __init__(self, file: Path, threads: int) -> None:
        import openvino as ov

        settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        compiled = ov.Core().compile_model(str(file), "CPU", settings)
        self._inputs = {port.get_any_name() for port in compiled.inputs}
        self._outputs = [port.get_any_name() for port in compiled.outputs]
        self._request = compiled.create_infer_request()

    def predict(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Runs one batch."""
        self._request.infer({name: value for name, value in batch.items() if name in self._inputs}, share_inputs=True)
        return {name: self._request.get_output_tensor(index).data.copy() for index, name in enumerate(self._outputs)}


def serve(job: RoundJob) -> Answers:
    """Opens the model, warms up, answers."""
    serving = Serving(get_task("text-classification"), LABELS, job.max_length, PAD_ID, Path(job.tokenizer))
    encoded = serving.encode(serving.open_tokenizer(), [{"text": text} for text in job.texts])
    queries = list(serving.batches(encoded, job.target))
    session = (
        OneGraph(Path(job.file), job.target.threads)
        if job.one_graph
        else get_runtime(job.target.runtime).open(Path(job.file), job.target)
    )
    session.prepare([query["input_ids"].shape for query in queries])
    for query in queries[: job.warmup]:
        session.predict(query)
    clock, outputs, times = time.perf_counter_ns, [], []
    for query in queries[job.warmup :]:
        before = clock()
        outputs.append(session.predict(query))
        times.append(clock() - before)
    # Files of different tools name their output differently; a classifier has one.
    predictions = [int(label) for output in outputs for label in next(iter(output.values())).argmax(axis=-1)]
    return Answers(nanoseconds=tuple(times), predictions=tuple(predictions))


def in_process(contender: Contender, job: RoundJob) -> Answers:
    """One job in a fresh process; ends the benchmark when that process fails."""
    done = subprocess.run([sys.executable, __file__], input=job.model_dump_json(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{contender.name} on {job.file} failed:\n{done.stderr[-2000:]}")
    return Answers.model_validate_json(done.stdout)


def hold(contenders: Sequence[Contender], texts: Texts, *, rounds: int, queries: int, warmup: int = 10) -> dict[str, Result]:
    """Accuracy on all texts, and `rounds` times the latency of `queries` seeded queries, by the contender's name.

    All contenders have the same batch and threads.
    """
    batch = contenders[0].target.batch
    order = query_order(len(texts.rows), (warmup + queries) * batch, seed=0)
    timed = tuple(texts.rows[index]["text"] for index in order)
    whole = tuple(row["text"] for row in texts.rows)
    references = np.array([int(row["label"]) for row in texts.rows])

    def job(contender: Contender, chosen: tuple[str, ...], skipped: int) -> RoundJob:
        return RoundJob(
            file=str(contender.file),
            target=contender.target,
            one_graph=contender.one_graph,
            tokenizer=str(texts.tokenizer),
            max_length=texts.max_length,
            texts=chosen,
            warmup=skipped,
        )

    right = [np.mean(np.array(in_process(one, job(one, whole, 0)).predictions) == references) for one in contenders]
    times: list[list[int]] = [[] for _ in contenders]
    for turn in range(rounds):
        for index in rotated(len(contenders), turn):
            times[index] += in_process(contenders[index], job(contenders[index], timed, warmup)).nanoseconds
    return {
        one.name: Result(float(score), np.array(found) / 1e6)
        for one, score, found in zip(contenders, right, times, strict=True)
    }


def served(runtime: Literal["onnxruntime", "openvino"], threads: int = 1, batch: int = 1, **settings: Any) -> Target:
    """A target with the defaults of its runtime, but for the settings given."""
    return Target(runtime=runtime, threads=threads, batch=batch, **settings)


if __name__ == "__main__":
    sys.stdout.write(serve(RoundJob.model_validate_json(sys.stdin.read())).model_dump_json())
