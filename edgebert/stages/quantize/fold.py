"""Folds the weights of an ONNX graph in QDQ form: the FP32 weight before a QuantizeLinear becomes the INT8 weight behind it.

An exporter that writes quantisation as operators leaves the weights in FP32. A folded file is a quarter as large, and a
session opens faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgebert.tasks.base import Array

SEVEN_BITS = 127 / 63
"""Factor on the scales that keeps weights to 7 bits."""


@dataclass(frozen=True)
class Constants:
    """The constants of a GraphProto, and the readers of its values."""

    graph: Any

    @cached_property
    def by_name(self) -> dict[str, Any]:
        """Name of a constant -> its TensorProto."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    @cached_property
    def readers(self) -> dict[str, list[Any]]:
        """Name of a value -> nodes that read it."""
        readers: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return readers

    def value(self, name: str) -> Array:
        """A constant as an array."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self.by_name[name]))

    def add(self, name: str, value: Array) -> str:
        """Adds a constant; returns its name, which ends in a number where the name was taken."""
        from onnx import numpy_helper

        taken = self.by_name
        free = (
            name if name not in taken else next(f"{name}_{n}" for n in range(2, len(taken) + 3) if f"{name}_{n}" not in taken)
        )
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), free))
        self.by_name[free] = self.graph.initializer[-1]
        return free

    def only_reader(self, name: str, kind: str) -> Any | None:
        """The only node that reads a value, if it is of that kind; else None."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None

    def drop_unread(self) -> None:
        """Removes the constants that no node reads."""
        read = {name for node in self.graph.node for name in node.input} | {value.name for value in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)


def fold_weights(graph: Any, *, reduce_range: bool = False) -> int:
    """Makes INT8 constants of FP32 constants behind QuantizeLinear; clips and transposes of them are folded too.

    Args:
        reduce_range: about double the scales, so that weights keep to 7 bits.

    Returns:
        Number of weights that were folded.
    """
    constants = Constants(graph)
    folded, gone = 0, []
    for node in graph.node:
        if node.op_type != "QuantizeLinear" or not all(name in constants.by_name for name in node.input):
            continue
        clip = constants.only_reader(node.output[0], "Clip")
        restored = constants.only_reader((clip or node).output[0], "DequantizeLinear")
        if restored is None:
            continue
        gone += [node, *([clip] if clip else []), *_fold(constants, node, clip, restored, reduce_range=reduce_range)]
        folded += 1
    for node in gone:
        graph.node.remove(node)
    constants.drop_unread()
    return folded


def _fold(constants: Constants, node: Any, clip: Any | None, restored: Any, *, reduce_range: bool) -> list[Any]:
    """Lets DequantizeLinear read an INT8 constant. Returns the transpose folded into the constant, if any."""
    weight, scale = (constants.value(name) for name in node.input[:2])
    scale = scale * np.float32(SEVEN_BITS) if reduce_range else scale
    zero = constants.value(node.input[2]) if len(node.input) > 2 else np.zeros(scale.shape, np.uint8)
    axis = _attributes(node).get("axis", 1) % weight.ndim
    shape = [-1 if index == axis else 1 for index in range(weight.ndim)] if scale.ndim else []
    lowest, highest = _bounds(constants, zero, clip)
    value = np.rint(weight / scale.reshape(shape)) + zero.reshape(shape)  # half to even, as QuantizeLinear does
    value = np.clip(value, lowest, highest).astype(zero.dtype)
    transpose = constants.only_reader(restored.output[0], "Transpose")
    gone = []
    if transpose is not None and value.ndim == 2 and list(_attributes(transpose).get("perm", (1, 0))) == [1, 0]:
        value, axis = value.T, 1 - axis
        restored.output[0] = transpose.output[0]
        gone.append(transpose)
    name = node.input[0]
    restored.input[0] = constants.add(f"{name}_quantized", value)
    restored.input[1] = constants.add(f"{name}_scale", scale)
    del restored.input[2:]
    restored.input.append(constants.add(f"{name}_zero_point", zero))
    _set_axis(restored, axis)
    return gone


def _bounds(constants: Constants, zero: Array, clip: Any | None) -> tuple[int, int]:
    """The lowest and the highest integer of a weight: the limits of its type, or of a Clip behind it."""
    kind = np.iinfo(zero.dtype)
    limits = [kind.min, kind.max]
    for index, name in enumerate(clip.input[1:3] if clip else ()):
        limits[index] = int(constants.value(name)) if name else limits[index]
    return limits[0], limits[1]


def _attributes(node: Any) -> Mapping[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _set_axis(node: Any, axis: int) -> None:
    from onnx import helper

    kept = [attribute for attribute in node.attribute if attribute.name != "axis"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("axis", axis)])
