"""text-classification: SST-2 (single sentences) and MRPC (pairs, paraphrase or not)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from task_sets.base import COMPARED, Setting, TaskSet, chain, logits_of, recipe, written

LABELS = {"sst2": ("negative", "positive"), "mrpc": ("different", "paraphrase")}
SHARE = 8
"""Step between the rows of SST-2 train that are used: every eighth row, so that training takes minutes."""


def _lines(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


def _sst2(setting: Setting, split: str) -> list[dict[str, Any]]:
    """Rows of SST-2, whose columns stand in another order in each file."""
    with (setting.assets / "sst2" / f"{split}.tsv").open(encoding="utf-8-sig", newline="") as lines:
        found = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    text = next(name for name in found[0] if name != "label")
    rows = [{"text": row[text], "label": LABELS["sst2"][int(row["label"])]} for row in found]
    return rows[::SHARE] if split == "train" and not setting.quick else rows


def _mrpc(setting: Setting, split: str) -> list[dict[str, Any]]:
    lines = _lines(setting.assets / "mrpc" / f"{split}.tsv")
    return [{"text": line[3], "text_pair": line[4], "label": LABELS["mrpc"][int(line[0])]} for line in lines]


def _recipe(setting: Setting, name: str, rows: Any, epochs: float, distilled: float, longest: int) -> dict[str, Any]:
    train, evaluated = (written(setting, f"{name}-{split}", rows(setting, split)) for split in ("train", "dev"))
    task = {"name": "text-classification", "labels": list(LABELS[name]), "max_length": longest}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=epochs, distilled=distilled))


def _texts(rows: list[dict[str, Any]]) -> list[Any]:
    return [(row["text"], row["text_pair"]) if "text_pair" in row else row["text"] for row in rows[:COMPARED]]


def _best(name: str) -> Any:
    return lambda folder, texts, limit: [LABELS[name][int(logits.argmax())] for logits in logits_of(folder, texts, limit)]


SST2 = TaskSet(
    "text-classification, SST-2",
    lambda setting: _recipe(setting, "sst2", _sst2, 2, 3, 64),
    lambda setting: _texts(_sst2(setting, "dev")),
    _best("sst2"),
    lambda ours, theirs: ours.label == theirs,
)
MRPC = TaskSet(
    "text-classification, MRPC",
    lambda setting: _recipe(setting, "mrpc", _mrpc, 5, 8, 128),
    lambda setting: _texts(_mrpc(setting, "dev")),
    _best("mrpc"),
    lambda ours, theirs: ours.label == theirs,
)
