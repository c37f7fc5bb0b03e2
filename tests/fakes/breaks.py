"""Broken inputs for the tests of bad input: what is broken in a folder, and what the refusal says and leaves behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgebert.core.store import ArtifactStore
from edgebert.errors import EXIT_INPUT

STAGES = "  - export\n  - quantize: {method: [dynamic]}\n"
COMPRESS = ("compress", "recipe.yaml", "--quiet")
WEIGHTS = "model/model.safetensors"
SQUAD = '{"data": [{"title": "x", "paragraphs": [{"context": "y", "qas": [%s]}]}]}'

Break = Callable[[Path], object]
"""Breaks one thing in the folder that holds recipe.yaml, model/ and data/."""


@dataclass(frozen=True)
class Case:
    """A broken input, and the words and exit code of the refusal."""

    id: str
    broken: Break
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    code: int = EXIT_INPUT


def cases(*table: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table, ids=lambda case: case.id)


def nothing(folder: Path) -> None:
    """Breaks no file: the arguments are wrong."""


def swap(old: str, new: str, file: str = "recipe.yaml") -> Break:
    """Replaces a piece of a file; fails if the file does not hold it."""

    def broken(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return broken


def put(file: str, content: str | bytes) -> Break:
    """Writes a file, over one of that name."""
    return lambda folder: (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def drop(*files: str) -> Break:
    return lambda folder: [(folder / file).unlink() for file in files]


def folder_at(path: str) -> Break:
    return lambda folder: (folder / path).mkdir()


def pipe_at(path: str) -> Break:
    """A named pipe in place of a file."""

    def broken(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        os.mkfifo(folder / path)

    return broken


def both(*steps: Break) -> Break:
    return lambda folder: [step(folder) for step in steps]


def stages(*entries: str) -> Break:
    return swap(STAGES, "".join(f"  - {entry}\n" for entry in entries))


def evaluation(content: str | bytes, name: str = "eval.csv", **spec: str) -> Break:
    """Other eval data."""
    entry = json.dumps({"path": f"data/{name}", **spec})
    return both(put(f"data/{name}", content), swap("eval: data/eval.csv", f"eval: {entry}"))


def model(source: str) -> Break:
    return swap("model: ./model", f"model: {source}")


def config(**values: Any) -> Break:
    """Changes values in the model's config.json."""

    def broken(folder: Path) -> None:
        file = folder / "model" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return broken


def tensors(change: Callable[[dict[str, Any]], object]) -> Break:
    """Changes the model's weights."""

    def broken(folder: Path) -> None:
        from safetensors.numpy import load_file, save_file

        file = folder / "model" / "model.safetensors"
        weights = {name: value.copy() for name, value in load_file(file).items()}
        change(weights)
        save_file(weights, file, metadata={"format": "pt"})

    return broken


def cut(file: str, count: int) -> Break:
    """Drops a file's last bytes."""
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-count])


def header(value: Any) -> bytes:
    """A safetensors file that is only a header."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text


def assert_refused(result: Any, code: int, words: tuple[str, ...]) -> None:
    """Asserts that the command printed one message, with these words in it, and nothing else."""
    assert result.code == code, result.err
    assert result.out == ""
    assert result.err.startswith("error: "), result.err
    assert sum(line.startswith("error:") for line in result.err.splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    assert "fault in edgebert" not in result.err, result.err
    for word in words:
        assert word in result.err, result.err


def assert_nothing_left(folder: Path) -> None:
    """Asserts that there is no run folder, no draft of one, and nothing half-written in the store."""
    assert not list((folder / "runs").glob("*"))
    assert not list((folder / "runs").glob(".*"))
    for name in ("tmp", "work"):
        assert not list((folder / "store" / name).glob("*"))
    assert ArtifactStore(folder / "store").verify() == []


def assert_case(case: Case, cli: Any, folder: Path) -> None:
    """Breaks the input, runs compress, and checks its message and that nothing is left."""
    case.broken(folder)
    before = {path.name for path in folder.iterdir()} | {"runs", "store"}
    assert_refused(cli(*COMPRESS, *case.arguments), case.code, case.words)
    assert_nothing_left(folder)
    assert {path.name for path in folder.iterdir()} <= before
