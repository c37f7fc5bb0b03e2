"""zero-shot-classification: which article of SQuAD a question is about. Dev has other articles than train, so that their titles
are labels that no model was trained on.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs import compress

from edgebert.core.store import ArtifactStore
from task_sets.base import COMPARED, Setting, TaskSet, chain, recipe, written

TEMPLATE = "This text is about {}."
OTHERS = 4
"""Titles that a question of train is not about, beside its own."""
CLOSE = 1e-4


def _questions(setting: Setting, split: str) -> Iterator[tuple[str, str]]:
    """Every question of a file, with the title of its article."""
    for article in json.loads((setting.assets / "squad" / f"{split}.json").read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            yield from ((item["question"], article["title"].replace("_", " ")) for item in paragraph["qas"])


def _rows(setting: Setting, split: str) -> list[dict[str, Any]]:
    """Questions with candidate titles: all of dev's, of train's the right one and others, drawn."""
    questions, drawn = list(_questions(setting, split)), random.Random(0)
    titles = sorted({title for _, title in questions})
    rows = []
    for question, title in questions:
        others = [other for other in titles if other != title]
        some = drawn.sample(others, min(OTHERS, len(others)))
        rows.append({"text": question, "candidates": sorted([title, *some]), "label": title})
    return rows


def _inferences(setting: Setting, split: str) -> list[dict[str, Any]]:
    """Pairs of a question and a hypothesis on its article, half of them right."""
    drawn, rows = random.Random(0), []
    for row in _rows(setting, split):
        wrong = drawn.choice([title for title in row["candidates"] if title != row["label"]])
        for title, label in ((row["label"], "entailment"), (wrong, "contradiction")):
            rows.append({"text": row["text"], "text_pair": TEMPLATE.format(title), "label": label})
    return rows


def _inference_model(setting: Setting) -> Path:
    """A model of natural language inference, fine-tuned by edgebert on the titles of train."""
    train, evaluated = (written(setting, f"inferences-{split}", _inferences(setting, split)) for split in ("train", "dev"))
    task = {"name": "text-classification", "labels": ["contradiction", "entailment"], "max_length": 64}
    finetune, *_ = chain(setting, epochs=1, distilled=1)
    run = compress(recipe(setting, task, train, evaluated, [finetune, "export"]), setting.work, setting.store, "inferences")
    steps = json.loads((run.folder / "run.json").read_text())["steps"]
    made = ArtifactStore(setting.store).get(next(step["key"] for step in steps if step["step"] == "finetune"))
    assert made is not None  # the run has just ended
    folder = setting.work / "inference-model"
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(made.path, folder))


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"titles-{split}", _rows(setting, split)) for split in ("train", "dev"))
    task = {"name": "zero-shot-classification", "max_length": 64, "template": TEMPLATE}
    made = recipe(setting, task, train, evaluated, chain(setting, epochs=0, distilled=1, finetune=False))
    return {**made, "model": str(_inference_model(setting))}


def _texts(setting: Setting) -> list[Any]:
    return [(row["text"], *row["candidates"]) for row in _rows(setting, "dev")[:COMPARED]]


def _scores(folder: Path, texts: list[Any], limit: int) -> list[dict[str, float]]:
    """Title -> score for each text, by Transformers' pipeline."""
    from transformers import pipeline

    ask = pipeline("zero-shot-classification", model=str(folder), tokenizer=str(folder))
    answers = [ask(text[0], list(text[1:]), hypothesis_template=TEMPLATE) for text in texts]
    return [dict(zip(answer["labels"], answer["scores"], strict=True)) for answer in answers]


TITLES = TaskSet(
    "zero-shot-classification, SQuAD's titles",
    _recipe,
    _texts,
    _scores,
    lambda ours, theirs: all(abs(score - theirs[label]) <= CLOSE for label, score in ours.probabilities.items()),
)
