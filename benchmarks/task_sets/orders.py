"""reranking: the STS benchmark as orders of passages. A query is a sentence; its passages are the sentence that people found to
mean the same, and sentences of other pairs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from task_sets.base import COMPARED, Setting, TaskSet, chain, logits_of, recipe, written
from task_sets.similarity import pairs

ALIKE = 4.0
"""Similarity from which on the second sentence of a pair answers the first."""
OTHERS = 7
"""Passages of a query that are of other pairs, but the hard one."""


def _rows(setting: Setting, split: str) -> list[dict[str, Any]]:
    """A row for each pair that means the same. Half of its wrong passages share the most words with the query."""
    found, drawn = pairs(setting, split), random.Random(0)
    seconds = [row["text_pair"] for row in found]
    rows = []
    for row in (row for row in found if row["score"] >= ALIKE and row["text"] != row["text_pair"]):
        words = set(row["text"].lower().split())
        pool = [text for text in drawn.sample(seconds, 60) if text not in (row["text"], row["text_pair"])]
        near = sorted(pool, key=lambda text: -len(words & set(text.lower().split())))
        passages = [row["text_pair"], *dict.fromkeys(near[: OTHERS // 2] + pool[-OTHERS // 2 :])]
        drawn.shuffle(passages)
        rows.append({"query": row["text"], "passages": passages, "relevant": [passages.index(row["text_pair"])]})
    return rows


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"orders-{split}", _rows(setting, split)) for split in ("train", "dev"))
    task = {"name": "reranking", "max_length": 128}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=1, distilled=2))


def _texts(setting: Setting) -> list[Any]:
    return [(row["query"], *row["passages"]) for row in _rows(setting, "dev")[:COMPARED]]


def _orders(folder: Path, texts: list[Any], limit: int) -> list[list[int]]:
    """The indices of each query's passages, best first, by Transformers."""
    asked = [(text[0], passage) for text in texts for passage in text[1:]]
    scores = iter(logits_of(folder, asked, limit))
    found = []
    for text in texts:
        own = [float(next(scores)[0]) for _ in text[1:]]
        found.append(sorted(range(len(own)), key=lambda index: -own[index]))
    return found


ORDERS = TaskSet(
    "reranking, STS benchmark",
    _recipe,
    _texts,
    _orders,
    lambda ours, theirs: [item.index for item in ours.passages] == theirs,
)
