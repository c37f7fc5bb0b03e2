"""question-answering: a part of SQuAD, compared with a loop over Transformers' model and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from task_sets.base import COMPARED, Setting, TaskSet, chain, recipe, written

LONGEST_ANSWER, BEST = 30, 20


class Asked(NamedTuple):
    """A question with what SQuAD says of it."""

    title: str
    context: str
    question: str
    answers: list[dict[str, Any]]


def asked(setting: Setting, split: str) -> Iterator[Asked]:
    """Every question of a file."""
    for article in json.loads((setting.assets / "squad" / f"{split}.json").read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for item in paragraph["qas"]:
                yield Asked(article["title"].replace("_", " "), paragraph["context"], item["question"], item["answers"])


def _answered(setting: Setting, split: str) -> list[dict[str, Any]]:
    return [{"question": item.question, "context": item.context, "answers": item.answers} for item in asked(setting, split)]


def _qa_recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"qa-{split}", _answered(setting, split)) for split in ("train", "dev"))
    task = {"name": "question-answering", "max_length": 384}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=2, distilled=2))


def transformers_answers(folder: Path, texts: list[Any], limit: int) -> list[tuple[str, int, int] | None]:
    """(text, start, end) of each answer, by Transformers' model and tokenizer; None for a context of several windows."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    found: list[tuple[str, int, int] | None] = []
    for question, context in texts:
        encoded = tokenizer(question, context, return_offsets_mapping=True, return_tensors="pt")
        offsets, of = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids(0)
        if len(offsets) > limit:
            found.append(None)
            continue
        with torch.no_grad():
            output = model(**encoded)
        starts, ends = (
            logits[0].argsort(descending=True)[:BEST].tolist() for logits in (output.start_logits, output.end_logits)
        )
        spans = [
            (float(output.start_logits[0, start] + output.end_logits[0, end]), offsets[start][0], offsets[end][1])
            for start in starts
            for end in ends
            if of[start] == of[end] == 1 and start <= end < start + LONGEST_ANSWER
        ]
        _, first, last = max(spans, key=lambda span: span[0])
        found.append((context[first:last], first, last))
    return found


SQUAD = TaskSet(
    "question-answering, SQuAD",
    _qa_recipe,
    lambda setting: [(item.question, item.context) for item in list(asked(setting, "dev"))[:COMPARED]],
    transformers_answers,
    lambda ours, theirs: (ours.answer, ours.start, ours.end) == theirs,
)
