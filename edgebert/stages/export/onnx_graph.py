"""onnx_graph: a loaded model becomes an ONNX graph with named nodes, which is compared with torch."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgebert.core.packages import quiet_libraries
from edgebert.errors import StageError
from edgebert.models.families.base import Family
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Task

TOLERANCE = 1e-4
"""Largest difference between an exported graph and torch."""
REWRITE_TOLERANCE = 1e-5
"""Largest difference between a rewritten graph and its source: it is the same arithmetic in another order."""
EXAMPLE_LENGTH = 8
"""Tokens of the texts that a graph is traced with."""
Rewrite = Literal["mask", "scale", "qkv", "first_token", "attention"]
REWRITES: tuple[Rewrite, ...] = ("mask", "scale", "qkv", "first_token", "attention")
"""Rewrites of the graph that `serving_form.py` knows, in the order in which they are tried."""


def export_model(model: Any, task: Task, target: Path, *, name: str, rewrites: Sequence[Rewrite] = ()) -> dict[str, Any]:
    """Exports a loaded model as ONNX, rewritten on request, and compares: by REWRITE_TOLERANCE where it is rewritten.

    Args:
        name: name of the model, for messages.

    Raises:
        StageError: the export fails, or its numbers differ.
    """
    from edgebert.models.parts import family_of
    from edgebert.stages.export.serving_form import serving_form

    if wrong := [rewrite for rewrite in rewrites if rewrite not in holding_rewrites(task, family_of(model))]:
        raise StageError(f"The rewrite {wrong[0]} would change the answers of {name}.")
    source = outputs_only(model, task.graph_outputs)
    exported = outputs_only(serving_form(model, rewrites), task.graph_outputs) if rewrites else source
    longest = family_of(model).longest_input(model.config.to_dict())
    write_clean(onnx_program(exported, task, name, longest=longest), target)
    difference, allowed = compare(source, target, task), REWRITE_TOLERANCE if rewrites else TOLERANCE
    if not difference <= allowed:
        raise StageError(f"The exported graph differs from torch by {difference:.2g} (at most {allowed:g} is allowed).")
    return {"export_difference": float(f"{difference:.2e}")}


def onnx_program(module: Any, task: Task, name: str, inputs: Sequence[str] | None = None, *, longest: int | None = None) -> Any:
    """A module as an onnx.ModelProto with dynamic batch and sequence.

    Args:
        inputs: names of what the module takes, in order; None for one that `outputs_only` made, which knows them.
        longest: longest input in tokens that the model has positions for, 2 or more; None for 8 or more.
    """
    import torch

    inputs = module.inputs if inputs is None else inputs
    example = example_inputs(inputs, min(EXAMPLE_LENGTH, longest or EXAMPLE_LENGTH))
    dimensions = {name: {0: "batch", 1: "sequence"} for name in inputs}
    try:
        with quiet_libraries(), torch.no_grad():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                input_names=list(inputs),
                output_names=list(task.graph_outputs),
                dynamic_shapes=dimensions,
                verbose=False,
            )
            assert program is not None
            return program.model_proto
    except Exception as error:  # the exporter raises exceptions of torch, of onnxscript and of its own
        raise StageError(f"The export of {name} to ONNX failed: {str(error).strip().splitlines()[0]}") from error


def holding_rewrites(task: Task, family: Family) -> tuple[Rewrite, ...]:
    """The rewrites that leave the answers as they are, for a task and a family."""
    first_alone = task.reads == "first"
    held = [rewrite for rewrite in REWRITES if rewrite in family.rewrites]
    return tuple(rewrite for rewrite in held if rewrite != "first_token" or first_alone)


def example_inputs(names: Sequence[str], length: int = EXAMPLE_LENGTH) -> tuple[Any, ...]:
    """Inputs of these names to export with: two texts of a few tokens, since the exporter takes a size of 1 for a constant."""
    import torch

    ids = torch.arange(2 * length, dtype=torch.int64).reshape(2, length)
    values = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    return tuple(values[name] for name in names)


def outputs_only(model: Any, outputs: Sequence[str]) -> Any:
    """A module around a model that returns these outputs as a tuple, and takes its family's inputs in order: the exporter names
    them in order."""
    import torch

    from edgebert.models.parts import inputs_of

    names = inputs_of(model)

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.inputs = names

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            values = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            result = self.model(**{name: values[name] for name in names})
            return tuple(result[name] for name in outputs)

    return Wrapper().eval()


def write_clean(proto: Any, target: Path) -> None:
    """Saves a graph without the exporter's metadata, which holds paths of this machine and is 1 % of the file.

    Of the metadata only the module that a node comes from stays, in its name: `bert.encoder.layer.0.output.dense/MatMul`.
    """
    import onnx

    _name_nodes(proto)
    for message in (
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.value_info,
        proto.graph,
        proto,
    ):
        del message.metadata_props[:]
    for node in proto.graph.node:
        node.doc_string = ""
    proto.graph.name = "edgebert"
    onnx.save(proto, target)


def _name_nodes(proto: Any) -> None:
    """Names each node `<module>/<operator>`, with a number where that name is taken."""
    counts: Counter[str] = Counter()
    for node in proto.graph.node:
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
        module = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 1 else ""
        module = "" if module.startswith("_") else module  # the exporter's own helpers
        name = f"{module}/{node.op_type}" if module else node.op_type
        counts[name] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"


def compare(module: Any, graph: Path, task: Task) -> float:
    """Largest difference between the answers of torch and of ONNX Runtime over a few shapes, with padding among the inputs.

    Outputs of padding are no answers, and left out: where a token sees its neighbours alone, those of the last padding see no
    text. Where the largest answer exceeds 1, the difference is divided by it.
    """
    import torch

    from edgebert.models.parts import family_of

    session = get_runtime("onnxruntime").open(graph, Target(runtime="onnxruntime"))
    generator = np.random.default_rng(0)
    worst = 0.0
    config = module.model.config
    longest = family_of(module.model).longest_input(config.to_dict())
    for rows, length in ((1, 2), (1, min(11, longest)), (3, min(24, longest))):
        ids = generator.integers(0, config.vocab_size, (rows, length))
        mask = np.ones_like(ids)
        mask[0, length - length // 4 :] = 0
        batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with torch.no_grad():
            expected = module(*(torch.from_numpy(batch[name]) for name in module.inputs))
            size = max(1.0, *(float(value.abs().max()) for value in expected))
        found = session.predict(batch)
        of_tokens = {output.name for output in task.outputs if output.of_tokens} | set(task.also_exported)
        for name, value in zip(task.graph_outputs, expected, strict=True):
            answers = mask.astype(bool) if name in of_tokens else slice(None)
            worst = max(worst, float(np.abs(found[name] - value.numpy())[answers].max()) / size)
    return worst
