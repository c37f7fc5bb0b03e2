"""Reads data sets row by row, so that memory does not grow with the file. Every row is a plain dict.

`text_files` reads CSV, TSV, JSON Lines and CoNLL, `arrow_files` what Arrow wrote; this module reads SQuAD's nested JSON, and
data sets on the Hub, which `datasets` streams.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from edgebert.data.arrow_files import read_arrow, read_parquet, read_saved
from edgebert.data.formats import BINARY, file_format
from edgebert.data.json_values import Nesting
from edgebert.data.label_columns import joined_labels
from edgebert.data.spec import DataSpec
from edgebert.data.text_files import (
    check_file,
    open_text,
    own_separator,
    quoted_as_pandas,
    read_conll,
    read_delimited,
    read_json_lines,
)
from edgebert.errors import DataError, EnvironmentFault, MissingPackage

Rows = Iterator[dict[str, Any]]


def read_rows(spec: DataSpec, path: Path) -> Rows:
    """The rows of a file, in order.

    Raises:
        DataError: while reading, with the fault and its line.
    """
    kind = file_format(spec, path)
    readers: dict[str, Callable[[], Rows]] = {
        "csv": lambda: _read_table(spec, path, ","),
        "tsv": lambda: _read_table(spec, path, "\t"),
        "jsonl": lambda: read_json_lines(path),
        "parquet": lambda: read_parquet(path),
        "arrow": lambda: read_arrow(path),
        "saved": lambda: read_saved(path),
        "squad": lambda: read_squad(path),
        "conll": lambda: read_conll(path),
    }
    if kind != "saved":
        check_file(path, text=kind not in BINARY)
    if kind not in ("squad", "conll"):
        _require_datasets(path.name)  # if not to read the rows, then to keep them afterwards
    yield from joined_labels(readers[kind](), spec.label_columns)


def _read_table(spec: DataSpec, path: Path, separator: str) -> Rows:
    """Rows of CSV, or of TSV, whose quotes are ordinary characters unless the recipe or pandas says otherwise."""
    plain = separator == "\t" and not is_quoted_tsv(spec, path)
    quotes = spec.quoting == "standard" if spec.quoting else not plain
    return read_delimited(path, spec.delimiter or own_separator(path) or separator, quotes=quotes, header=spec.header is None)


def is_quoted_tsv(spec: DataSpec, path: Path) -> bool:
    """Whether pandas wrote a TSV file, with quotes around fields, and the recipe does not say how it is quoted."""
    if spec.quoting or path.is_dir() or file_format(spec, path) != "tsv":
        return False
    return quoted_as_pandas(path, spec.delimiter or "\t")


def _require_datasets(what: str) -> None:
    if importlib.util.find_spec("datasets") is None:
        raise MissingPackage("datasets", needed_for=f"Reading {what}")


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [error.__class__.__name__])[0][:300]


def hub_features(spec: DataSpec, default_split: str) -> Mapping[str, Any]:
    """Column -> description of its values, as `datasets` writes it; empty where the Hub names none. Faults are `read_hub`'s."""
    try:
        features = _hub_set(spec, default_split).features
    except Exception:  # the rows cannot be read either, which names the fault
        return {}
    return dict(features.to_dict()) if features else {}


def _hub_set(spec: DataSpec, default_split: str) -> Any:
    _require_datasets(f"the Hub data set {spec.hub}")
    from datasets import load_dataset

    return load_dataset(spec.hub, spec.config, split=spec.split or default_split, revision=spec.revision, streaming=True)


def read_hub(spec: DataSpec, default_split: str) -> Rows:
    """The rows of a data set on the Hub, streamed.

    Raises:
        DataError: the data set has no such configuration or split.
        EnvironmentFault: the Hub cannot be reached, or has no such data set.
    """
    try:
        yield from joined_labels(_hub_set(spec, default_split), spec.label_columns)
    except ValueError as error:  # an unknown configuration or split
        hint = "Check its name, config and split in the recipe."
        raise DataError(f"The Hub data set {spec.hub} could not be read: {_reason(error)}", hint=hint) from error
    except Exception as error:
        raise EnvironmentFault(
            f"The Hub data set {spec.hub} could not be read: {_reason(error)}",
            hint="With a network, check the name, config and split. Without one, give a file: --set data.eval=FILE",
        ) from error


def read_squad(path: Path) -> Rows:
    """Rows of a SQuAD 1.1 or 2.0 file: one row a question, with id, title, context, question and answers {text, answer_start}.

    The file is parsed as a stream, one article at a time.
    """
    try:
        import ijson
    except ImportError as error:
        raise MissingPackage("ijson", needed_for=f"Reading {path.name}") from error
    try:
        with open_text(path) as file:
            for article in ijson.items(_Utf8(file), "data.item"):
                yield from _questions(article)
    except ijson.JSONError as error:
        raise DataError(f"{path} is not valid JSON: {_reason(error)}") from error
    except KeyError as error:
        raise DataError(f"{path} is not in SQuAD's format: an article lacks {error}.") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} is not in SQuAD's format: {_reason(error)}.") from error


class _Utf8:
    """A text file as bytes of UTF-8, whatever its encoding."""

    def __init__(self, file: TextIO) -> None:
        """Reads from a file that is open."""
        self._file, self._nesting = file, Nesting()

    def read(self, size: int) -> bytes:
        """The next characters, about `size` bytes. Raises ValueError where they are nested so deeply that it crashes."""
        text = self._file.read(size)
        self._nesting.read(text)
        return text.encode()


def _questions(article: dict[str, Any]) -> Rows:
    for paragraph in article["paragraphs"]:
        for question in paragraph["qas"]:
            answers = question.get("answers", [])
            yield {
                "id": str(question["id"]),
                "title": article.get("title", ""),
                "context": paragraph["context"],
                "question": question["question"],
                "answers": {
                    "text": [answer["text"] for answer in answers],
                    "answer_start": [int(answer["answer_start"]) for answer in answers],
                },
            }
