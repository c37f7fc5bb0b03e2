"""Kinds of columns: how a value of a file becomes a value of a prepared set, and which labels it holds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgebert.data.label_columns import labels_among
from edgebert.data.label_match import plain_label
from edgebert.tasks.base import Column, Kind

MAX_CHARACTERS = 1_000_000
MAX_WORDS = 100_000
MAX_LABEL = 1_000
LARGEST = 10**15
"""Numbers from here on are no labels; beyond 2^53 a float is not the number that was written."""
UNKNOWN = -1
"""Start of an answer whose place the file does not say."""
MISSING_MARKS = ("nan", "NaN")  # what pandas and numpy write for a missing value


@dataclass(frozen=True)
class ColumnKind:
    """One kind of column."""

    is_list: bool
    """Whether a value is a list, and not a single value."""
    read: Callable[[Any], Any]
    """Value of a file -> value of the prepared set. Raises ValueError with the fault, to follow the column's name."""
    labels: Callable[[Any], Sequence[str]]
    """Value of the prepared set -> the labels in it."""
    arrow: Callable[[Any], Any] = lambda arrow: arrow.string()
    """The package pyarrow -> the type of the value, or of the entries of its list, in a prepared set."""


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    if _missing(value):
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"is not text but {type(value).__name__}")
    if not value.strip():
        raise ValueError("is empty")
    if value.strip() in MISSING_MARKS:
        raise ValueError(f"is {value.strip()!r}, which is how pandas writes a missing value")
    if len(value) > MAX_CHARACTERS:
        hint = "a quote that never closes, or lines that were joined?"
        raise ValueError(f"has {len(value):,} characters (at most {MAX_CHARACTERS:,}): {hint}")
    return value


