"""OpenVINO on the CPU, with one compiled graph for each padded length; and how an IR is written.

A graph with dynamic shapes works too, but every new length stalls it (p90 of five times the median), so each (batch, length)
that the target pads to gets its own static graph: compiled in `prepare`, or at first use.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgebert.core.interrupts import signal_stack_kept
from edgebert.core.packages import switch_off_telemetry
from edgebert.errors import BundleError
from edgebert.runtimes.base import Array, Runtime, Session
from edgebert.runtimes.target import Target

MAX_GRAPHS = 128  # compiled shapes kept at once; the oldest goes first


def compile_settings(threads: int, precision: str) -> dict[str, Any]:
    """Settings that every graph of a target is compiled with."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Without it the plugin may pick bf16 on CPUs that have it, and FP32 would not be FP32.
        "INFERENCE_PRECISION_HINT": precision,
    }


class Graph:
    """One compiled shape. A request answers one query at a time, so a caller holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.request: Any = None


class OpenVinoSession(Session):
    """One model, compiled for each shape that it is asked."""

    def __init__(self, model: Path, threads: int, precision: str) -> None:
        switch_off_telemetry()
        import openvino as ov

        self._core = ov.Core()
        self._settings = compile_settings(threads, precision)
        try:
            self._model = self._core.read_model(str(model))
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot open {model}: {str(error).splitlines()[0]}") from error
        self._inputs = {port.get_any_name() for port in self._model.inputs}
        self._outputs = [port.get_any_name() for port in self._model.outputs]
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._lock = threading.Lock()  # guards the table of graphs, and the model that they are made from

    def prepare(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Compiles the graphs of the given (batch, length) shapes."""
        for shape in sorted(set(shapes)):
            graph = self._graph(shape)
            with graph.lock:
                self._request(shape, graph)

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch."""
        feeds = {name: value for name, value in batch.items() if name in self._inputs}
        rows, length = next(iter(feeds.values())).shape
        shape = int(rows), int(length)
        graph = self._graph(shape)
        with graph.lock:
            request = self._request(shape, graph)
            request.infer(feeds, share_inputs=True)
            return {name: request.get_output_tensor(index).data.copy() for index, name in enumerate(self._outputs)}

    def compiled(self, shape: tuple[int, int]) -> tuple[Any, Any]:
        """The graph of a (batch, length) as it was read and as it runs: an openvino.Model and an openvino.CompiledModel."""
        graph = self._graph(shape)
        with graph.lock:
            return self._fixed(shape), self._request(shape, graph).get_compiled_model()

    def _fixed(self, shape: tuple[int, int]) -> Any:
        with self._lock:
            fixed = self._model.clone()
        fixed.reshape({name: list(shape) for name in self._inputs})
        return fixed

    def _graph(self, shape: tuple[int, int]) -> Graph:
        with self._lock:
            if shape not in self._graphs:
                if len(self._graphs) >= MAX_GRAPHS:
                    del self._graphs[next(iter(self._graphs))]
                self._graphs[shape] = Graph()
            return self._graphs[shape]

    def _request(self, shape: tuple[int, int], graph: Graph) -> Any:
        """The request of a graph, compiled at first use; callers of the same shape wait meanwhile, others do not."""
        if graph.request is None:
            with signal_stack_kept():
                compiled = self._core.compile_model(self._fixed(shape), "CPU", self._settings)
                graph.request = compiled.create_infer_request()
        return graph.request


class OpenVino(Runtime):
    """Opens `openvino_model.xml`, its weights in the .bin beside it."""

    name = "openvino"
    format = "openvino"
    model_file = "openvino_model.xml"
    package = "openvino"
    extra = "openvino"

    def open(self, model: Path, target: Target) -> Session:
        """Opens an OpenVINO IR."""
        self.require()
        return OpenVinoSession(model, target.threads, target.precision)


COUNTED_NAME = re.compile(r"([A-Z][A-Za-z]*)_\d+")
"""Name that OpenVINO gave a node by its counter."""


def save_ir(model: Any, target: Path) -> None:
    """Writes an .xml and its .bin, FP32 kept.

    OpenVINO names the nodes that it adds by a counter of the process, so that a file would depend on what the process did
    before: such nodes are named by their index instead.
    """
    import openvino as ov

    for index, node in enumerate(model.get_ordered_ops()):
        if counted := COUNTED_NAME.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{counted[1]}_{index}")
    ov.save_model(model, str(target), compress_to_fp16=False)
