"""The matrix products that OpenVINO's CPU plugin runs: from its compiled graph, compared with the graph as it was read.

The compiled graph names each kernel and the types of its inputs. A product inside a fused kernel (the plugin compiles attention
into one "Subgraph") is looked up by its name in the graph as it was read; a product without a match counts as float, so that
the share is never too large.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.core.interrupts import signal_stack_kept
from edgebert.measure.coverage.products import Executed, Product, refuse_uncounted
from edgebert.runtimes import get_runtime
from edgebert.runtimes.openvino import OpenVinoSession, compile_settings, options_of
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Batch

Shape = tuple[int, ...]

EIGHT_BITS = {"i8", "u8"}
"""Element types of 8-bit integers."""
IDLE = {"Input", "Const", "Constant", "Output", "Result"}
"""Kinds of nodes that compute nothing."""
SEARCHED = 64
"""Most nodes searched above the product of an attention with its values, on the way to its scores."""


@dataclass(frozen=True)
class OpenVinoKernel:
    """One node of the compiled graph."""

    name: str
    kind: str
    primitive: str
    sources: tuple[str, ...]
    """Names of the nodes of the read graph that it was made from."""
    inputs: tuple[tuple[str, Shape], ...]
    """Element type and shape."""
    output: Shape

    def is_int8(self, *indices: int) -> bool:
        """Whether the inputs of these indices are 8-bit integers."""
        return all(self.inputs[index][0] in EIGHT_BITS for index in indices)


def executed(model: Path, target: Target, batch: Batch, folder: Path) -> Executed:
    """Compiles the batch's shape with the target's settings and reads its products.

    Raises:
        BundleError: OpenVINO cannot open the model.
        ValueError: it has a product that cannot be counted.
    """
    session = get_runtime("openvino").open(model, target)
    assert isinstance(session, OpenVinoSession)
    rows, length = batch["input_ids"].shape
    read, compiled = session.compiled((rows, length))
    products = _read_products(read)
    kernels = [_kernel(node) for node in compiled.get_runtime_model().get_ordered_ops()]
    executed_products = [product for kernel in kernels for product in _products_of(kernel, products)]
    counts = Counter(f"{kernel.kind} {kernel.primitive}" for kernel in kernels if kernel.kind not in IDLE)
    everything = {*products.values(), *(item.scores for item in products.values() if item.scores)}
    return Executed(tuple(executed_products), counts, macs=sum(math.prod(item.shape) for item in everything))


@dataclass(frozen=True)
class ReadProduct:
    """A product of the graph as it was read."""

    name: str
    shape: Shape
    """(..., rows, inner, columns)."""
    scores: ReadProduct | None = None
    """The scores that weight the values, if this is the second product of an attention."""


def _read_products(model: Any) -> dict[str, ReadProduct]:
    """Name -> every MatMul and ScaledDotProductAttention."""
    products: dict[str, ReadProduct] = {}
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_friendly_name()
        if kind == "MatMul":
            left, output = tuple(node.input(0).get_shape()), tuple(node.output(0).get_shape())
            inner = left[-2] if node.get_attributes()["transpose_a"] else left[-1]
            products[name] = ReadProduct(name, (*output[:-1], inner, output[-1]), products.get(_scores(node) or ""))
        elif kind == "ScaledDotProductAttention":
            query, key, value = (tuple(node.input(index).get_shape()) for index in range(3))
            scores = ReadProduct(f"{name} (scores)", (*query, key[-2]))
            products[name] = ReadProduct(name, (*query[:-1], key[-2], value[-1]), scores)
        else:
            refuse_uncounted(kind)
    return products


def _scores(mix: Any) -> str | None:
    """Name of the nearest MatMul above the first input of another, with a Softmax between them."""
    waiting, seen_softmax = [mix.input_value(0).get_node()], False
    for _ in range(SEARCHED):
        if not waiting:
            return None
        node = waiting.pop(0)
        if node.get_type_name() == "MatMul":
            return str(node.get_friendly_name()) if seen_softmax else None
        seen_softmax |= node.get_type_name() == "Softmax"
        waiting += [value.get_node() for value in node.input_values()]
    return None


def _kernel(node: Any) -> OpenVinoKernel:
    facts: Mapping[str, Any] = node.get_rt_info()
    known = {name: str(facts[name].value) for name in ("layerType", "primitiveType", "originalLayersNames")}
    inputs = tuple((port.get_element_type().get_type_name(), tuple(port.get_shape())) for port in node.inputs())
    output = tuple(node.output(0).get_shape()) if node.get_output_size() else ()
    sources = tuple(known["originalLayersNames"].split(","))
    return OpenVinoKernel(node.get_friendly_name(), known["layerType"], known["primitiveType"], sources, inputs, output)


def _products_of(kernel: OpenVinoKernel, products: Mapping[str, ReadProduct]) -> list[Product]:
    if kernel.kind in ("FullyConnected", "MatMul"):
        _, left = kernel.inputs[0]
        # One of the two may be transposed, the output is not: rows and columns tell the inner size.
        inner = math.prod(left[-2:]) // kernel.output[-2] if len(kernel.output) > 1 else left[-1]
        shape = (*kernel.output[:-1], inner, kernel.output[-1])
        return [Product(kernel.name, f"{kernel.kind} {kernel.primitive}", shape, kernel.is_int8(0, 1))]
    named = {name: products[name] for name in kernel.sources if name in products}
    return list({product.name: product for read in named.values() for product in _fused(kernel, read)}.values())


def _fused(kernel: OpenVinoKernel, read: ReadProduct) -> list[Product]:
    """Products of a fused attention, whose inputs are queries, keys, the mask, and values last. Any other counts as float."""
    op, values, scores = f"{kernel.kind} {kernel.primitive}", len(kernel.inputs) - 1, read.scores
    if not scores:
        return [Product(read.name, op, read.shape, int8=False)]
    given = _is_left(kernel, 0, scores) and _is_right(kernel, 1, scores)
    return [
        Product(scores.name, op, scores.shape, given and kernel.is_int8(0, 1)),
        Product(read.name, op, read.shape, _is_right(kernel, values, read) and kernel.is_int8(values)),
    ]


def _is_left(kernel: OpenVinoKernel, index: int, product: ReadProduct) -> bool:
    """Whether an input has as many values as the product's left matrices."""
    return math.prod(kernel.inputs[index][1]) == math.prod(product.shape[:-1])


