"""extractive-summarisation: paragraphs of SQuAD, and the sentences in them that hold the answers to their questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgebert.tasks.sentence_split import sentence_spans

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
