"""multi-label-classification: which types of entities a text of WNUT-17 names, none or several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgebert.data.text_files import read_conll
from task_sets.base import COMPARED, Setting, TaskSet, chain, logits_of, recipe, written

CLOSE = 1e-4


def _rows(setting: Setting, split: str) -> list[dict[str, Any]]:
    found = read_conll(setting.assets / "wnut17" / f"{split}.conll")
    return [{"text": " ".join(row["words"]), "labels": sorted({tag[2:] for tag in row["tags"] if tag != "O"})} for row in found]


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"types-{split}", _rows(setting, split)) for split in ("train", "dev"))
    task = {"name": "multi-label-classification", "max_length": 128}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=8, distilled=5))


def _shares(folder: Path, texts: list[Any], limit: int) -> list[dict[str, float]]:
    """Label -> probability for each text, by Transformers."""
    import numpy as np
    from transformers import AutoConfig

    names = AutoConfig.from_pretrained(folder).id2label
    found = [1 / (1 + np.exp(-logits.astype(np.float64))) for logits in logits_of(folder, texts, limit)]
    return [{names[index]: float(share) for index, share in enumerate(shares)} for shares in found]


TYPES = TaskSet(
    "multi-label-classification, WNUT-17",
    _recipe,
    lambda setting: [row["text"] for row in _rows(setting, "dev")[:COMPARED]],
    _shares,
    lambda ours, theirs: all(abs(share - theirs[label]) <= CLOSE for label, share in ours.probabilities.items()),
)