def _label(value: Any) -> str:
    """A label as text, the same from every format: 1, 1.0, "1.0" and " 1 " are `1`; true is `True`, as pandas writes it."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST:
        raise ValueError(f"is a number of more than {len(str(LARGEST)) - 1} digits")
    if isinstance(value, float) and not _missing(value) and abs(value) >= LARGEST:
        raise ValueError(f"is {value:g}, which is no label")
    text = str(value) if isinstance(value, bool | int | float) and not _missing(value) else _text(value)
    if len(label := plain_label(text)) > MAX_LABEL:
        raise ValueError(f"has {len(label):,} characters, too many for a label (at most {MAX_LABEL:,})")
    return label


def _items(value: Any) -> list[Any]:
    if _missing(value):
        raise ValueError("is missing")
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list but {type(value).__name__}: write it as a JSON list, or as CoNLL")
    if not value:
        raise ValueError("is an empty list")
    if len(value) > MAX_WORDS:
        raise ValueError(f"has {len(value):,} entries (at most {MAX_WORDS:,}): sentences that were joined?")
    return list(value)


def _words(value: Any) -> list[str]:
    words = _items(value)
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise ValueError(f"has word {number} that is not text but {type(word).__name__}")
        if not word.strip():
            raise ValueError(f"has word {number} that is empty")
    return words


def _tags(value: Any) -> list[str]:
    tags = []
    for number, tag in enumerate(_items(value), start=1):
        try:
            tags.append(_label(tag))
        except ValueError as fault:
            raise ValueError(f"has tag {number} that {fault}") from None
    return tags


def _texts(value: Any) -> list[str]:
    texts = []
    for number, text in enumerate(_items(value), start=1):
        try:
            texts.append(_text(text))
        except ValueError as fault:
            raise ValueError(f"has text {number} that {fault}") from None
    return texts


def _labels(value: Any) -> list[str]:
    """Different labels; none in an empty list. In CSV the list is a cell's JSON. Of true and false, or 1.0 and 0.0, for each
    output, the numbers of those that are true."""
    if isinstance(value, Mapping):
        return labels_among(value)
    value = _json_list(value) if isinstance(value, str) and value.strip() else value
    if isinstance(value, list | tuple) and len(value) > 1 and all(_is_flag(item) for item in value):
        return [str(number) for number, flag in enumerate(value) if flag]
    # [1.0] beside [3.0] would be a label's number in one row, and one flag for each label in the next.
    if isinstance(value, list | tuple) and any(isinstance(item, float | bool) and not _missing(item) for item in value):
        raise ValueError(f"is {str(value)[:60]}: write numbers of labels without a point, or a 0.0 or 1.0 for each label")
    labels = _tags(value) if value not in ([], ()) else []
    if twice := next((label for label, count in Counter(labels).items() if count > 1), None):
        hint = ": as one 0 or 1 for each label, write them 0.0 and 1.0, or true and false" if twice in ("0", "1") else ""
        raise ValueError(f"names the label {twice!r} twice{hint}")
    return labels


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, float) and value in (0.0, 1.0))


def _json_list(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        example = json.dumps(re.split(r"\s*[|;,]\s*", text.strip()[:60]), ensure_ascii=False)
        raise ValueError(f"is the text {text[:60]!r}, not a list of labels: write it as JSON, {example}") from None


def _number(value: Any) -> float:
    """A finite number, written as one or as text: 3, 3.5, "3.5"."""
    if isinstance(value, bool):
        raise ValueError("is true or false, not a number")
    text = value if isinstance(value, int | float) and not _missing(value) else _text(value).strip()
    try:
        number = float(text)
    except (ValueError, OverflowError):
        raise ValueError(f"is {str(value)[:60]!r}, not a number") from None
    if not abs(number) < LARGEST:
        raise ValueError(f"is {number:g}, not a number below {LARGEST:g}")
    return number


def _numbers(value: Any) -> list[float]:
    numbers = []
    for place, number in enumerate(_items(value) if value not in ([], ()) else [], start=1):
        try:
            numbers.append(_number(number))
        except ValueError as fault:
            raise ValueError(f"has number {place} that {fault}") from None
    return numbers


def _answers(value: Any) -> list[dict[str, Any]]:
    """Answers {"text", "start"} of each form that data sets have: SQuAD's lists `text` and `answer_start`, a list of such
    answers, texts, or one text. An empty text and an empty list are no answer."""
    if _missing(value):
        raise ValueError("is missing; a question without an answer has an empty list")
    if isinstance(value, str):
        return [_one_answer({"text": value})] if value.strip() else []
    if isinstance(value, Mapping):
        value = _by_answer(value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"is not a list of answers but {type(value).__name__}")
    return [_one_answer({"text": answer} if isinstance(answer, str) else answer) for answer in value]


def _by_answer(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answers of {"text": [...], "answer_start": [...]}."""
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list | None):
        raise ValueError('is not of the form {"text": [...], "answer_start": [...]}')
    if starts is not None and len(starts) != len(texts):
        raise ValueError(f"has {len(texts)} texts and {len(starts)} values of `answer_start`")
    places = [None] * len(texts) if starts is None else starts
    return [{"text": text, "answer_start": start} for text, start in zip(texts, places, strict=True)]


def _one_answer(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"has an answer that is {type(value).__name__}")
    try:
        text, start = _text(value.get("text")), value.get("answer_start", value.get("start"))
    except ValueError as fault:
        raise ValueError(f"has an answer whose `text` {fault}") from None
    if start is not None and (isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < LARGEST):
        raise ValueError(f"has an answer whose `answer_start` is {str(start)[:40]!r}, not the number of a character")
    return {"text": text, "start": UNKNOWN if start is None else start}


def _answer_type(arrow: Any) -> Any:
    return arrow.struct([("text", arrow.string()), ("start", arrow.int64())])


KINDS: dict[Kind, ColumnKind] = {
    "text": ColumnKind(False, _text, lambda value: ()),
    "words": ColumnKind(True, _words, lambda value: ()),
    "texts": ColumnKind(True, _texts, lambda value: ()),
    "labels": ColumnKind(True, _labels, lambda value: value),
    "number": ColumnKind(False, _number, lambda value: (), lambda arrow: arrow.float64()),
    "numbers": ColumnKind(True, _numbers, lambda value: (), lambda arrow: arrow.float64()),
    "label": ColumnKind(False, _label, lambda value: (value,)),
    "tags": ColumnKind(True, _tags, lambda value: value),
    "answers": ColumnKind(True, _answers, lambda value: (), _answer_type),
}
"""Kind -> how its values are read."""


def source_of(column: Column, present: Collection[str]) -> str:
    """Name of a column in a file: its own, else one that data sets often give it.

    Args:
        present: names of the file's columns.
    """
    return next((name for name in (column.name, *column.other_names) if name in present), column.name)
