"""Measures a latency table: stacks of equal layers with random weights take turns, in a fresh process for each round.

The fastest round of each stack counts, and `layer_fit.py` computes the costs of layers from them. A model of the whole
shape that is to be pruned is timed among them.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.packages import is_installed, package_version
from edgebert.core.progress import Progress, ProgressStep
from edgebert.core.store import Artifact, ArtifactStore, Draft, MadeBy, hash_json
from edgebert.errors import MissingPackage, StageError
from edgebert.measure.latency.latency import query_order, rotated
from edgebert.measure.latency.process import module_command
from edgebert.models.sizes import Shape
from edgebert.report.environment import Environment
from edgebert.runtimes import get_runtime
from edgebert.runtimes.facts import ONNX, LayerEffort
from edgebert.runtimes.target import Target
from edgebert.stages.prune.latency import layer_worker
from edgebert.stages.prune.latency.latency_table import Array, LatencyTable, Precision, read_table, write_table
from edgebert.stages.prune.latency.layer_fit import Stack, fit, heads_grid, length_grid, neurons_grid, plan_stacks
from edgebert.stages.prune.latency.layer_graphs import VOCABULARY, GraphSizes, StackSizes, stack, write_graph
from edgebert.stages.prune.latency.layer_worker import LayerJob, random_texts
from edgebert.stages.quantize.method import Method
from edgebert.stages.quantize.methods import usual_method
from edgebert.stages.quantize.settings import Settings

VERSION = 2
TABLE_FILE = "table.json"
CALIBRATION = 2
"""Random texts that calibrate NNCF: ranges change a model's answers, not its latency."""


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
    """The latency table of this machine, from the store or measured now.

    Args:
        shape: shape of the model that is to be pruned, the largest that costs are asked for.
        target: the target, whose runtime, threads, batch and optimisers are measured.
        precision: for int8, models are quantised by the method that `auto` tries first for the target's runtime.
        lengths: padded tokens of each query, from `served_lengths`.
        remeasure: drop the table in the store.

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
    """Number of tokens that each query is padded to, for queries of `target.batch` texts in the order of their timing.

    Args:
        lengths: tokens of each text of the data, one or more texts, at most `max_length` each.
        seed: draws the order, which decides the texts that share a query.
    """
    queries = -(-len(lengths) // target.batch)
    order = query_order(len(lengths), queries * target.batch, seed)
    groups = [order[start : start + target.batch] for start in range(0, len(order), target.batch)]
    return [target.padded_length(max(lengths[index] for index in group), max_length) for group in groups]


@dataclass(frozen=True)
class _Measurement:
    """One measurement of a table."""

    shape: Shape
    target: Target
    precision: Precision
    lengths: tuple[int, ...]
    progress: Progress

    @property
    def effort(self) -> LayerEffort:
        """The effort of the target's runtime."""
        return get_runtime(self.target.runtime).layer_effort

    @property
    def disabled_optimizers(self) -> tuple[str, ...]:
        """Optimisers that the target runs without, for a runtime that has such an option."""
        return tuple(getattr(self.target.options, "disabled_optimizers", ()))

    @property
    def heads(self) -> tuple[int, ...]:
        """Numbers of heads to measure."""
        return heads_grid(max(self.shape.heads), self.effort.heads)

    @property
    def neurons(self) -> tuple[int, ...]:
        """Numbers of FFN neurons to measure."""
        return neurons_grid(max(self.shape.intermediate_sizes), self.effort.widths)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the table, except the machine."""
        return {
            "check": "latency-table",
            "runtime": self.target.runtime,
            "runtime_version": package_version(get_runtime(self.target.runtime).package),
            "precision": self.precision,
            "threads": self.target.threads,
            "batch": self.target.batch,
            "bucket": self.target.bucket,
            "disabled_optimizers": list(self.disabled_optimizers),
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
        """Sizes of the model that is to be pruned."""
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
        runtime = get_runtime(self.target.runtime)
        runtime.require()
        quantiser = self._method.packages if self.precision == "int8" else ()
        for package in ("onnx", *runtime.converter_packages, *quantiser):
            if not is_installed(package):
                raise MissingPackage(package, needed_for="A latency table")

    @property
    def _method(self) -> type[Method]:
        """The method that models are quantised by: the first that `auto` tries."""
        method = usual_method(get_runtime(self.target.runtime).format)
        if method is None:
            raise StageError(f"No quantisation method is tried for {self.target.runtime}, so INT8 layers cannot be timed.")
        return method

    def _model(self, sizes: GraphSizes, folder: Path) -> Path:
        """Builds a model in the folder; returns the file that the target's runtime opens."""
        graph = folder / "model.onnx"
        write_graph(sizes, graph)
        source = graph
        runtime = get_runtime(self.target.runtime)
        if runtime.format != ONNX:
            source = folder / runtime.model_file
            runtime.convert(graph, folder)
            graph.unlink()
        if self.precision == "fp32":
            return source
        (folder / "int8").mkdir()
        texts = random_texts(CALIBRATION, self.lengths[0], VOCABULARY)
        self._method().quantize(source, folder / "int8", Settings(calibration=texts))
        source.unlink()
        return folder / "int8" / source.name

    def _time(self, models: Sequence[Path]) -> Array:
        """Latencies in milliseconds, of shape (rounds, models, lengths)."""
        points = len(models) * len(self.lengths)
        latencies = np.full((self.effort.rounds, len(models), len(self.lengths)), np.nan)
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
                for index, length, nanoseconds in _run(job, step):
                    latencies[number, index, self.lengths.index(length)] = nanoseconds / 1e6
        return latencies

    def _table(self, stacks: Sequence[Stack], rounds: Array) -> LatencyTable:
        fastest = rounds.min(axis=0)
        *parts, whole = fastest
        fits = [fit(stacks, column, self.heads, self.neurons) for column in np.transpose(parts)]
        return LatencyTable(
            runtime=self.target.runtime,
            precision=self.precision,
            threads=self.target.threads,
            batch=self.target.batch,
            bucket=self.target.bucket,
            disabled_optimizers=self.disabled_optimizers,
            hidden_size=self.shape.hidden_size,
            head_size=self.shape.head_size,
            lengths=self.lengths,
            heads=self.heads,
            neurons=self.neurons,
            attention_ms=tuple(one.attention for one in fits),
            ffn_ms=tuple(one.ffn for one in fits),
            rest_ms=tuple(one.rest for one in fits),
            whole_ms=tuple(map(float, whole)),
            spread=round(float(np.median(np.median(rounds, axis=0) / fastest - 1)), 4),
        )


def _run(job: LayerJob, step: ProgressStep) -> list[tuple[int, int, int]]:
    """Runs one round in a fresh process; `step` advances with every line that it prints.

    Raises:
        StageError: the process failed; the message holds its last line of output.
    """
    command = module_command(layer_worker)
    timings: list[tuple[int, int, int]] = []
    with (
        tempfile.TemporaryFile("w+") as faults,  # a pipe that nobody reads would fill
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=faults, text=True) as process,
    ):
        assert process.stdin and process.stdout
        try:
            process.stdin.write(job.model_dump_json())
            process.stdin.close()
            for line in process.stdout:
                index, length, nanoseconds = json.loads(line)
                timings.append((index, length, nanoseconds))
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
    return timings
