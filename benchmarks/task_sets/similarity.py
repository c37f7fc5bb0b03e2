"""regression: the STS benchmark, the similarity of two sentences from 0 to 5."""

from __future__ import annotations

from typing import Any

from task_sets.base import COMPARED, Setting, TaskSet, chain, logits_of, recipe, written

CLOSE = 1e-4
"""Largest difference from Transformers' number."""


def pairs(setting: Setting, split: str) -> list[dict[str, Any]]:
    """Rows of the STS benchmark: `text`, `text_pair` and `score`."""
    lines = (setting.assets / "stsbenchmark" / f"sts-{split}.csv").read_text(encoding="utf-8").splitlines()
    parts = [line.split("\t") for line in lines if line.strip()]
    return [{"text": part[5], "text_pair": part[6], "score": float(part[4])} for part in parts]


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"sts-{split}", pairs(setting, split)) for split in ("train", "dev"))
    task = {"name": "regression", "max_length": 128}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=4, distilled=6))


STS = TaskSet(
    "regression, STS benchmark",
    _recipe,
    lambda setting: [(row["text"], row["text_pair"]) for row in pairs(setting, "dev")[:COMPARED]],
    lambda folder, texts, limit: [float(logits[0]) for logits in logits_of(folder, texts, limit)],
    lambda ours, theirs: abs(ours.score - theirs) <= CLOSE,
)
