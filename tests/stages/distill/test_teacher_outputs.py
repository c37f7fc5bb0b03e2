"""A teacher's outputs on disk, for tasks whose outputs are no labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from task_rows import SAMPLES
from tiny_families import tiny_folder

from edgebert.core.progress import Silent
from edgebert.models.load import load_model, run_model
from edgebert.runtimes.serving import Serving
from edgebert.stages.distill.teacher_outputs import RequestedOutputs, Teacher, fitting, write_outputs
from edgebert.stages.examples import Examples
from edgebert.tasks import get_task


class Rows:
    """A prepared set of these rows."""

    role = "train"

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def blocks(self) -> list[list[Any]]:
        return [self._rows]

    def rows(self, indices: list[int]) -> list[Any]:
        return [self._rows[index] for index in indices]

    labels: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    own_names: tuple[str, ...] = ()


@pytest.mark.parametrize(("name", "outputs"), [("regression", 1), ("reranking", 1), ("zero-shot-classification", 3)])
def test_outputs_that_are_no_labels_are_kept_whole(name: str, outputs: int, tmp_path: Path) -> None:
    sample, task = SAMPLES[name], get_task(name, SAMPLES[name].options)
    folder = tiny_folder(
        "bert", task.architecture, tmp_path / "m", labels=[f"LABEL_{index}" for index in range(outputs)], layers=1
    )
    model = load_model(folder, task)
    rows = [sample.row(number, text) for number, text in enumerate(("a good film", "the soup was awful", "not bad"))]
    examples = Examples((Rows(rows),), Serving(task, (), 32, 0, folder / "tokenizer.json"))  # type: ignore[arg-type]
    requested = RequestedOutputs((), 10**6, "fp32")
    draft = SimpleNamespace(out=tmp_path / "out", work=tmp_path / "work")
    draft.out.mkdir(), draft.work.mkdir()
    facts = write_outputs(model, examples, requested, draft, Silent(), "run the teacher")  # type: ignore[arg-type]
    assert facts == {"examples": len(examples), "of": len(examples)} and len(examples) >= len(rows)
    kept = Teacher(None, examples, requested, draft.out).outputs(range(len(examples)))["logits"]
    with torch.no_grad():
        wanted = run_model(model, examples.batch(range(len(examples)))).logits
    assert np.stack(kept) == pytest.approx(wanted.numpy(), abs=2e-3)
    assert fitting(model, examples, RequestedOutputs((), 1024 * 2 + (8 + 2 * outputs) * 2, "fp32")) == 2
