"""Calibration: runs an FP32 graph on examples and passes its inner tensors to observers, which return their ranges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgebert.errors import StageError
from edgebert.stages.quantize.observers import Observer, Range

ACTIVATION_BYTES = 1 << 30
"""Most bytes of observed activations of one example in a session; more tensors are observed in further passes."""
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

    Only one batch's activations are in memory at a time, at most `limit` bytes of them (or one larger tensor): other tensors
    are observed in further passes over the batches.

    Args:
        model: an ONNX model, with its weights.
        tensors: names of FP32 tensors in it.
        batches: input name -> array of shape (1, tokens).
        observer: makes an observer for the tensor of a name.

    Returns:
        tensor -> (low, high).

    Raises:
        StageError: a tensor holds a NaN or an infinity.
    """
    longest = max(batch["input_ids"].shape[-1] for batch in batches)
    sizes = activation_bytes(model, longest)
    observers = {name: observer(name) for name in tensors}
    for group in grouped({name: sizes.get(name, 0) for name in tensors}, limit):
        session = _session(model, group)
        known = {value.name for value in session.get_inputs()}
        for number, batch in enumerate(batches, start=1):
            activations = session.run(group, {name: value for name, value in batch.items() if name in known})
            for name, values in zip(group, activations, strict=True):
                _require_finite(name, values, number)
                observers[name].observe(values)
            del activations, values
    return {name: seen.range() for name, seen in observers.items()}


def activation_bytes(model: Any, tokens: int) -> dict[str, int]:
    """Bytes of each FP32 tensor whose shape is known, for one text of this many tokens."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    byte_sizes = {}
    for value in (*graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = [_dimension(dimension, tokens) for dimension in value.type.tensor_type.shape.dim]
            byte_sizes[value.name] = FP32_BYTES * math.prod(sizes)
    return byte_sizes


def _dimension(dimension: Any, tokens: int) -> int:
    """The size of a dimension. A named dimension is the batch, which is 1, or the number of tokens."""
    if dimension.HasField("dim_value"):
        return int(dimension.dim_value)
    return 1 if dimension.dim_param == "batch" else tokens


def grouped(sizes: Mapping[str, int], limit: int) -> Iterator[list[str]]:
    """Yields the names in order, in groups whose sizes sum to at most `limit`, or of a single larger name."""
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
    """A session of the graph whose only outputs are these tensors."""
    import onnx
    import onnxruntime as ort

    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # an arena keeps the memory of the largest example for every length
    options.enable_mem_pattern = False
    return ort.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _require_finite(name: str, values: Any, number: int) -> None:
    if not math.isfinite(values.min()) or not math.isfinite(values.max()):  # the extremes of an array with a NaN are NaN
        raise StageError(
            f"The activation {name} is not a finite number for calibration example {number}, so it has no range.",
            hint="Look for NaN or infinity in the model's weights; a model trained in FP16 may overflow: check it in FP32.",
        )
