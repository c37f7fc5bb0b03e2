"""Exports in a tenth of a second: torch's older exporter traces a tiny model, and edgebert's own comparison with torch follows.

The grid's cells take it, since torch.onnx.export(dynamo=True), which edgebert uses, takes seconds for the smallest model; the
grid's chains take that. Nodes have the older exporter's names, so that a test of names needs the real one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

OPSET = 18


def traced(module: Any, task: Any, name: str, inputs: Sequence[str] | None = None, *, longest: int | None = None) -> Any:
    """An `edgebert.stages.export.onnx_graph.onnx_program` that traces."""
    import onnx
    import torch

    from edgebert.stages.export.onnx_graph import EXAMPLE_LENGTH, example_inputs

    names = list(module.inputs if inputs is None else inputs)
    written = BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it is deprecated, and that a trace holds for one path through the code
        torch.onnx.export(
            module,
            example_inputs(names, min(EXAMPLE_LENGTH, longest or EXAMPLE_LENGTH)),
            written,
            dynamo=False,
            input_names=names,
            output_names=list(task.graph_outputs),
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names}
            | {output.name: {0: "batch", **({1: "sequence"} if output.of_tokens else {})} for output in task.outputs}
            | {name: {0: "batch", 1: "sequence"} for name in task.also_exported},
            opset_version=OPSET,
        )
    return onnx.load_from_string(written.getvalue())
