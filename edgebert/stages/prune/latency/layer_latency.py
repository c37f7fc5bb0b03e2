"""Measures a latency table: stacks of equal layers with random weights take turns, in one fresh process a round.

Each stack counts with its quietest round. One least-squares fit takes the stacks' latencies apart:

    latency(stack) = rest + layers * (attention(heads) + ffn(neurons))

A model of the whole shape that is to be pruned is timed beside them, and kept as it was timed.
"""

from __future__ import annotations
from edgebert.stages.prune.latency.layer_fit import Stack
from edgebert.stages.prune.latency.layer_fit import fit
from edgebert.stages.prune.latency.layer_fit import heads_grid
from edgebert.stages.prune.latency.layer_fit import length_grid
from edgebert.stages.prune.latency.layer_fit import neurons_grid
from edgebert.stages.prune.latency.layer_fit import plan_stacks

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.libraries import is_installed, package_version
from edgebert.core.progress import Progress, ProgressStep
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_json
from edgebert.errors import MissingPackage, StageError
from edgebert.measure.latency.latency import query_order, rotated
from edgebert.measure.latency.process import module_command
from edgebert.models.sizes import Shape
from edgebert.report.environment import Environment
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.stages.export import convert_to_openvino
from edgebert.stages.prune.latency import layer_worker
from edgebert.stages.prune.latency.latency_table import Array, LatencyTable, Precision, read_table, write_table
from edgebert.stages.prune.latency.layer_graphs import VOCABULARY, GraphSizes, StackSizes, stack, write_graph
from edgebert.stages.prune.latency.layer_worker import LayerJob
from edgebert.stages.quantize import dynamic, nncf
from edgebert.stages.quantize.settings import Settings
from edgebert.tasks.base import Encoded

VERSION = 2
TABLE_FILE = "table.json"
CALIBRATION = 2
"""Random texts for NNCF: ranges decide what a model answers, not what it costs."""


@dataclass(frozen=True)
class Effort:
    """How finely a runtime is measured."""

    rounds: int
    heads: int | None
    """Head counts at most; None: all."""
    widths: int
    seconds: float
    """For all timed queries of a table; warm-up, compilation and processes come on top."""


EFFORT = {
    "onnxruntime": Effort(rounds=8, heads=None, widths=8, seconds=25),
    # Compiles every model at every length in every round, and NNCF takes seconds for each model.
    "openvino": Effort(rounds=2, heads=5, widths=6, seconds=15),
}


def measure_table(
    shape: Shape,
    *,
    target: Target,
    precision: Precision,
    lengths: Sequence[int],
    store: ArtifactStore,
    progress: Progress,
    environment: Environment,
    remeasure: bool = False,
) -> LatencyTable:
    """The table of this machine, measured now unless the store has it.

    Args:
        shape: of the model that is to be pruned: the largest that will be asked for.
        target: its runtime, threads, batch and optimisers decide what is measured.
        precision: int8 is onnxruntime's dynamic quantisation, or NNCF's for openvino.
        lengths: tokens of each query as the runtime sees it, padded: from `served_lengths`.
        remeasure: drops what the store has.

    Raises:
        MissingPackage: a package that builds the models is not installed.
        StageError: a model cannot be built, opened or run.
        StoreError: the store cannot be read or written.
        ValueError: there are no lengths.
    """
    if not lengths:
        raise ValueError("a latency table needs the lengths of one or more queries")
    measurement = _Measurement(shape, target, precision, length_grid(lengths), progress)
    key = hash_json({**measurement.identity, "machine": environment.fingerprint, "version": VERSION})
    if remeasure:
        _forget(store, store.get(key))
    for _ in range(2):
        made_by = MadeBy(name="latency-table", version=VERSION, parameters=measurement.identity, packages={})
        artifact = store.get_or_make(key, format="measurement", parent=None, made_by=made_by, make=measurement.make)
        if table := read_table(artifact.path / TABLE_FILE):
            return table
        _forget(store, artifact)
    raise StageError(f"The latency table that was just measured cannot be read again from {artifact.path}.")


