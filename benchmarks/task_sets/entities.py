"""token-classification: WNUT-17, entities of noisy user text; compared with Transformers' model and seqeval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgebert.data.text_files import read_conll
from task_sets.base import COMPARED, Setting, TaskSet, chain, recipe

Found = list[tuple[str, int, int]]
"""(type, start, end) of each entity of a text."""


def _recipe(setting: Setting) -> dict[str, Any]:
    train, evaluated = ({"path": str(setting.assets / "wnut17" / f"{split}.conll")} for split in ("train", "dev"))
    task = {"name": "token-classification", "max_length": 128}
    return recipe(setting, task, train, evaluated, chain(setting, epochs=8, distilled=5))


def _texts(setting: Setting) -> list[Any]:
    return [" ".join(row["words"]) for row in list(read_conll(setting.assets / "wnut17" / "dev.conll"))[:COMPARED]]


def transformers_entities(folder: Path, texts: list[Any], limit: int) -> list[Found | None]:
    """The entities of each text, by Transformers and seqeval alone; None for a text that is cut."""
    import torch
    from seqeval.metrics.sequence_labeling import get_entities
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder).eval()
    found: list[Found | None] = []
    for text in texts:
        encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        offsets = encoded.pop("offset_mapping")[0].tolist()
        if len(offsets) > limit:
            found.append(None)
            continue
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(dim=-1).tolist()
        words: dict[int, list[int]] = {}
        for token, word in enumerate(encoded.word_ids(0)):
            if word is not None:
                words.setdefault(word, []).append(token)
        groups = list(words.values())
        entities = get_entities([model.config.id2label[best[group[0]]] for group in groups])
        found.append([(kind, offsets[groups[first][0]][0], offsets[groups[last][-1]][1]) for kind, first, last in entities])
    return found


WNUT17 = TaskSet(
    "token-classification, WNUT-17",
    _recipe,
    _texts,
    transformers_entities,
    lambda ours, theirs: [(item.label, item.start, item.end) for item in ours.entities] == theirs,
)
