"""extractive-summarisation: paragraphs of SQuAD, and the sentences in them that hold the answers to their questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.tasks.sentence_split import sentence_spans
from task_sets.base import COMPARED, Setting, TaskSet, chain, recipe, written

LEAST = 6
"""Sentences of a paragraph, so that a choice is to be made."""
CHOSEN = 3


def summaries(file: Path) -> Iterator[dict[str, Any]]:
    """Rows `document` and `summary` of a SQuAD file: the CHOSEN sentences with the most answers, in the paragraph's order.

    A paragraph counts if it has LEAST sentences or more, and answers in CHOSEN of them or more.
    """
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            text, spans = paragraph["context"], sentence_spans(paragraph["context"])
            starts = [question["answers"][0]["answer_start"] for question in paragraph["qas"] if question["answers"]]
            counts = [sum(start <= place < end for place in starts) for start, end in spans]
            ranked = sorted((index for index, count in enumerate(counts) if count), key=lambda index, of=counts: -of[index])
            if len(spans) >= LEAST and len(ranked) >= CHOSEN:
                yield {"document": text, "summary": " ".join(text[slice(*spans[index])] for index in sorted(ranked[:CHOSEN]))}


def _rows(setting: Setting, split: str) -> list[dict[str, Any]]:
    return list(summaries(setting.assets / "squad" / f"{split}.json"))


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = (written(setting, f"summaries-{split}", _rows(setting, split)) for split in ("train", "dev"))
    task = {"name": "extractive-summarisation", "max_length": 384}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=4, distilled=4))


def chosen_sentences(folder: Path, texts: list[Any], limit: int) -> list[list[tuple[int, int]] | None]:
    """Characters of the best sentences of each document, by Transformers' model alone, which reads the first token of each
    sentence; None for a document of several windows, or whose sentences share three words in a row."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder).eval()
    found: list[list[tuple[int, int]] | None] = []
    for text in texts:
        spans = sentence_spans(text)
        pieces = [tokenizer(text[start:end])["input_ids"] for start, end in spans]
        words = [trigram for start, end in spans for trigram in {*_trigrams(text[start:end])}]
        if sum(map(len, pieces)) > limit or len(set(words)) < len(words):
            found.append(None)
            continue
        ids = torch.tensor([[token for piece in pieces for token in piece]])
        segments = torch.tensor([[number % 2 for number, piece in enumerate(pieces) for _ in piece]])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), token_type_ids=segments).logits[0, :, 0]
        firsts = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
        best = sorted(range(len(pieces)), key=lambda number, of=logits, at=firsts: -float(of[at[number]]))[:CHOSEN]
        found.append([spans[number] for number in sorted(best)])
    return found


def _trigrams(sentence: str) -> Iterator[tuple[str, ...]]:
    words = re.findall(r"\w+", sentence.lower())
    return zip(words, words[1:], words[2:], strict=False)


SUMMARIES = TaskSet(
    "extractive-summarisation, SQuAD",
    _recipe,
    lambda setting: [row["document"] for row in (_rows(setting, "dev") + _rows(setting, "train"))[:COMPARED]],
    chosen_sentences,
    lambda ours, theirs: [(item.start, item.end) for item in ours.sentences] == theirs,
)
