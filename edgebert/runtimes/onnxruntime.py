"""ONNX Runtime on the CPU."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from mmap import ACCESS_COPY, mmap
from pathlib import Path
from typing import Any

from pydantic import Field

from edgebert.errors import BundleError, EnvironmentFault
from edgebert.runtimes.base import Array, Held, Runtime, Session, Shapes
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
    for name, value in session_entries(target).items():
        options.add_session_config_entry(name, value)
    return options


def session_entries(target: Target) -> dict[str, str]:
    """Entries of a session's configuration, by ONNX Runtime's names, that a target's options ask for."""
    wanted = options_of(target)
    asked = {
        "session.intra_op.allow_spinning": None if wanted.spinning else "0",
        "session.set_denormal_as_zero": "1" if wanted.denormals_as_zero else None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def open_session(model: Path, target: Target, options: Any, held: Held | None = None) -> Any:
    """An onnxruntime.InferenceSession, without the optimisers that the target disables.

    Args:
        held: see `Runtime.open`.

    Raises:
        BundleError: ONNX Runtime cannot open the file.
        EnvironmentFault: there is no room for a copy of the weights that a graph keeps in other files.
    """
    import onnxruntime as ort

    off = list(options_of(target).disabled_optimizers)
    try:
        with _given(options, model, held or {model.name: model}) as path:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=off)
    except EnvironmentFault:
        raise
    except Exception as error:  # ONNX Runtime has a class of its own for every kind of bad file
        raise BundleError(f"ONNX Runtime cannot open {model}: {_first_line(error)}") from error


@contextmanager
def _given(options: Any, model: Path, held: Held) -> Iterator[Path]:
    """A path that opens a graph, of which a session also gets the files of weights: by itself it looks for them by name."""
    weights = {name: file for name, file in held.items() if name != model.name}
    if weights and not hasattr(options, "add_external_initializers_from_files_in_memory"):
        with _in_one_folder(held) as folder:
            yield folder / model.name
        return
    with _given_weights(options, weights):
        yield held[model.name]


@contextmanager
def _in_one_folder(held: Held) -> Iterator[Path]:
    """Copies files under their names into a folder of this user alone; before 1.24 no weights are taken from memory.

    Raises:
        EnvironmentFault: there is no room.
    """
    with tempfile.TemporaryDirectory(prefix="edgebert-", ignore_cleanup_errors=True) as folder:
        try:
            for name, file in held.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, Path(folder) / name)
        except OSError as error:
            reason = f"The graph's weights cannot be copied into {folder}: {error.strerror}."
            raise EnvironmentFault(reason, hint="pip install --upgrade onnxruntime takes them from memory.") from error
        yield Path(folder)


@contextmanager
def _given_weights(options: Any, weights: Held) -> Iterator[None]:
    if not weights:
        yield
        return
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in weights.values()]
        data = [stack.enter_context(mmap(file.fileno(), 0, access=ACCESS_COPY)) for file in files]
        options.add_external_initializers_from_files_in_memory(list(weights), data, list(map(len, data)))
        yield


class OnnxRuntimeSession(Session):
    """One InferenceSession."""

    def __init__(self, model: Path, target: Target, held: Held | None = None) -> None:
        self._session = open_session(model, target, session_options(target), held)
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

    def open(self, model: Path, target: Target, held: Held | None = None) -> Session:
        """Opens an ONNX file; its external data, if any, lies beside it or is held."""
        self.require()
        return OnnxRuntimeSession(model, target, held)

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

    def with_spinning(self, target: Target, spinning: bool) -> Target:
        """The target with that option."""
        return target.model_copy(update={"options": options_of(target).model_copy(update={"spinning": spinning})})

    def input_shapes(self, model: Path, target: Target, held: Held | None = None) -> Shapes:
        """Shapes as the session tells them."""
        inputs = open_session(model, target, session_options(target), held).get_inputs()
        return {value.name: list(value.shape) for value in inputs}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [error.__class__.__name__])[0]
