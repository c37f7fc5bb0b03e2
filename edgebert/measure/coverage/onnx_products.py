"""The matrix products that ONNX Runtime ran: from the profile of one query, with the attributes of the optimised graph.

The profile has the kernels and the shapes of their inputs and outputs, but neither attributes nor weights that were packed when
the session was opened; the graph that the session saves has them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.measure.coverage.products import Executed, Product, refuse_uncounted
from edgebert.runtimes.onnxruntime import open_session, session_options
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch

Shape = tuple[int, ...]

INT8 = {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"}
"""Operators that multiply 8-bit integers."""
INT8_COMPUTE = 4
"""accuracy_level of MatMulNBits at which activations become 8-bit integers too."""


@dataclass(frozen=True)
class OnnxKernel:
    """One node that ran. Inputs that are absent or were packed are left out of `inputs`."""

    name: str
    op: str
    inputs: tuple[tuple[str, Shape], ...]
    """Element type and shape."""
    output: Shape
    attributes: Mapping[str, Any]

    def shape(self, index: int) -> Shape:
        """Shape of an input that is there."""
        return self.inputs[index][1]

    def product(self, shape: Shape, *, int8: bool) -> Product:
        """A product of this kernel."""
        return Product(self.name, self.op, shape, int8)


def executed(model: Path, target: Target, batch: Batch, folder: Path) -> Executed:
    """Runs one batch with the target's settings.

    Args:
        folder: an empty folder, for the profile and the optimised graph.

    Raises:
        BundleError: ONNX Runtime cannot open the model.
        ValueError: it ran a product that cannot be counted.
    """
    import onnx

    options = session_options(target)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    optimised = folder / "optimised.onnx"
    options.optimized_model_filepath = str(optimised)
    session = open_session(model, target, options)
    wanted = {value.name for value in session.get_inputs()}
    session.run(None, {name: value for name, value in batch.items() if name in wanted})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    graph = onnx.load(optimised, load_external_data=False).graph
    attributes = {
        node.name: {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute if not item.HasField("g")}
        for node in graph.node
    }
    kernels = [kernel for event in events if (kernel := _kernel(event, attributes))]
    products = [product for kernel in kernels for product in products_of(kernel)]
    return Executed(tuple(products), Counter(kernel.op for kernel in kernels))


def _kernel(event: Mapping[str, Any], attributes: Mapping[str, Mapping[str, Any]]) -> OnnxKernel | None:
    name, ending = event["name"], "_kernel_time"
    if event.get("cat") != "Node" or not name.endswith(ending):
        return None
    facts = event["args"]
    inputs = tuple((kind, tuple(shape)) for item in facts["input_type_shape"] for kind, shape in item.items())
    outputs = [tuple(shape) for item in facts["output_type_shape"] for shape in item.values()]
    node = name.removesuffix(ending)
    return OnnxKernel(node, facts["op_name"], inputs, outputs[0] if outputs else (), attributes.get(node, {}))


def products_of(kernel: OnnxKernel) -> list[Product]:
    """The matrix products of a kernel; none for most.

    Raises:
        ValueError: it has products that cannot be counted.
    """
    if count := COUNTED.get(kernel.op):
        return [product for product in count(kernel) if product.macs]
    refuse_uncounted(kernel.op)
    return []


def _matmul(kernel: OnnxKernel) -> list[Product]:
    left = kernel.shape(0)
    inner = left[-1]
    if kernel.attributes.get("transA"):
        inner = left[0] if kernel.attributes.get("transBatchA") else left[-2]
    return [kernel.product((*kernel.output[:-1], inner, *kernel.output[-1:]), int8=kernel.op in INT8)]


def _bits(kernel: OnnxKernel) -> list[Product]:
    """MatMulNBits: without a kernel for its accuracy_level, weights are not packed but converted to float at every run."""
    packed = not any(kind == "uint8" and len(shape) == 3 for kind, shape in kernel.inputs)
    int8 = kernel.attributes.get("accuracy_level") == INT8_COMPUTE and packed
    return [kernel.product((*kernel.output[:-1], kernel.shape(0)[-1], kernel.output[-1]), int8=int8)]


def _attention(kernel: OnnxKernel) -> list[Product]:
    """Attention of ai.onnx, which gets projected queries, keys and values, or of com.microsoft, which projects them."""
    if len(kernel.inputs) > 1 and len(kernel.shape(1)) >= 3:
        return _inner_products(kernel)
    batch, length, inner = kernel.shape(0)
    value = kernel.output[-1]
    query, key, _ = kernel.attributes.get("qkv_hidden_sizes") or (value, value, value)
    return [
        kernel.product((batch, length, inner, query + key + value), int8=kernel.op == "QAttention"),
        kernel.product((batch, length, query, length), int8=False),
        kernel.product((batch, length, length, value), int8=False),
    ]


def _inner_products(kernel: OnnxKernel) -> list[Product]:
    """Products of scores and of weighted values. Queries and keys: (batch, rows, width) or (batch, heads, rows, size)."""
    query, keys = kernel.shape(0), kernel.shape(1)
    batch, rows, columns = query[0], query[-2], keys[-2]
    width = math.prod(query) // (batch * rows)
    value = math.prod(kernel.output) // (batch * rows)
    return [
        kernel.product((batch, rows, width, columns), int8=False),
        kernel.product((batch, rows, columns, value), int8=False),
    ]


COUNTED: Mapping[str, Callable[[OnnxKernel], list[Product]]] = {
    **dict.fromkeys([*INT8, "MatMul", "FusedMatMul", "FusedMatMulActivation", "Gemm", "FusedGemm", "MatMulBnb4"], _matmul),
    "MatMulNBits": _bits,
    **dict.fromkeys(["Attention", "QAttention"], _attention),
    "MultiHeadAttention": _inner_products,
}


def int8_product(target: Target, shape: tuple[int, int, int]) -> Callable[[], object]:
    """A function that multiplies a UINT8 matrix by an INT8 weight of (rows, inner, columns) with the target's settings."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rows, inner, columns = shape
    generator = np.random.default_rng(0)
    weight = generator.integers(-64, 64, (inner, columns), dtype=np.int8)  # 7 bits: 8 overflow on some cores
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["left", "right"], ["product"])],
        "rate",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, [rows, inner])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [rows, columns])],
        [numpy_helper.from_array(weight, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), session_options(target), providers=["CPUExecutionProvider"])
    feeds = {"left": generator.integers(0, 255, (rows, inner), dtype=np.uint8)}
    return lambda: session.run(None, feeds)
