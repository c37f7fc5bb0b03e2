"""Measures a latency table: stacks of equal layers with random weights take turns, in one fresh process a round.

Each stack counts with its quietest round. One least-squares fit takes the stacks' latencies apart:

    latency(stack) = rest + layers * (attention(heads) + ffn(neurons))

A model of the whole shape that is to be pruned is timed beside them, and kept as it was timed.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.libraries import package_version
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
LAYERS = 4
"""Of a stack: enough that the layers outweigh the rest, few enough that a BERT-base is measured in minutes."""
QUANTILES = (0.05, 0.5, 0.95)
"""Of the lengths: where the table is measured."""
NARROWEST = 16
"""FFN neurons of the smallest layer that is measured; fewer cost the same."""
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


def length_grid(lengths: Sequence[int]) -> tuple[int, ...]:
    """Quantiles of the lengths: those to measure at."""
    return tuple(sorted({int(length) for length in np.quantile(lengths, QUANTILES, method="nearest")}))


def heads_grid(most: int, count: int | None) -> tuple[int, ...]:
    """1 to `most` heads: all, or `count` of them, denser where there are few."""
    if count is None:
        return tuple(range(1, most + 1))
    return tuple(sorted({round(size) for size in np.geomspace(1, most, count)}))


def neurons_grid(most: int, count: int) -> tuple[int, ...]:
    """`count` widths up to `most` in about equal ratios, multiples of NARROWEST but for `most`."""
    if most <= NARROWEST:
        return (most,)
    inner = {round(size / NARROWEST) * NARROWEST for size in np.geomspace(NARROWEST, most, count)[:-1]}
    return (*sorted(size for size in inner if size < most), most)


@dataclass(frozen=True)
class Stack:
    """A model to time: `count` equal layers."""

    layer: StackSizes
    count: int


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
            if importlib.util.find_spec(package) is None:
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


def plan_stacks(heads: Sequence[int], neurons: Sequence[int]) -> list[Stack]:
    """The models that tell all sizes apart, each size beside one partner of a size that pruned layers have."""
    head, wide = _nearest(heads, heads[-1] / 3), _nearest(neurons, neurons[-1] / 4)
    return [
        *(Stack(StackSizes(count, wide), LAYERS) for count in heads),
        *(Stack(StackSizes(head, width), LAYERS) for width in neurons if width != wide),
        # One layer against four tells the rest from the layers,
        Stack(StackSizes(head, wide), 1),
        Stack(StackSizes(heads[0], neurons[0]), 1),
        # and a stack without FFNs tells the halves apart, which are only ever seen together otherwise.
        Stack(StackSizes(head, None), LAYERS),
        *([] if (heads[0], neurons[0]) == (head, wide) else [Stack(StackSizes(heads[0], neurons[0]), LAYERS)]),
    ]


def _nearest(grid: Sequence[int], value: float) -> int:
    return min(grid, key=lambda size: abs(size - value))


@dataclass(frozen=True)
class Fit:
    """Milliseconds at one length."""

    rest: float
    attention: tuple[float, ...]
    ffn: tuple[float, ...]


def fit(stacks: Sequence[Stack], latencies: Sequence[float] | Array, heads: Sequence[int], neurons: Sequence[int]) -> Fit:
    """Takes the latencies apart by least squares of the relative errors.

    A larger half never comes out cheaper than a smaller one: a search would pick every dip, and most dips are noise.

    Args:
        latencies: ms, one for each stack.
    """
    design = np.zeros((len(stacks), 1 + len(heads) + len(neurons)))
    design[:, 0] = 1
    for row, item in zip(design, stacks, strict=True):
        if item.layer.heads is not None:
            row[1 + heads.index(item.layer.heads)] = item.count
        if item.layer.neurons is not None:
            row[1 + len(heads) + neurons.index(item.layer.neurons)] = item.count
    scale = 1 / np.asarray(latencies)
    found: Array = np.linalg.lstsq(design * scale[:, None], np.ones(len(stacks)), rcond=None)[0].astype(np.float64)
    attention, ffn = found[1 : 1 + len(heads)], found[1 + len(heads) :]
    return Fit(max(0.0, float(found[0])), rising(attention), rising(ffn))


def rising(values: Sequence[float] | Array) -> tuple[float, ...]:
    """The nearest sequence, by squares, that does not fall and is not negative: neighbours out of order share their mean."""
    groups: list[tuple[float, int]] = []
    for value in values:
        mean, count = float(value), 1
        while groups and groups[-1][0] > mean:
            before, members = groups.pop()
            mean, count = (before * members + mean * count) / (members + count), members + count
        groups.append((mean, count))
    return tuple(max(0.0, mean) for mean, count in groups for _ in range(count))


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