def _is_right(kernel: OpenVinoKernel, index: int, product: ReadProduct) -> bool:
    """Whether an input has as many values as the product's right matrices."""
    return math.prod(kernel.inputs[index][1]) == math.prod((*product.shape[:-3], *product.shape[-2:]))


def int8_product(target: Target, shape: tuple[int, int, int]) -> Callable[[], object]:
    """A function that multiplies quantised matrices of (rows, inner, columns) with the target's settings.

    It quantises the left matrix as well, which takes a few hundredths of the time.

    Raises:
        ValueError: OpenVINO does not run it in INT8 on this machine.
    """
    import openvino as ov
    from openvino import opset13 as op

    rows, inner, columns = shape
    generator = np.random.default_rng(0)
    left = op.parameter([rows, inner], np.float32)
    weight = op.constant(generator.uniform(-1, 1, (columns, inner)).astype(np.float32))
    product = op.matmul(_quantised(left, 256), _quantised(weight, 255), False, True)
    settings = compile_settings(target.threads, options_of(target).precision)
    with signal_stack_kept():
        compiled = ov.Core().compile_model(ov.Model([product], [left]), "CPU", settings)
    _require_int8([_kernel(node) for node in compiled.get_runtime_model().get_ordered_ops()])
    request = compiled.create_infer_request()
    feeds = [generator.uniform(-1, 1, (rows, inner)).astype(np.float32)]
    return lambda: request.infer(feeds, share_inputs=True)


def _quantised(source: Any, levels: int) -> Any:
    from openvino import opset13 as op

    low, high = np.float32(-1), np.float32(1)
    return op.fake_quantize(source, low, high, low, high, levels)


def _require_int8(kernels: Sequence[OpenVinoKernel]) -> None:
    if not any(product.int8 for kernel in kernels for product in _products_of(kernel, {})):
        raise ValueError("OpenVINO does not multiply in INT8 on this machine")
