"""Embedding tables in INT8, each row with a scale of its own. Tables are most of a small BERT's file.

A row is one token's embedding. A single scale for the table would be that of its largest rows, which are rare tokens'.

    row = int8 * scale, scale = max|row| / 127
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FEWEST_ROWS = 16
"""Rows of the smallest table that is quantised: the two rows of segments save no space and would cost operators."""


def quantize_tables(source: Path, target: Path) -> list[str]:
    """Writes the graph with its FP32 tables in INT8.

    A table is a matrix whose rows a Gather reads, or its first rows a Slice.

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
    """Whether a node picks rows (axis 0)."""
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
    scales[scales == 0] = 1  # rows of zeros
    rows = np.rint(values / scales).astype(np.int8)
    return [
        numpy_helper.from_array(rows, f"{table.name}.int8"),
        numpy_helper.from_array(scales.astype(np.float32), f"{table.name}.scale"),
    ]


def _lookup(node: Any, table: str) -> list[Any]:
    """Nodes that read the rows of a lookup from the INT8 table."""
    from onnx import TensorProto, helper

    out = node.output[0]
    picks = []
    for part in ("int8", "scale"):
        pick = type(node)()
        pick.CopyFrom(node)
        pick.name = f"{node.name}.{part}"
        pick.input[0] = f"{table}.{part}"
        pick.output[0] = f"{out}.{part}"
        picks.append(pick)
    cast = helper.make_node("Cast", [f"{out}.int8"], [f"{out}.float"], name=f"{node.name}.cast", to=TensorProto.FLOAT)
    scaled = helper.make_node("Mul", [f"{out}.float", f"{out}.scale"], [out], name=f"{node.name}.scaled")
    return [*picks, cast, scaled]
