"""BERTs of chosen sizes with random weights, as ONNX graphs with the operators of edgebert's own export in the same order.

The latency of a layer depends on its sizes and operators, not on its weights. `write_graph` therefore makes models with
the latency of real ones, in milliseconds and without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VOCABULARY = 1024
"""Rows of the word table. Its size hardly matters: a lookup reads one row for each token of the text."""
LABELS = 2
OPSET = 20
IR_VERSION = 10
EPSILON = 1e-12
SPREAD = 0.02
"""Standard deviation of the weights, as BERT's: no value explodes or vanishes, and no denormals slow the arithmetic."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StackSizes:
    """Sizes of one encoder layer. None leaves a half out, as no BERT does, to separate the costs of the halves."""

    heads: int | None
    neurons: int | None


@dataclass(frozen=True)
class GraphSizes:
    """Sizes of a whole model: embeddings, layers (none, perhaps), pooler and classifier."""

    hidden_size: int
    head_size: int
    layers: tuple[StackSizes, ...]
    positions: int
    """Longest text in tokens."""


def stack(hidden_size: int, head_size: int, layer: StackSizes, count: int, positions: int) -> GraphSizes:
    """Sizes of a model of `count` equal layers, each with weights of its own."""
    return GraphSizes(hidden_size, head_size, (layer,) * count, positions)


def write_graph(sizes: GraphSizes, target: Path, *, seed: int = 0) -> None:
    """Writes a model with dynamic batch and length: int64 inputs (batch, sequence), output `logits` (batch, 2).

    Args:
        seed: draws the weights; equal sizes and seeds give equal files.

    Raises:
        OSError: the file cannot be written.
    """
    import onnx

    onnx.save(build_graph(sizes, seed=seed), target)


def build_graph(sizes: GraphSizes, *, seed: int = 0) -> Any:
    """The model of `write_graph` as an onnx.ModelProto."""
    from onnx import TensorProto, helper

    builder = _GraphBuilder(sizes, np.random.default_rng(seed))
    hidden = builder.embeddings()
    mask = builder.mask() if sizes.layers else ""
    for index, layer in enumerate(sizes.layers):
        hidden = builder.layer(index, layer, hidden, mask)
    builder.classifier(hidden)
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        builder.nodes,
        "edgebert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", LABELS])],
        builder.initializers,
        value_info=builder.shapes,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


