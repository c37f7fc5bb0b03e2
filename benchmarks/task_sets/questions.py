"""question-answering: SQuAD; compared with a loop over Transformers' model and fast tokenizer, as its run_qa.py has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgebert.data.readers import read_squad
from task_sets.base import COMPARED, Setting, TaskSet, chain, recipe

STRIDE, BEST, LONGEST_ANSWER = 128, 20, 30


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = ({"path": str(setting.assets / "squad" / f"{split}.json")} for split in ("train", "dev"))
    task = {"name": "question-answering", "max_length": 384}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=4, distilled=4))


def _texts(setting: Setting) -> list[Any]:
    rows = list(read_squad(setting.assets / "squad" / "dev.json"))[:COMPARED]
    return [(row["question"], row["context"]) for row in rows]


def transformers_answers(folder: Path, texts: list[Any], limit: int) -> list[tuple[int, int]]:
    """Characters of the best answer to each question, by Transformers alone."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    stride = min(STRIDE, limit // 3)
    cut = {"truncation": "only_second", "max_length": limit, "stride": stride, "return_overflowing_tokens": True}
    answers = []
    for question, context in texts:
        found = tokenizer(question, context.replace("\t", " "), **cut, return_offsets_mapping=True)
        best = (float("-inf"), (0, 0))
        for window, ids in enumerate(found["input_ids"]):
            inputs = {name: torch.tensor([found[name][window]]) for name in tokenizer.model_input_names if name in found}
            with torch.no_grad():
                outputs = model(**inputs)
            tokens = [token for token in range(len(ids)) if found.sequence_ids(window)[token] == 1]
            start, end = outputs.start_logits[0], outputs.end_logits[0]
            starts, ends = (sorted(tokens, key=lambda token, of=of: -float(of[token]))[:BEST] for of in (start, end))
            for first in starts:
                for last in ends:
                    score = float(start[first]) + float(end[last])
                    if first <= last < first + LONGEST_ANSWER and score > best[0]:
                        places = found["offset_mapping"][window]
                        best = score, (places[first][0], places[last][1])
        answers.append(best[1])
    return answers


SQUAD = TaskSet(
    "question-answering, SQuAD",
    _recipe,
    _texts,
    transformers_answers,
    lambda ours, theirs: (ours.start, ours.end) == theirs,
)