def _forget(store: ArtifactStore, artifact: Artifact | None) -> None:
    if artifact:
        store.remove(artifact)


def served_lengths(lengths: Sequence[int], target: Target, *, max_length: int, seed: int) -> list[int]:
    """Tokens that each text of a query is padded to, for queries of `target.batch` texts in the order that they are timed in.

    Args:
        lengths: tokens of each text of the data, `max_length` at most; one or more.
        seed: draws the order, and so which texts share a query.
    """
    queries = -(-len(lengths) // target.batch)
    order = query_order(len(lengths), queries * target.batch, seed)
    groups = [order[start : start + target.batch] for start in range(0, len(order), target.batch)]
    return [target.padded_length(max(lengths[index] for index in group), max_length) for group in groups]










@dataclass(frozen=True)
class _Measurement:
    """One table in the making."""

    shape: Shape
    target: Target
    precision: Precision
    lengths: tuple[int, ...]
    progress: Progress

    @property
    def effort(self) -> Effort:
        """That of the runtime."""
        return EFFORT[self.target.runtime]

    @property
    def heads(self) -> tuple[int, ...]:
        """Head counts to measure."""
        return heads_grid(max(self.shape.heads), self.effort.heads)

    @property
    def neurons(self) -> tuple[int, ...]:
        """FFN widths to measure."""
        return neurons_grid(max(self.shape.intermediate_sizes), self.effort.widths)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the table, but for the machine."""
        return {
            "check": "latency-table",
            "runtime": self.target.runtime,
            "runtime_version": package_version(get_runtime(self.target.runtime).package),
            "precision": self.precision,
            "threads": self.target.threads,
            "batch": self.target.batch,
            "bucket": self.target.bucket,
            "disabled_optimizers": list(self.target.disabled_optimizers),
            "hidden_size": self.shape.hidden_size,
            "head_size": self.shape.head_size,
            "lengths": list(self.lengths),
            "heads": list(self.heads),
            "neurons": list(self.neurons),
            "whole": [list(self.shape.heads), list(self.shape.intermediate_sizes)],
        }

    def make(self, draft: Draft) -> Mapping[str, Any]:
        """Builds the stacks, times them, and writes the table."""
        stacks = plan_stacks(self.heads, self.neurons)
        with tempfile.TemporaryDirectory(dir=draft.work) as folder:
            models = self._build([*map(self._stack, stacks), self._whole], Path(folder))
            rounds = self._time(models)
        table = self._table(stacks, rounds)
        write_table(table, draft.out / TABLE_FILE)
        return {"spread": table.spread}

    def _stack(self, item: Stack) -> GraphSizes:
        return stack(self.shape.hidden_size, self.shape.head_size, item.layer, item.count, self.lengths[-1])

    @property
    def _whole(self) -> GraphSizes:
        """The model that is to be pruned."""
        shape = self.shape
        layers = tuple(map(StackSizes, shape.heads, shape.intermediate_sizes))
        return GraphSizes(shape.hidden_size, shape.head_size, layers, self.lengths[-1])

    def _build(self, models: Sequence[GraphSizes], folder: Path) -> list[Path]:
        self._require_packages()
        built = []
        title = f"build {len(models)} {self.precision} models for {self.target.runtime}"
        with self.progress.step(title, len(models)) as step:
            for index, sizes in enumerate(models):
                own = folder / str(index)
                own.mkdir()
                built.append(self._model(sizes, own))
                step.advance()
        return built

    def _require_packages(self) -> None:
        get_runtime(self.target.runtime).require()
        quantiser = ["nncf"] if self.target.runtime == "openvino" and self.precision == "int8" else []
        for package in ["onnx", *quantiser]:
            if not is_installed(package):
                raise MissingPackage(package, needed_for="A latency table")

    def _model(self, sizes: GraphSizes, folder: Path) -> Path:
        """The file that the target's runtime opens."""
        graph = folder / "model.onnx"
        write_graph(sizes, graph)
        source = graph
        if self.target.runtime == "openvino":
            source = folder / "openvino_model.xml"
            convert_to_openvino(graph, source)
            graph.unlink()
        if self.precision == "fp32":
            return source
        quantize = nncf.quantize if self.target.runtime == "openvino" else dynamic.quantize
        (folder / "int8").mkdir()
        quantize(source, folder / "int8", Settings(per_channel=True, embeddings=True, calibration=_texts(self.lengths[0])))
        source.unlink()
        return folder / "int8" / source.name

    def _time(self, models: Sequence[Path]) -> Array:
        """Latencies in ms, of shape (rounds, models, lengths)."""
        points = len(models) * len(self.lengths)
        found = np.full((self.effort.rounds, len(models), len(self.lengths)), np.nan)
        with self.progress.step(f"measure layers on {self.target.name}, {self.precision}", self.effort.rounds * points) as step:
            for number in range(self.effort.rounds):
                job = LayerJob(
                    target=self.target,
                    models=tuple(map(str, models)),
                    order=tuple(rotated(len(models), number)),
                    lengths=self.lengths,
                    vocabulary=VOCABULARY,
                    seconds=self.effort.seconds / (self.effort.rounds * points),
                )
                for place, length, nanoseconds in _run(job, step):
                    found[number, place, self.lengths.index(length)] = nanoseconds / 1e6
        return found

    def _table(self, stacks: Sequence[Stack], rounds: Array) -> LatencyTable:
        quiet = rounds.min(axis=0)
        *parts, whole = quiet
        fits = [fit(stacks, column, self.heads, self.neurons) for column in np.transpose(parts)]
        return LatencyTable(
            runtime=self.target.runtime,
            precision=self.precision,
            threads=self.target.threads,
            batch=self.target.batch,
            bucket=self.target.bucket,
            disabled_optimizers=self.target.disabled_optimizers,
            hidden_size=self.shape.hidden_size,
            head_size=self.shape.head_size,
            lengths=self.lengths,
            heads=self.heads,
            neurons=self.neurons,
            attention_ms=tuple(found.attention for found in fits),
            ffn_ms=tuple(found.ffn for found in fits),
            rest_ms=tuple(found.rest for found in fits),
            whole_ms=tuple(map(float, whole)),
            spread=round(float(np.median(np.median(rounds, axis=0) / quiet - 1)), 4),
        )


def _texts(length: int) -> tuple[Encoded, ...]:
    """Random tokens to calibrate with."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (CALIBRATION, length))
    return tuple(Encoded(tuple(map(int, row)), (0,) * length) for row in tokens)












def _run(job: LayerJob, step: ProgressStep) -> list[tuple[int, int, int]]:
    """One round in a fresh process; `step` advances with every line that it says.

    Raises:
        StageError: the process failed; the message holds its last line.
    """
    command = module_command(layer_worker)
    found: list[tuple[int, int, int]] = []
    with (
        tempfile.TemporaryFile("w+") as faults,  # a pipe that nobody reads would fill up
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=faults, text=True) as process,
    ):
        assert process.stdin and process.stdout
        try:
            process.stdin.write(job.model_dump_json())
            process.stdin.close()
            for line in process.stdout:
                place, length, nanoseconds = json.loads(line)
                found.append((place, length, nanoseconds))
                step.advance()
        except BaseException:
            process.kill()
            raise
        if process.wait():
            faults.seek(0)
            last = (faults.read().strip().splitlines() or ["no message"])[-1]
            raise StageError(
                f"The process that measures layers on {job.target.runtime} ended with code {process.returncode}: {last}"
            )
    return found
