"""Reads data files row by row, so that memory does not grow with the file. Every row is a plain dict.

CSV, TSV, JSON Lines and Parquet come through `datasets` in streaming mode; SQuAD's nested JSON and CoNLL's blank-line
blocks through the two small readers below.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from edgebert.errors import DataError, EnvironmentFault, MissingPackage
from edgebert.recipe import DataSpec

Rows = Iterator[dict[str, Any]]

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".bio": "conll",
    ".json": "squad",
}


def file_format(spec: DataSpec, path: Path) -> str:
    """The format that the recipe says, else the one of the file's ending.

    Raises:
        DataError: the ending says nothing.
    """
    if spec.format:
        return str(spec.format)
    if path.suffix.lower() not in ENDINGS:
        known = ", ".join(sorted(set(ENDINGS.values())))
        raise DataError(f"{path}: the ending {path.suffix!r} does not say what it is.", hint=f"Add `format:` ({known}).")
    return ENDINGS[path.suffix.lower()]


def read_rows(spec: DataSpec, path: Path) -> Rows:
    """The file's rows, in order.

    Raises:
        DataError: while reading, with what is wrong and where.
    """
    kind = file_format(spec, path)
    readers: dict[str, Callable[[], Rows]] = {
        "csv": lambda: _delimited(spec, path, ",", "standard"),
        "tsv": lambda: _delimited(spec, path, "\t", "none"),
        "jsonl": lambda: _stream("json", path),
        "parquet": lambda: _stream("parquet", path),
        "squad": lambda: read_squad(path),
        "conll": lambda: read_conll(path),
    }
    check_file(path, text=kind != "parquet")
    yield from readers[kind]()


def check_file(path: Path, *, text: bool) -> None:
    """Raises DataError when the file is missing, empty or not UTF-8. Reads it in blocks."""
    if path.is_dir():
        raise DataError(f"{path} is a folder.", hint="Name a file in it.")
    if not path.is_file():
        raise DataError(f"The data file {path} does not exist.", hint="Correct `path` in the recipe, or --set data....path=...")
    if path.stat().st_size == 0:
        raise DataError(f"The data file {path} is empty.")
    if not text:
        return
    line = 1
    try:
        with path.open(encoding="utf-8", newline="") as file:
            while block := file.read(1 << 20):
                line += block.count("\n")
                if "\0" in block:
                    raise DataError(f"{path} holds NUL bytes near line {line}; it is not a text file.")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text, near line {line} (byte 0x{error.object[error.start]:02x}).",
            hint="Convert it, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error


def _delimited(spec: DataSpec, path: Path, delimiter: str, quoting: Literal["standard", "none"]) -> Rows:
    _require_datasets(path.name)
    from datasets import Features, Value

    quotes: Literal[0, 3] = csv.QUOTE_NONE if (spec.quoting or quoting) == "none" else csv.QUOTE_MINIMAL
    separator = spec.delimiter or delimiter
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next(csv.reader(file, delimiter=separator, quoting=quotes))
        except (StopIteration, csv.Error) as error:
            raise DataError(f"{path} has no header line with the names of its columns.") from error
    # Everything as text: a column's type must not depend on which rows a block happens to hold.
    features = Features({name: Value("string") for name in names})
    yield from _stream("csv", path, sep=separator, quoting=quotes, keep_default_na=False, features=features)


def _stream(builder: str, path: Path, **options: Any) -> Rows:
    _require_datasets(path.name)
    from datasets import load_dataset

    try:
        yield from load_dataset(builder, data_files=str(path), split="train", streaming=True, **options)
    except DataError:
        raise
    except Exception as error:  # pandas and pyarrow each have classes of their own
        hint = (
            "Check the separator and the quotes; `quoting: none` reads quotes as ordinary characters."
            if builder == "csv"
            else None
        )
        raise DataError(f"{path} cannot be read as {builder.upper()}: {_reason(error)}", hint=hint) from error


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
        EnvironmentFault: the Hub cannot be reached, or does not have it.
    """
    _require_datasets(f"the Hub data set {spec.hub}")
    from datasets import load_dataset

    try:
        yield from load_dataset(
            spec.hub, spec.config, split=spec.split or default_split, revision=spec.revision, streaming=True
        )
    except Exception as error:
        raise EnvironmentFault(
            f"The Hub data set {spec.hub} could not be read: {_reason(error)}",
            hint="With a network, check the name, config and split. Without one, give a file: --set data.<which>.path=FILE",
        ) from error


def read_squad(path: Path) -> Rows:
    """SQuAD 1.1 and 2.0: one row a question, with id, title, context, question and answers {text, answer_start}.

    The file is parsed as a stream, one article at a time.
    """
    try:
        import ijson
    except ImportError as error:
        raise MissingPackage("ijson", needed_for=f"Reading {path.name}") from error
    try:
        with path.open("rb") as file:
            for article in ijson.items(file, "data.item"):
                yield from _questions(article)
    except ijson.JSONError as error:
        raise DataError(f"{path} is not valid JSON: {_reason(error)}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not in SQuAD's format: an article lacks {error}.") from error


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


def read_conll(path: Path) -> Rows:
    """CoNLL: one row a sentence, `tokens` and `tags` from the first and the last column of its lines."""
    tokens: list[str] = []
    tags: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip() or line.startswith("-DOCSTART-"):
                if tokens:
                    yield {"tokens": tokens, "tags": tags}
                tokens, tags = [], []
                continue
            parts = line.split()
            if len(parts) < 2:
                raise DataError(f"{path}, line {number}: needs a token and a tag, has {line.strip()!r}.")
            tokens.append(parts[0])
            tags.append(parts[-1])
    if tokens:
        yield {"tokens": tokens, "tags": tags}
