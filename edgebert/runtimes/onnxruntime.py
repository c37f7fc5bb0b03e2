"""ONNX Runtime on the CPU. Its options are fields of `Target` in target.py, applied here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.errors import BundleError
from edgebert.runtimes.base import Array, Runtime, Session
from edgebert.runtimes.target import Target


def session_options(target: Target) -> Any:
    """Options of every session of a target: an onnxruntime.SessionOptions."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = target.arena
    if not target.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if target.denormals_as_zero:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def open_session(model: Path, target: Target, options: Any) -> Any:
    """An onnxruntime.InferenceSession, without the optimisers that the target disables.

    Raises:
        BundleError: ONNX Runtime cannot open the file.
    """
    import onnxruntime as ort

    try:
        return ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(target.disabled_optimizers)
        )
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
    format = "onnx"
    model_file = "model.onnx"
    package = "onnxruntime"
    extra = "compress"

    def open(self, model: Path, target: Target) -> Session:
        """Opens an ONNX file; its external data, if any, lies beside it."""
        self.require()
        return OnnxRuntimeSession(model, target)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [error.__class__.__name__])[0]
