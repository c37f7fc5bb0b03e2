"""Embedding tables in INT8, each row with a scale of its own: most of a small BERT's file.

A row is one token's embedding. One scale for a whole table would be that of its largest row, which rare tokens have.

    row = int8 * scale, scale = max|row| / 127
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FEWEST_ROWS = 16
"""Smaller tables stay float: the two rows of segments weigh nothing, and reading them would cost more operators."""


def quantize_tables(source: Path, target: Path) -> list[str]:
    """Writes the graph with its FP32 tables in INT8.

    Tables are what a Gather reads rows of, or a Slice its first rows.

    Returns:
        The names of the tables.
    """
    import onnx

    model = onnx.load(source)
    floats = {item.name: item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
    nodes: list[Any] = []
    tables: list[str] = []
    for node in model.graph.node:
        table = floats.get(node.input[0]) if node.op_type in ("Gather", "Slice") else None
        if table is None or len(table.dims) != 2 or table.dims[0] < FEWEST_ROWS or not _by_row(model, node):
            nodes.append(node)
            continue
        if table.name not in tables:
            tables.append(table.name)
            model.graph.initializer.extend(_parts(table))
        nodes += _lookup(node, table.name)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for name in tables:
        if name not in used:
            model.graph.initializer.remove(floats[name])
    onnx.save(model, target)
    return tables


def _by_row(model: Any, node: Any) -> bool:
    """Whether a node picks rows, by axis 0."""
    from onnx import numpy_helper

    if node.op_type == "Gather":
        return all(attribute.i == 0 for attribute in node.attribute if attribute.name == "axis")
    constants = {item.name: item for item in model.graph.initializer}
    axes = constants.get(node.input[3]) if len(node.input) > 3 else None
    return axes is not None and numpy_helper.to_array(axes).ravel().tolist() == [0]


def _parts(table: Any) -> list[Any]:
    """The INT8 rows, of shape (rows, width), and their scales, of shape (rows, 1)."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(table)
    scales = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1  # a row of zeros
    rows = np.rint(values / scales).astype(np.int8)
    return [
        numpy_helper.from_array(rows, f"{table.name}.int8"),
        numpy_helper.from_array(scales.astype(np.float32), f"{table.name}.scale"),
    ]


def _lookup(node: Any, table: str) -> list[Any]:
    """The same rows from the INT8 table."""
    from onnx import TensorProto, helper

    out = node.output[0]
    found = []
    for part in ("int8", "scale"):
        picked = type(node)()
        picked.CopyFrom(node)
        picked.name = f"{node.name}.{part}"
        picked.input[0] = f"{table}.{part}"
        picked.output[0] = f"{out}.{part}"
        found.append(picked)
    cast = helper.make_node("Cast", [f"{out}.int8"], [f"{out}.float"], name=f"{node.name}.cast", to=TensorProto.FLOAT)
    scaled = helper.make_node("Mul", [f"{out}.float", f"{out}.scale"], [out], name=f"{node.name}.scaled")
    return [*found, cast, scaled]
