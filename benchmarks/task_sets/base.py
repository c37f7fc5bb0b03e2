"""TaskSet: real data of a task: its recipe, and a loop over Transformers that answers without edgebert."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALIBRATION = 128
COMPARED = 200
"""Rows whose answers are compared with those of Transformers."""


@dataclass(frozen=True)
class Setting:
    """Folders and options of a run of the benchmark."""

    assets: Path
    work: Path
    store: Path
    base: str
    quick: bool
    method: str = "auto"
    """How models are quantised; a quick run takes `dynamic`."""

    def limited(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The rows, of a quick run the first 48."""
        return rows[:48] if self.quick else rows


@dataclass(frozen=True)
class TaskSet:
    """A task on one data set."""

    name: str
    """Name of its runs and rows: the task's, with the data set where a task has several."""
    recipe: Callable[[Setting], dict[str, Any]]
    texts: Callable[[Setting], list[Any]]
    """Inputs of eval, as `edgebert.load(...).predict` takes them."""
    reference: Callable[[Path, list[Any], int], list[Any]]
    """(folder of the FP32 model, inputs, longest input in tokens) -> for each input what Transformers answers; None where it is
    not compared."""
    same: Callable[[Any, Any], bool]
    """(edgebert's answer, Transformers' answer) -> whether they are the same."""
    int8_keeps: float = 0.99
    cut_keeps: float = 0.97


def written(setting: Setting, name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A data set of the recipe: the rows in a file of the work folder."""
    file = setting.work / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return {"path": str(file)}


def chain(setting: Setting, *, epochs: float, distilled: float, rate: float = 1e-4, finetune: bool = True) -> list[Any]:
    """Fine-tune, quantise; cut to half of the multiply-accumulates, distil, quantise."""
    least: dict[str, Any] = {"samples": 16, "block": 8} if setting.quick else {}
    taught = {"epochs": 0.5 if setting.quick else epochs, "learning_rate": rate, "batch_size": 16}
    imitates = {"epochs": 0.2 if setting.quick else distilled, "learning_rate": 2e-4, "augment": 1}
    quantised = {"quantize": {"method": "dynamic" if setting.quick else setting.method}}
    start = [{"finetune": taught}] if finetune else []
    return [*start, "export", quantised, {"prune": {"to": {"macs": 0.5}, **least}}, {"distill": imitates}, "export", quantised]


def recipe(
    setting: Setting, task: Mapping[str, Any], train: Mapping[str, Any], evaluated: Mapping[str, Any], stages: Sequence[Any]
) -> dict[str, Any]:
    """The recipe of a task on one thread of ONNX Runtime. No gate ends it: the benchmark judges the figures."""
    limit = {"limit": 48} if setting.quick else {}
    longest = {"max_length": min(int(task["max_length"]), 64)} if setting.quick else {}
    return {
        "model": setting.base,
        "task": {**task, **longest},
        "data": {
            "train": {**train, **limit},
            "eval": {**evaluated, **limit},
            "calibration": {**train, **limit, "samples": 16 if setting.quick else CALIBRATION},
        },
        "stages": list(stages),
        "targets": [{"runtime": "onnxruntime", "threads": 1}],
        "measure": {"rounds": 2 if setting.quick else 6, "queries": 20 if setting.quick else 200, "golden_inputs": 2},
    }


def logits_of(folder: Path, texts: Sequence[Any], limit: int) -> list[Any]:
    """Logits of Transformers' sequence classifier for texts, or tuples of two, one at a time; a NumPy array for each."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for text in texts:
        pair = text if isinstance(text, tuple) else (text,)
        with torch.no_grad():
            answer = model(**tokenizer(*pair, truncation=True, max_length=limit, return_tensors="pt"))
        found.append(answer.logits[0].numpy())
    return found
