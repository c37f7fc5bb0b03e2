"""TextTask: what the tasks share whose model reads one text or a pair, cut to one window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgebert.tasks.base import Column, Encoded, Row, Task, cut_at, without_tabs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEXT, PAIR = Column("text"), Column("text_pair", required=False)
"""The columns of such a task, beside that of the right answers."""


class TextTask(Task):
    """A task with the columns `text` and, at will, `text_pair`."""

    reads = "first"

    def encode(self, tokenizer: Tokenizer, rows: Sequence[Row], max_length: int) -> list[Encoded]:
        """Tokenises `text`, or `text` and `text_pair` cut longest first; one window a row."""
        cut_at(tokenizer, max_length)
        found = enumerate(tokenizer.encode_batch([_input_of(row) for row in rows]))
        return [Encoded(tuple(item.ids), tuple(item.type_ids), row, cut=bool(item.overflowing)) for row, item in found]

    def rows_from(self, sentences: Sequence[str], columns: Sequence[str]) -> list[Row]:
        """Each sentence, paired with its successor where the data has pairs."""
        if "text_pair" not in columns:
            return [{"text": sentence} for sentence in sentences]
        followers = [*sentences[1:], *sentences[:1]]
        return [{"text": text, "text_pair": pair} for text, pair in zip(sentences, followers, strict=True)]


def _input_of(row: Row) -> str | tuple[str, str]:
    """What the tokenizer is given: a text, or a pair."""
    text = without_tabs(row["text"])
    return text if row.get("text_pair") is None else (text, without_tabs(row["text_pair"]))
