"""Counts how many eval texts a serving cuts, and how many of their tokens its tokenizer does not know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgebert.core.progress import ProgressStep
from edgebert.data.drift import unknown_id
from edgebert.report.text_counts import TextCounts
from edgebert.runtimes.serving import Serving
from edgebert.tasks.base import Row


def count_texts(serving: Serving, blocks: Iterable[Sequence[Row]], step: ProgressStep | None = None) -> TextCounts:
    """The counts over all rows, one or more of them."""
    tokenizer = serving.open_tokenizer()
    special, unknown = {*tokenizer.encode("").ids}, unknown_id(tokenizer)
    texts = cut = tokens = unknowns = 0
    for rows in blocks:
        encoded = serving.encode(tokenizer, rows)
        texts += len(rows)
        cut += len({item.row for item in encoded if item.cut})
        for item in encoded:
            tokens += sum(token not in special for token in item.ids)
            unknowns += item.ids.count(unknown) if unknown is not None else 0
        if step:
            step.advance(len(rows))
    return TextCounts(texts=texts, cut=cut, tokens=tokens, unknown=unknowns)
