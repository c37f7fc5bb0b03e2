"""Rows, labels and sure outputs of every task, for the contracts: what its data look like, what a perfect model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgebert.core.files import sentences
from edgebert.tasks.base import IGNORED, Array, Output, Row, Task

Sure = Callable[[Array, int], Array]
"""(targets of a window, number of labels) -> the output of a model that is sure of them; several along the last axis."""


def one_hot(targets: Array, labels: int) -> Array:
    """Logits of 1 for the target and 0 for the others; the first label where nothing counts."""
    return np.eye(labels, dtype=np.float32)[np.maximum(targets, 0)]


def as_they_are(targets: Array, labels: int) -> Array:
    """The numbers themselves."""
    return np.nan_to_num(targets)


def text_of(row: Row) -> str:
    """The text of a row, or its words."""
    return row.get("text") or " ".join(row["words"])


def sure_of_each(targets: Array, labels: int) -> Array:
    """Logits whose sigmoid is the target."""
    return (2000 * targets - 1000).astype(np.float32)


def marked(targets: Array, labels: int) -> Array:
    """Logits of 1 at the marks and 0 elsewhere."""
    return (targets == 1).astype(np.float32)


def asked(number: int, text: str) -> Row:
    """A question about a text, whose answer is one of its words."""
    word = text.split()[number % len(text.split())]
    return {"question": "which word?", "context": text, "answers": [{"text": word, "start": text.find(word)}]}


OPENING = ("One comes here", "Two is there", "Three went away")


def summarised(number: int, text: str) -> Row:
    """A document whose last sentences are its summary."""
    best = [f"{text} {number}", f"Four stays {number}", f"Five of them {number}"]
    return {"sentences": [*OPENING, *best], "summary": " ".join(best)}


@dataclass(frozen=True)
class TaskSample:
    """What the contracts need to know of a task."""

    row: Callable[[int, str], Row]
    """(number of a row, a sentence) -> a labelled row; few numbers in turn have all labels."""
    labels: tuple[str, ...] = ()
    """Labels of a model; none where its outputs are no labels."""
    sure: Sure = one_hot
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the axes that neither tokens nor labels decide."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the task, where its own defaults are not enough."""
    outputs: tuple[str, ...] = ()
    """Names of a model's outputs, where they are no labels of the data."""
    line: Callable[[Row], str] = text_of
    """A row as a line of `edgebert run`."""


TOPICS = ("food", "films", "the weather")
VOCABULARY = 400
"""Tokens of a vocabulary, at least those of the tokenizers of the tests."""
BIO = ("O", "B-thing", "I-thing")
SAMPLES: dict[str, TaskSample] = {
    "text-classification": TaskSample(
        lambda number, text: {"text": text, "label": ("no", "perhaps", "yes")[number % 3]}, ("no", "perhaps", "yes")
    ),
    "multi-label-classification": TaskSample(
        lambda number, text: {"text": text, "labels": [["joy"], ["fear", "anger"], [], ["anger"]][number % 4]},
        ("joy", "fear", "anger"),
        sure_of_each,
    ),
    "regression": TaskSample(lambda number, text: {"text": text, "score": number / 4}, sure=as_they_are, sizes={"numbers": 1}),
    "embedding": TaskSample(
        lambda number, text: {"text": text, "text_pair": "a film", "score": number / 4}, sizes={"width": 16}
    ),
    "token-classification": TaskSample(
        lambda number, text: {
            "words": text.split(),
            "tags": [BIO[(number + index) % len(BIO)] for index in range(len(text.split()))],
        },
        BIO,
    ),
    "reranking": TaskSample(
        lambda number, text: {
            "query": text,
            "passages": [text, text.upper(), "a good film"],
            "relevance": [float(index == number % 3) for index in range(3)],
        },
        sure=as_they_are,
        sizes={"numbers": 1},
        line=lambda row: "\t".join([row["query"], *row["passages"]]),
    ),
    "zero-shot-classification": TaskSample(
        lambda number, text: {"text": text, "candidates": list(TOPICS), "label": TOPICS[number % 3]},
        sure=lambda targets, labels: np.eye(3, dtype=np.float32)[np.maximum(targets, 0)],
        sizes={"numbers": 3},
        options={"candidates": TOPICS[:2], "entailment": 2, "contradiction": 0},
        outputs=("contradiction", "neutral", "entailment"),
        line=lambda row: "\t".join([row["text"], *row["candidates"]]),
    ),
    "extractive-summarisation": TaskSample(
        summarised,
        sure=lambda targets, labels: np.nan_to_num(targets) * 9,
        sizes={"numbers": 1},
        line=lambda row: ". ".join(row["sentences"]),
    ),
    "fill-mask": TaskSample(
        lambda number, text: {"text": text},
        sure=lambda targets, labels: 9 * np.eye(VOCABULARY, dtype=np.float32)[np.maximum(targets[targets != IGNORED], 0)],
        sizes={"vocabulary": VOCABULARY},
        line=lambda row: f"{row['text']} [MASK]",
    ),
    "question-answering": TaskSample(asked, sure=marked, line=lambda row: f"{row['question']}\t{row['context']}"),
}
"""Name of each task -> its sample."""


def rows_of(task: Task, count: int, first: int = 0) -> list[Row]:
    """Labelled rows of short texts."""
    texts = enumerate(sentences()[first : first + count], start=first)
    return [SAMPLES[task.name].row(number, " ".join(text.split()[:6])) for number, text in texts]


def sure_outputs(task: Task, targets: Array) -> dict[str, Array]:
    """The outputs of a model that is sure of a window's targets: one, or several along the targets' last axis."""
    sample = SAMPLES[task.name]
    values = sample.sure(targets, len(sample.labels))
    parts = [values] if len(task.outputs) == 1 else np.moveaxis(values, -1, 0)
    return {output.name: part for output, part in zip(task.outputs, parts, strict=True)}


def shape_of(output: Output, task: Task, tokens: int) -> tuple[int, ...]:
    """Shape of an output for one window of so many tokens."""
    sample = SAMPLES[task.name]
    sizes = {"tokens": tokens, "masks": tokens, "labels": len(sample.labels), **sample.sizes}
    return tuple(sizes[axis] for axis in output.axes)
