"""Cells of the grid task x family x runtime in about a second each: a tiny model is read, trained, exported, quantised, scored.

The chains of test_grid.py take every task, and every family, through `edgebert compress` and onto a device; here every pair of
the two goes through the same parts on the level of functions, with a fast exporter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fast_export import traced
from task_rows import SAMPLES, rows_of
from tiny_families import tiny_folder

from edgebert.compress.cells import Cell
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.folder import inspect_model
from edgebert.models.load import load_model, run_model
from edgebert.models.surgery import Units, prune
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.base import Runtime
from edgebert.runtimes.facts import ONNX
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.export import export_model, onnx_graph
from edgebert.stages.export.onnx_graph import holding_rewrites
from edgebert.stages.export.serving_form import serving_form
from edgebert.stages.quantize.methods import usual_method
from edgebert.stages.quantize.settings import Settings
from edgebert.stages.scorer import Scorer, score_of
from edgebert.tasks import TASKS
from edgebert.tasks.base import Batch, Task, padded_targets, split_outputs

PAIRS = [pytest.param(task, family, id=f"{task.name}-{family.model_type}") for task in TASKS for family in FAMILIES]
PARITY = 1e-4
"""Largest difference between a graph and torch, relative to the largest output where that exceeds 1."""
CHEAP = ("dynamic",)
"""Methods that quantise a tiny model in less than a second; the chains take the others."""
KEPT = {0: Units((0, 2, 3), (1, 5, 20))}


class Worked:
    """A tiny model of a family for a task, and rows for it."""

    def __init__(self, task: Task, family: Family, folder: Path) -> None:
        sample = SAMPLES[task.name]
        task = task.configured(sample.options) if sample.options else task
        self.task, self.family, self.folder = task, family, folder
        labels = sample.labels
        head = labels or sample.outputs or tuple(f"LABEL_{index}" for index in range(task.head_rows))
        found = inspect_model(tiny_folder(family.model_type, task.architecture, folder, labels=head, layers=1))
        assert found.has_head(task), found.head_fault(task)
        self.model = load_model(folder, task)
        self.serving = Serving(task, labels, 32, self.model.config.pad_token_id, folder / "tokenizer.json")
        self.rows = rows_of(task, 4)
        self.encoded = self.serving.encode(self.serving.open_tokenizer(), self.rows)
        self.indices = {label: index for index, label in enumerate(labels)}
        self.references = [task.reference(row, self.indices, labels) for row in self.rows]

    def batch(self, target: Target) -> Batch:
        return self.serving.batch(self.encoded, target)

    def torch_outputs(self, model: Any, batch: Batch) -> dict[str, Any]:
        found = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})
        return {name: found[name] for name in self.task.output_names}

    def score(self, outputs: dict[str, Any]) -> float:
        """The first metric of a batch's outputs; every prediction has to be one."""
        found = split_outputs(self.task, outputs, self.encoded)
        predictions = self.task.decode(found, self.encoded, self.rows, self.serving.labels)
        assert len(predictions) == len(self.rows)
        return score_of(self.task, predictions, self.references, self.serving.labels)

    def settings(self) -> Settings:
        scorer = Scorer(self.task, self.serving.labels, tuple(self.rows), tuple(self.encoded), tuple(self.references))
        return Settings(calibration=tuple(self.encoded), task=self.task, labels=self.serving.labels, score=scorer)


def assert_close(task: Task, found: dict[str, Any], wanted: dict[str, Any], mask: Any) -> None:
    for output in task.outputs:
        ours, theirs = np.asarray(found[output.name]), wanted[output.name].detach().numpy()
        real = mask.astype(bool) if output.of_tokens else slice(None)
        difference = np.abs(ours[real] - theirs[real]).max()
        assert difference <= PARITY * max(1.0, np.abs(theirs[real]).max()), output.name


def learns(cell: Worked) -> None:
    """A step of training reaches the encoder's weights; a task whose head is another task's trains none."""
    if cell.task.no_new_head:
        return
    batch = cell.batch(Target(runtime="onnxruntime", batch=len(cell.encoded)))
    items = zip(cell.encoded, (cell.rows[item.row] for item in cell.encoded), strict=True)
    targets = padded_targets(
        [cell.task.targets(item, row, cell.indices) for item, row in items],
        batch["input_ids"].shape[1],
        of_tokens=cell.task.of_tokens,
    )
    outputs = cell.torch_outputs(cell.model, batch)
    loss = cell.task.loss(cell.task.combined(outputs), torch.from_numpy(targets))
    loss.backward()
    word = cell.model.get_input_embeddings().weight
    assert torch.isfinite(loss) and word.grad.abs().sum() > 0
    cell.model.zero_grad()


def is_cut_and_rewritten(cell: Worked, batch: Batch) -> None:
    """What the family's description promises: a pruned model answers, a rewritten one answers the same."""
    with torch.no_grad():
        wanted = cell.torch_outputs(cell.model, batch)
        if "units" in cell.family.prunes:
            cut = cell.torch_outputs(prune(cell.model, KEPT), batch)
            assert all(torch.isfinite(value).all() for value in cut.values())
        if rewrites := holding_rewrites(cell.task, cell.family):
            assert_close(
                cell.task, cell.torch_outputs(serving_form(cell.model, rewrites), batch), wanted, batch["attention_mask"]
            )


def runs(cell: Worked, runtime: Runtime, graph: Path, folder: Path) -> None:
    """FP32 answers as torch does, and INT8, where it is cheap to make, has a score."""
    folder.mkdir()
    if runtime.format != ONNX:
        runtime.convert(graph, folder)
        graph = folder / runtime.model_file
    target = Target(runtime=runtime.name, batch=len(cell.encoded))
    batch = cell.batch(target)
    with torch.no_grad():
        wanted = cell.torch_outputs(cell.model, batch)
    found = dict(get_runtime(runtime.name).open(graph, target).predict(batch))
    assert_close(cell.task, found, wanted, batch["attention_mask"])
    assert np.isfinite(cell.score(found))
    method = usual_method(runtime.format)
    if method is not None and method.method_name() in CHEAP:
        (folder / "int8").mkdir()
        method().quantize(graph, folder / "int8", cell.settings())
        int8 = dict(get_runtime(runtime.name).open(folder / "int8" / runtime.model_file, target).predict(batch))
        assert all(np.isfinite(value).all() for value in int8.values()) and np.isfinite(cell.score(int8))


@pytest.mark.parametrize(("task", "family"), PAIRS)
def test_a_cell_works_or_is_refused_by_name(
    task: Task, family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [Cell(task, family, runtime) for runtime in RUNTIMES]
    if not (open_cells := [cell for cell in cells if cell.obstacle is None]):
        assert all(str(cell.obstacle).strip() for cell in cells)
        return
    monkeypatch.setattr(onnx_graph, "onnx_program", traced)
    cell = Worked(task, family, tmp_path / "model")
    task = cell.task
    learns(cell)
    is_cut_and_rewritten(cell, cell.batch(Target(runtime="onnxruntime", batch=len(cell.encoded))))
    export_model(cell.model, task, tmp_path / "model.onnx", name="it")
    for one in open_cells:
        runs(cell, one.runtime, tmp_path / "model.onnx", tmp_path / one.runtime.name)
