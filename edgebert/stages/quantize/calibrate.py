"""Calibration: runs an FP32 graph over examples and lets observers see its inner tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgebert.errors import StageError
from edgebert.stages.quantize.observers import Observer, Range

ACTIVATION_BYTES = 1 << 30
"""Observed activations of one example that a session may hold; beyond it the tensors are observed in turns."""
FP32_BYTES = 4


def tensor_ranges(
    model: Any,
    tensors: Sequence[str],
    batches: Sequence[Mapping[str, Any]],
    observer: Callable[[str], Observer],
    *,
    limit: int = ACTIVATION_BYTES,
) -> dict[str, Range]:
    """The range of each tensor over all batches.

    Only one batch's activations are in memory at a time, `limit` bytes of them at most (or one tensor, where it alone is
    larger): tensors that do not fit are observed in another pass over the batches.

    Args:
        model: an ONNX model, with its weights.
        tensors: names of FP32 tensors in it.
        batches: input name -> array of shape (1, tokens).
        observer: makes the observer of a tensor, by its name.

    Returns:
        tensor -> (low, high).

    Raises:
        StageError: a tensor holds what is not a finite number.
    """
    longest = max(batch["input_ids"].shape[-1] for batch in batches)
    sizes = activation_bytes(model, longest)
    observers = {name: observer(name) for name in tensors}
    for group in grouped({name: sizes.get(name, 0) for name in tensors}, limit):
        session = _session(model, group)
        known = {value.name for value in session.get_inputs()}
        for number, batch in enumerate(batches, start=1):
            found = session.run(group, {name: value for name, value in batch.items() if name in known})
            for name, values in zip(group, found, strict=True):
                _require_finite(name, values, number)
                observers[name].observe(values)
            del found, values
    return {name: seen.range() for name, seen in observers.items()}


def activation_bytes(model: Any, tokens: int) -> dict[str, int]:
    """Bytes of each FP32 tensor whose shape is known, for one text of so many tokens."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = [_dimension(dimension, tokens) for dimension in value.type.tensor_type.shape.dim]
            found[value.name] = FP32_BYTES * math.prod(sizes)
    return found


def _dimension(dimension: Any, tokens: int) -> int:
    """A size; what has a name only is the batch, which is 1, or counts tokens."""
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return 1 if dimension.dim_param == "batch" else tokens


def grouped(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Names in order, in groups whose sizes sum to `limit` at most, or of one name that is larger."""
    group: list[str] = []
    held = 0
    for name, size in sizes.items():
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group


def _session(model: Any, tensors: Sequence[str]) -> Any:
    """The graph with these tensors as its outputs and nothing more."""
    import onnx
    import onnxruntime as ort

    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # it keeps the largest example's memory, for each length again
    options.enable_mem_pattern = False
    return ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _require_finite(name: str, values: Any, number: int) -> None:
    if not math.isfinite(values.min()) or not math.isfinite(values.max()):  # NaN is the extreme of what holds one
        raise StageError(
            f"The activation {name} is not a finite number for calibration example {number}, so it has no range.",
            hint="Look for NaN or infinity in the model's weights; a model trained in FP16 may overflow: check it in FP32.",
        )
