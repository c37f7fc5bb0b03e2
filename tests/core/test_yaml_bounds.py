"""YAML that its parser needs minutes for, crashes on, or would read as something else: one clear error, in bounded work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgebert.core import yaml_bounds
from edgebert.core.yaml_file import Kind, parse_yaml, read_text
from edgebert.errors import InputError, RecipeError

KIND = Kind("a recipe", RecipeError, "compress")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !x [1, 2]", "line 1: a: has the tag !x"),
        ("b:\n  - !x\n    - 1", "line 2: b.0: has the tag !x"),
        ("!x [1]", "has the tag !x"),
        ("a: !x {b: 1}", "a: has the tag !x"),
        ("a: !x word", "a: has the tag !x"),
        ("a: !!python/tuple [1, 2]", "a: has the tag tag:yaml.org,2002:python/tuple"),
        ("a: !!set {b, c}", "a: is a set"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        ("%TAG ! tag:x,2000:\n---\na: !b [1]", "a: has the tag"),
        ("a: 0x" + "f" * 5000, "a: is a number of more than 18 digits"),
        ("a: 1" + "0" * 309, "a: is a number of more than 18 digits"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: " + "{b: " * 3000, "nested too deeply"),
        ("- " * 5000 + "a", "nested too deeply"),
        ("a: [" + "1, " * 300_000 + "]", "more than 20000 values"),
        ("- 1\n" * 200_000, "more than 20000 values"),
        ("a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)), "more than 20000 values"),
    ],
    ids=lambda value: value[:24],
)
def test_a_text_that_breaks_parsers_is_refused(text: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_yaml(text, "r.yaml", KIND)
    assert words in str(refused.value) and len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: !!str 1", {"a": "1"}),
        ("a: !!omap [{b: 1}]", {"a": {"b": 1}}),
        ("a: '[[[['\nb: 1e400", {"a": "[[[[", "b": float("inf")}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ],
)
def test_a_text_that_only_looks_dangerous_is_read(text: str, value: object) -> None:
    assert parse_yaml(text, "r.yaml", KIND).value == value


def test_the_parser_never_sees_a_text_beyond_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml_bounds.require_small("[" * yaml_bounds.MAX_OPEN + "\n" * (yaml_bounds.MAX_MARKS - 1))
    for text in ("[" * (yaml_bounds.MAX_OPEN + 1), "," * (yaml_bounds.MAX_MARKS + 1)):
        with pytest.raises(OverflowError):
            yaml_bounds.require_small(text)


def test_a_pipe_a_device_and_a_folder_are_no_yaml_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_text(path, KIND)
