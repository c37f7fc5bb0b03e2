"""Reads data sets row by row, so that memory does not grow with the file. Every row is a plain dict.

`text_files` reads CSV, TSV, JSON Lines and CoNLL; this module reads Parquet, SQuAD's nested JSON, and data sets on the Hub,
which `datasets` streams.
"""

from __future__ import annotations

import codecs
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgebert.data.spec import DATA_FORMATS, DataSpec
from edgebert.data.text_files import check_file, read_conll, read_delimited, read_json_lines
from edgebert.errors import DataError, EnvironmentFault, MissingPackage

Rows = Iterator[dict[str, Any]]

BLOCK_ROWS = 1000
BLOCK_BYTES = 1 << 20

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
}
SNIFFED_BYTES = 1 << 16


def file_format(spec: DataSpec, path: Path) -> str:
    """The format that the recipe names, otherwise the format of the file's ending.

    Raises:
        DataError: the ending is unknown.
    """
    if spec.format:
        return str(spec.format)
    if path.suffix.lower() == ".json" and path.is_file():
        with path.open("rb") as file:
            return "squad" if b'"paragraphs"' in file.read(SNIFFED_BYTES) else "jsonl"
    if path.suffix.lower() not in ENDINGS:
        known = ", ".join(sorted(DATA_FORMATS))
        raise DataError(f"{path}: the ending {path.suffix!r} does not say what it is.", hint=f"Add `format:` ({known}).")
    return ENDINGS[path.suffix.lower()]


def read_rows(spec: DataSpec, path: Path) -> Rows:
    """The rows of a file, in order.

    Raises:
        DataError: while reading, with the fault and its line.
    """
    kind = file_format(spec, path)
    quotes = (spec.quoting or ("none" if kind == "tsv" else "standard")) == "standard"
    separator = spec.delimiter or ("\t" if kind == "tsv" else ",")
    readers: dict[str, Callable[[], Rows]] = {
        "csv": lambda: read_delimited(path, separator, quotes=quotes),
        "tsv": lambda: read_delimited(path, separator, quotes=quotes),
        "jsonl": lambda: read_json_lines(path),
        "parquet": lambda: read_parquet(path),
        "squad": lambda: read_squad(path),
        "conll": lambda: read_conll(path),
    }
    check_file(path, text=kind != "parquet")
    if kind in ("csv", "tsv", "jsonl"):
        _require_datasets(path.name)  # not to read the rows, but to keep them afterwards
    yield from readers[kind]()


def _require_datasets(what: str) -> None:
    if importlib.util.find_spec("datasets") is None:
        raise MissingPackage("datasets", needed_for=f"Reading {what}")


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [error.__class__.__name__])[0][:300]


def read_hub(spec: DataSpec, default_split: str) -> Rows:
    """The rows of a data set on the Hub, streamed.

    Raises:
        DataError: the data set has no such configuration or split.
        EnvironmentFault: the Hub cannot be reached, or has no such data set.
    """
    _require_datasets(f"the Hub data set {spec.hub}")
    from datasets import load_dataset

    try:
        yield from load_dataset(
            spec.hub, spec.config, split=spec.split or default_split, revision=spec.revision, streaming=True
        )
    except ValueError as error:  # an unknown configuration or split
        hint = "Check its name, config and split in the recipe."
        raise DataError(f"The Hub data set {spec.hub} could not be read: {_reason(error)}", hint=hint) from error
    except Exception as error:
        raise EnvironmentFault(
            f"The Hub data set {spec.hub} could not be read: {_reason(error)}",
            hint="With a network, check the name, config and split. Without one, give a file: --set data.eval=FILE",
        ) from error


def read_parquet(path: Path) -> Rows:
    """Rows of a Parquet file, read through a small buffer: `datasets` would keep whole row groups in memory."""
    _require_datasets(path.name)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=BLOCK_BYTES, pre_buffer=False) as file:
            for block in file.iter_batches(batch_size=BLOCK_ROWS):
                yield from block.to_pylist()
    except (pa.ArrowException, OSError) as error:
        hint = "It may be a partial copy: fetch or write it again."
        raise DataError(f"{path} cannot be read as PARQUET: {_reason(error)}", hint=hint) from error


def read_squad(path: Path) -> Rows:
    """Rows of a SQuAD 1.1 or 2.0 file: one row a question, with id, title, context, question and answers {text, answer_start}.

    The file is parsed as a stream, one article at a time.
    """
    try:
        import ijson
    except ImportError as error:
        raise MissingPackage("ijson", needed_for=f"Reading {path.name}") from error
    try:
        with path.open("rb") as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            for article in ijson.items(file, "data.item"):
                yield from _questions(article)
    except ijson.JSONError as error:
        raise DataError(f"{path} is not valid JSON: {_reason(error)}") from error
    except KeyError as error:
        raise DataError(f"{path} is not in SQuAD's format: an article lacks {error}.") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} is not in SQuAD's format: {_reason(error)}.") from error


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
