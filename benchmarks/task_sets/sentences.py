"""embedding: the STS benchmark, the vectors of its sentences judged by the order of its pairs; all-MiniLM-L6-v2 as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgebert.data.readers import read_squad
from edgebert.tasks.vectors import unit
from task_sets.base import COMPARED, Setting, TaskSet, chain, recipe, written
from task_sets.similarity import pairs

CLOSE = 1e-4
"""Largest difference from a number of Transformers' vector."""


def sentences(setting: Setting) -> list[str]:
    """The different sentences of the STS benchmark's dev part, in its order."""
    return list(dict.fromkeys(row[column] for row in pairs(setting, "dev") for column in ("text", "text_pair")))


def questions(setting: Setting, split: str) -> list[tuple[str, str]]:
    """The questions of a part of SQuAD, each with the paragraph that answers it."""
    return [(row["question"], row["context"]) for row in read_squad(setting.assets / "squad" / f"{split}.json")]


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"vectors-{split}", pairs(setting, split)) for split in ("train", "dev"))
    asked = written(setting, "vectors-questions", ({"text": text} for text, _ in setting.limited(questions(setting, "train"))))
    stages = chain(setting, epochs=0, distilled=1, finetune=False)
    made = recipe(setting, {"name": "embedding", "max_length": 256}, train, evaluated, stages)
    bundled = {"metric": "spearman", "min": -1.0}  # every model, as the vectors of each are compared
    return {**made, "data": {**made["data"], "transfer": asked}, "gates": [bundled]}


def mean_vectors(folder: Path, texts: list[Any], limit: int) -> list[Any]:
    """Vectors of texts by Transformers alone, one at a time: the mean of the last hidden states, of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")).last_hidden_state
        found.append(unit(states[0].mean(dim=0).numpy()))
    return found


SENTENCES = TaskSet(
    "embedding, STS benchmark",
    _recipe,
    lambda setting: sentences(setting)[:COMPARED],
    mean_vectors,
    lambda ours, theirs: bool(np.abs(np.array(ours.vector) - theirs).max() <= CLOSE),
)
