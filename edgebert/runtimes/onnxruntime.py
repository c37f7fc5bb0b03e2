"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from edgebert.errors import BundleError
from edgebert.runtimes.base import Array, Runtime, Session, Shapes
from edgebert.runtimes.facts import ONNX, HubNames, LayerEffort, RuntimeOptions, Tunable
from edgebert.runtimes.target import Target


class OnnxRuntimeOptions(RuntimeOptions):
    """Options of a session."""

    disabled_optimizers: tuple[str, ...] = Field(
        (),
        description="graph optimisers that candidates run without. Some, such as SkipLayerNormFusion and BiasGeluFusion, slow "
        "small INT8 models down. FP32 always runs with the runtime's defaults.",
    )
    spinning: bool = Field(True, description="threads wait for work in a loop, which is faster and keeps cores busy meanwhile.")
    denormals_as_zero: bool = Field(False, description="numbers under 1e-38 count as 0.")
    arena: bool = Field(True, description="freed memory is kept for the next query.")


def options_of(target: Target) -> OnnxRuntimeOptions:
    """The target's options; the defaults where it is another runtime's."""
    return target.options if isinstance(target.options, OnnxRuntimeOptions) else OnnxRuntimeOptions()


def session_options(target: Target) -> Any:
    """Options of every session of a target: an onnxruntime.SessionOptions."""
    import onnxruntime as ort

    wanted, options = options_of(target), ort.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = wanted.arena
    if not wanted.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if wanted.denormals_as_zero:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def open_session(model: Path, target: Target, options: Any) -> Any:
    """An onnxruntime.InferenceSession, without the optimisers that the target disables.

    Raises:
        BundleError: ONNX Runtime cannot open the file.
    """
    import onnxruntime as ort

    off = list(options_of(target).disabled_optimizers)
    try:
        return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=off)
    except Exception as error:  # ONNX Runtime has a class of its own for every kind of bad file
        raise BundleError(f"ONNX Runtime cannot open {model}: {_first_line(error)}") from error


class OnnxRuntimeSession(Session):
    """One InferenceSession."""

    def __init__(self, model: Path, target: Target) -> None:
        self._session = open_session(model, target, session_options(target))
        self._inputs = {value.name for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]

    def predict(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Runs one batch."""
        feeds = {name: value for name, value in batch.items() if name in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, feeds), strict=True))


class OnnxRuntime(Runtime):
    """Opens `model.onnx`."""

    name = "onnxruntime"
    title = "ONNX Runtime"
    options = OnnxRuntimeOptions
    format = ONNX
    model_file = "model.onnx"
    file_title = "an ONNX file"
    opens = (".onnx",)
    container = "onnx"
    hub = HubNames("onnx", "model", "model_quantized.onnx")
    package = "onnxruntime"
    extra = "compress"
    operators = frozenset({"attention"})
    products_reader = "edgebert.measure.coverage.onnx_products"
    layer_effort = LayerEffort(rounds=8, heads=None, widths=8, seconds=25)

    def open(self, model: Path, target: Target) -> Session:
        """Opens an ONNX file; its external data, if any, lies beside it."""
        self.require()
        return OnnxRuntimeSession(model, target)

    def tunables(self, target: Target) -> Sequence[Tunable]:
        """Fusions that slow small INT8 models down, and settings of threads and memory."""
        options = [
            Tunable("without SkipLayerNormFusion", {"disabled_optimizers": ("SkipLayerNormFusion",)}),
            Tunable("without BiasGeluFusion", {"disabled_optimizers": ("BiasGeluFusion",)}),
            Tunable("denormals as zero", {"denormals_as_zero": True}),
            Tunable("without an arena", {"arena": False}),
        ]
        if target.threads > 1:
            options.append(Tunable("threads that sleep between queries", {"spinning": False}))
            options.append(Tunable(f"{target.threads // 2} of {target.threads} threads", {"threads": target.threads // 2}))
        return options

    def input_shapes(self, model: Path, target: Target) -> Shapes:
        """Shapes as the session tells them."""
        inputs = open_session(model, target, session_options(target)).get_inputs()
        return {value.name: list(value.shape) for value in inputs}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [error.__class__.__name__])[0]