class _GraphBuilder:
    """Appends nodes in the order of the export. Methods return the name of their output."""

    def __init__(self, sizes: GraphSizes, generator: np.random.Generator) -> None:
        self._sizes = sizes
        self._generator = generator
        self._known: set[str] = set()
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.shapes: list[Any] = []

    def embeddings(self) -> str:
        """Word, segment and position embeddings, summed and normalised: (batch, sequence, hidden)."""
        hidden = self._sizes.hidden_size
        positions = self._constant("position_ids", np.arange(self._sizes.positions, dtype=np.int64)[None])
        batch = self._node("Shape", "token_type_ids", out="batch_size", start=0, end=1)
        self._node("Squeeze", batch, out="rows")
        length = self._node("Shape", "token_type_ids", out="length", start=1, end=2)
        self._node("Squeeze", length, out="columns")
        one = self._constant("one", np.array([1], np.int64))
        used = self._node("Slice", positions, self._constant("zero", np.array([0], np.int64)), length, one, one)
        words = self._node("Gather", self._weights("words", VOCABULARY, hidden), "input_ids", axis=0)
        segments = self._node("Gather", self._weights("segments", 2, hidden), "token_type_ids", axis=0)
        total = self._node("Add", words, segments)
        position_rows = self._node("Gather", self._weights("positions", self._sizes.positions, hidden), used, axis=0)
        summed = self._normalised("embeddings", self._node("Add", total, position_rows))
        return self._shaped(summed, "batch", "sequence", hidden)

    def mask(self) -> str:
        """0 where a token may be attended to, else the lowest float: (batch, 1, sequence, sequence) when broadcast."""
        zero = self._constant("index_zero", np.array(0, np.int64))
        one = self._constant("index_one", np.array(1, np.int64))
        first = self._constant("first", np.array([1, 2], np.int64))
        front = self._constant("front", np.array([0, 1], np.int64))
        second = self._constant("axis_2", np.array([2], np.int64))
        third = self._constant("axis_3", np.array([3], np.int64))
        last = self._constant("last", np.array([-1], np.int64))
        given = self._node("Cast", "attention_mask", to=9)  # to bool
        rows = self._node("Range", zero, "rows", one)
        columns = self._node("Range", zero, "columns", one)
        rows = self._node("Unsqueeze", self._node("Unsqueeze", rows, first), third)
        columns = self._node("Unsqueeze", columns, front)
        queries = self._node("Unsqueeze", columns, third)
        keys = self._node("Unsqueeze", columns, second)
        seen = self._node("GreaterOrEqual", queries, zero)
        seen = self._node("And", self._constant("all", np.array(True)), seen)
        whole = self._node("Shape", self._node("Max", rows, keys), start=0)
        rows = self._node("Unsqueeze", self._node("Expand", rows, whole), last)
        keys = self._node("Unsqueeze", self._node("Expand", keys, whole), last)
        picked = self._node("GatherND", given, self._node("Concat", rows, keys, axis=-1), batch_dims=0)
        seen = self._node("And", seen, picked)
        nothing = self._constant("nothing", np.array(0, np.float32))
        least = self._constant("least", np.array(np.finfo(np.float32).min))
        return self._shaped(self._node("Where", seen, nothing, least), "batch", 1, "sequence", "sequence")

    def layer(self, index: int, sizes: StackSizes, hidden: str, mask: str) -> str:
        """Both halves of an encoder layer, or the one that has a size."""
        if sizes.heads is not None:
            hidden = self._attention(f"{index}.attention", sizes.heads, hidden, mask)
        if sizes.neurons is not None:
            hidden = self._ffn(f"{index}.ffn", sizes.neurons, hidden)
        return hidden

    def classifier(self, hidden: str) -> None:
        """[CLS] -> pooler -> logits (batch, labels)."""
        width = self._sizes.hidden_size
        first = self._node("Gather", hidden, self._constant("index_zero", np.array(0, np.int64)), axis=1)
        pooled = self._node("Tanh", self._gemm("pooler", width, first))
        self._gemm("classifier", LABELS, pooled, out="logits")

    def _attention(self, name: str, heads: int, hidden: str, mask: str) -> str:
        size = self._sizes.head_size
        width = heads * size
        query = self._node("Transpose", self._split(f"{name}.query", heads, hidden), perm=[0, 2, 1, 3])
        key = self._split(f"{name}.key", heads, hidden)
        value = self._node("Transpose", self._split(f"{name}.value", heads, hidden), perm=[0, 2, 1, 3])
        key = self._node("Transpose", key, perm=[0, 2, 3, 1])
        scale = self._constant("scale", np.array(size**-0.5, np.float32))
        scores = self._node("Mul", self._node("MatMul", query, key), scale)
        shares = self._node("Softmax", self._node("Add", scores, mask), axis=-1)
        mixed = self._node("Transpose", self._node("MatMul", shares, value), perm=[0, 2, 1, 3])
        joined = self._reshaped(mixed, "join", width)
        return self._residual(name, self._linear(f"{name}.output", self._sizes.hidden_size, joined, width), hidden)

    def _split(self, name: str, heads: int, hidden: str) -> str:
        """One projection, split into heads: (batch, sequence, heads, head size)."""
        size = self._sizes.head_size
        return self._reshaped(self._linear(name, heads * size, hidden), "split", heads, size)

    def _ffn(self, name: str, neurons: int, hidden: str) -> str:
        inner = self._node("Gelu", self._linear(f"{name}.inner", neurons, hidden), approximate="none")
        return self._residual(name, self._linear(f"{name}.outer", self._sizes.hidden_size, inner, neurons), hidden)

    def _residual(self, name: str, update: str, hidden: str) -> str:
        return self._normalised(name, self._node("Add", update, hidden))

    def _linear(self, name: str, out: int, source: str, width: int | None = None) -> str:
        product = self._node("MatMul", source, self._weights(name, width or self._sizes.hidden_size, out))
        return self._node("Add", product, self._weights(f"{name}.bias", out))

    def _gemm(self, name: str, labels: int, source: str, out: str = "") -> str:
        weights = self._weights(name, labels, self._sizes.hidden_size)
        bias = self._weights(f"{name}.bias", labels)
        return self._node("Gemm", source, weights, bias, out=out, alpha=1.0, beta=1.0, transA=0, transB=1)

    def _normalised(self, name: str, source: str) -> str:
        scale = self._constant(f"{name}.norm", np.ones(self._sizes.hidden_size, np.float32))
        shift = self._weights(f"{name}.norm.bias", self._sizes.hidden_size)
        return self._node("LayerNormalization", source, scale, shift, axis=-1, epsilon=EPSILON, stash_type=1)

    def _reshaped(self, source: str, name: str, *ending: int) -> str:
        """Reshapes to (batch, sequence, *ending); the first of `ending` is written as -1, as in the export.

        The constant `name` with the shape is made at its first use and shared by all layers.
        """
        if name not in self._known:
            self._known.add(name)
            sizes = [self._constant("last", np.array([-1], np.int64))]
            sizes += [self._constant("head_size", np.array([size], np.int64)) for size in ending[1:]]
            self._node("Concat", "batch_size", "length", *sizes, out=name, axis=0)
        return self._shaped(self._node("Reshape", source, name, allowzero=1), "batch", "sequence", *ending)

    def _shaped(self, name: str, *shape: int | str) -> str:
        """Declares a shape that the export declares and shape inference cannot derive: without it, runtimes fuse less."""
        from onnx import TensorProto, helper

        self.shapes.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def _node(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        number = len(self.nodes)
        out = out or f"value_{number}"
        self.nodes.append(helper.make_node(operator, inputs, [out], name=f"node_{operator}_{number}", **attributes))
        return out

    def _weights(self, name: str, *shape: int) -> str:
        return self._constant(name, SPREAD * self._generator.standard_normal(shape, dtype=np.float32))

    def _constant(self, name: str, value: Array) -> str:
        from onnx import numpy_helper

        if name not in self._known:
            self._known.add(name)
            self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name
