"""OpenVINO on the CPU, with one compiled graph for each padded length; and how an IR is written.

A graph with dynamic shapes works too, but every new length stalls it (p90 of five times the median), so each (batch, length)
that the target pads to gets its own static graph: compiled in `prepare`, or at first use.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgebert.core.interrupts import signal_stack_kept
from edgebert.core.packages import quiet_libraries, switch_off_telemetry
from edgebert.errors import BundleError, SourceError, StageError
from edgebert.runtimes.base import Array, Held, Runtime, Session, Shapes
from edgebert.runtimes.facts import HubNames, LayerEffort, RuntimeOptions, Tunable
from edgebert.runtimes.isa import host_cpu
from edgebert.runtimes.target import Target

MAX_GRAPHS = 128  # compiled shapes kept at once; the oldest goes first


class OpenVinoOptions(RuntimeOptions):
    """Options of a compiled graph."""

    default_bucket: ClassVar[int] = 8
    precision: Literal["f32", "bf16"] = Field(
        "f32", description="format of all but INT8. bf16 is faster on CPUs that have it. FP32 always runs in f32."
    )


def options_of(target: Target) -> OpenVinoOptions:
    """The target's options; the defaults where it is another runtime's."""
    return target.options if isinstance(target.options, OpenVinoOptions) else OpenVinoOptions()


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

    def __init__(self, model: Path, threads: int, precision: str, held: Held | None = None, *, fused: bool = True) -> None:
        """Reads a model.

        Args:
            fused: whether the plugin may fuse operators into kernels that it makes itself, as it does by default.
        """
        switch_off_telemetry()
        import openvino as ov

        self._core = ov.Core()
        self._settings = {**compile_settings(threads, precision), **({} if fused else {"SNIPPETS_MODE": "DISABLE"})}
        if held is not None:  # a mapped copy would stay in memory, beside the weights, for as long as the session
            self._core.set_property({"ENABLE_MMAP": False})
        try:
            self._model = self._core.read_model(*_paths(model, held))
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


def _paths(model: Path, held: Held | None) -> list[str]:
    """Paths of a graph and, where they are held, of its weights, which OpenVINO would look for beside it."""
    if held is None:
        return [str(model)]
    return [str(held[name]) for name in (model.name, model.with_suffix(".bin").name) if name in held]


class OpenVino(Runtime):
    """Opens `openvino_model.xml`, its weights in the .bin beside it."""

    name = "openvino"
    title = "OpenVINO"
    options = OpenVinoOptions
    format = "openvino"
    model_file = "openvino_model.xml"
    file_title = "an OpenVINO IR"
    opens = (".xml", ".onnx")
    container = "xml"
    hub = HubNames("openvino", "openvino_model", "openvino_model_qint8_quantized.xml")
    package = "openvino"
    extra = "openvino"
    device_extra = "openvino"
    converter_packages = ("openvino",)
    compiles_each_shape = True
    products_reader = "edgebert.measure.coverage.openvino_products"
    # Compiles every model at every length in every round, and NNCF takes seconds for each model.
    layer_effort = LayerEffort(rounds=2, heads=5, widths=6, seconds=15)

    def import_package(self) -> None:
        """Imports openvino, which sends no telemetry afterwards."""
        switch_off_telemetry()
        super().import_package()

    def open(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens an OpenVINO IR."""
        self.require()
        return OpenVinoSession(model, target.threads, options_of(target).precision, held)

    def convert(self, graph: Path, folder: Path) -> None:
        """Writes an FP32 IR."""
        convert_to_openvino(graph, folder / self.model_file)

    def tunables(self, target: Target) -> Sequence[Tunable]:
        """Length buckets, unless the target fixes them, and bfloat16 where the CPU has it."""
        fixed = target.length_bucket or target.padding == "max_length"
        options = [] if fixed else [Tunable(f"buckets of {step} tokens", {"length_bucket": step}) for step in (4, 16)]
        coarse = Tunable("bfloat16 beside INT8", {"precision": "bf16"}, changes_answers=True)
        return [*options, *([coarse] if host_cpu().bfloat16 else [])]

    def input_shapes(self, model: Path, target: Target, held: Held | None = None) -> Shapes:
        """Shapes as the IR has them; None for a size that is not fixed."""
        import openvino as ov

        try:
            ports = ov.Core().read_model(*_paths(model, held)).inputs
        except RuntimeError as error:  # its first lines name its own source, the last one what it could not do
            hint = "Write it again with openvino.save_model(), and copy the .xml and the .bin together."
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[-1].rstrip(".").partition(" Please check")[0] if lines else "no reason given"
            raise SourceError(f"OpenVINO cannot open {model}: {reason}.", hint=hint) from error
        return {
            port.get_any_name(): [size.get_length() if size.is_static else None for size in port.get_partial_shape()]
            for port in ports
        }


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


def convert_to_openvino(graph: Path, target: Path) -> None:
    """ONNX -> OpenVINO IR, FP32.

    Args:
        target: the .xml; its .bin is written beside it.

    Raises:
        StageError: OpenVINO cannot convert it.
    """
    try:
        with quiet_libraries():
            import openvino as ov

            save_ir(ov.convert_model(str(graph)), target)
    except RuntimeError as error:
        raise StageError(f"The conversion of {graph} to OpenVINO failed: {str(error).splitlines()[0]}") from error
