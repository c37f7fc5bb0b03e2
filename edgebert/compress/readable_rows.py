"""Whether a model can read the rows of the data sets: each has a token, and a segment for each of its texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgebert.data.prepared import PreparedData
from edgebert.errors import DataError
from edgebert.models.families import family_of_config
from edgebert.runtimes.serving import Serving

TEXTS = ("text", "texts")
"""Kinds of columns that become segments of their own."""


def check_readable(sets: Iterable[PreparedData], serving: Serving, config: Mapping[str, Any]) -> None:
    """Checks rows as the model would read them.

    Args:
        config: the model's config.json.

    Raises:
        DataError: the tokenizer makes no token of a row, or marks a pair with segments that the model does not have.
    """
    tokenizer = serving.open_tokenizer()
    for data in sets:
        if not tokenizer.num_special_tokens_to_add(False):  # else every row has those
            _check_tokens(data, serving, tokenizer)
        _check_segments(data, serving, tokenizer, config)


def _check_tokens(data: PreparedData, serving: Serving, tokenizer: Any) -> None:
    before = 0
    for rows in data.blocks():
        for item in serving.task.encode(tokenizer, rows, serving.max_length):
            if not item.ids:
                raise DataError(
                    f"data.{data.role}: row {before + item.row + 1} has no token: the tokenizer drops all of its characters.",
                    hint="Take the row out, or take a model that knows its script.",
                )
        before += len(rows)


def _check_segments(data: PreparedData, serving: Serving, tokenizer: Any, config: Mapping[str, Any]) -> None:
    known, texts = config.get("type_vocab_size"), {column.name for column in serving.task.columns if column.kind in TEXTS}
    if not isinstance(known, int) or len(texts & {*data.columns}) < 2:
        return
    if "token_type_ids" not in family_of_config(config).inputs_for(known):
        return
    used = 1 + max(max(item.type_ids, default=0) for item in serving.task.encode(tokenizer, data.rows([0]), serving.max_length))
    if used > known:
        raise DataError(
            f"data.{data.role} has pairs, whose tokens are of {used} segments, but the model knows {known} (type_vocab_size).",
            hint="Take a model that was trained on pairs" + (", or leave out text_pair." if "text_pair" in texts else "."),
        )
