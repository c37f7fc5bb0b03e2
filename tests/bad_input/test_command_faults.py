"""Wrong options, arguments and standard input: one message that names the way out, the right exit code, nothing touched."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from breaks import WEIGHTS, Case, assert_case, assert_refused, both, cases, folder_at, nothing, put

from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT


@cases(
    Case("store that is a file", put("x", ""), ("x cannot be a folder", "--store"), ("--store", "x"), EXIT_ENVIRONMENT),
    Case("store below a file", put("x", ""), ("a file stands in its way", "--store"), ("--store", "x/y"), EXIT_ENVIRONMENT),
    Case("store with an endless name", nothing, ("too long", "--store"), ("--store", "x" * 300), EXIT_ENVIRONMENT),
    Case("out that is no run", both(folder_at("o"), put("o/x", "")), ("was not written by a run", "--out"), ("--out", "o")),
    Case("out that is a file", put("o", ""), ("o exists and was not written by a run", "--out"), ("--out", "o")),
    Case("out below a file", put("o", ""), ("a file stands in its way", "--out"), ("--out", "o/x"), EXIT_ENVIRONMENT),
    Case("out that is this folder", nothing, ("is the current folder, or holds it",), ("--out", ".")),
    Case("out with an endless name", nothing, ("too long", "--out"), ("--out", "x" * 300), EXIT_ENVIRONMENT),
    Case("unknown option", nothing, ("No such option: --sets", "edgebert compress --help"), ("--sets", "x=1")),
    Case("option without a value", nothing, ("--store", "edgebert --help"), ("--store",)),
    Case("two recipes", nothing, ("unexpected extra argument", "other.yaml"), ("other.yaml",)),
)
def test_compress_refuses_an_option(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("comprss",), ("No such command 'comprss'", "compress")),
        (("compress",), ("Missing argument 'RECIPE'", "edgebert compress --help")),
        (("compress", "nosuch.yaml"), ("No recipe nosuch.yaml", "shipped recipes: ")),
        (("compress", ""), ("No recipe ''", "Name a YAML file")),
        (("compress", "model"), ("model is a folder, not a recipe", "edgebert init model")),
        (("compress", "x" * 5000), ("xxx...", "too long")),
        (("validate", "nosuch"), ("No recipe nosuch", "Name a YAML file")),
        (("plan", "nosuch"), ("No recipe nosuch", "Name a YAML file")),
        (("init", "./nosuch"), ("nosuch does not exist", "save_pretrained()")),
        (("init", "data"), ("data has no config.json", "save_pretrained()")),
        (("init", "model", "--train", "a.csv", "--eval", "b.csv"), ("no data file a.csv and no b.csv", "--train")),
        (("init", "model", "--train", "data/eval.csv", "--eval", "data/eval.csv", "--out", "n.yaml"), ("name the same file",)),
        (("init", "model", "--out", "recipe.yaml"), ("recipe.yaml exists", "--force")),
        (("init", "model", "--out", "nosuch/r.yaml"), ("nosuch/r.yaml cannot be written",)),
        (("run", "nosuch", "a text"), ("There is no bundle folder nosuch", "edgebert compress")),
        (("run", "model", "a text"), ("model has no edgebert.json", "edgebert compress")),
        (("run", "model", "a text", "--file", "recipe.yaml"), ("both texts and --file", "Give one of them")),
        (("run", "model", "--file", "nosuch"), ("nosuch cannot be read: No such file", "--file")),
        (("run", "model", "--file", "model"), ("model cannot be read: Is a directory", "--file")),
        (("run", "model", "--file", WEIGHTS), ("model.safetensors is not UTF-8 text", "iconv")),
        (("run", "model", "a text", "--threads", "0"), ("--threads", "greater than or equal to 1")),
        (("verify", "nosuch"), ("There is no bundle folder nosuch", "edgebert compress")),
        (("store", "ls"), ("There is no store at", "--store or EDGEBERT_HOME")),
        (("store", "gc"), ("There is no store at", "--store or EDGEBERT_HOME")),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_command_refuses_its_arguments(arguments: tuple[str, ...], words: tuple[str, ...], cli: Any, recipe: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in recipe.parent.rglob("*")}
    assert_refused(cli(*arguments), EXIT_INPUT, words)
    assert {path: path.stat().st_mtime_ns for path in recipe.parent.rglob("*")} == before


@pytest.mark.parametrize("arguments", [(), ("store",)], ids=["edgebert", "edgebert store"])
def test_command_without_a_verb_shows_its_help(arguments: tuple[str, ...], cli: Any) -> None:
    result = cli(*arguments)
    assert result.code == EXIT_INPUT
    assert result.err.startswith("Usage:")
    assert "Commands:" in result.err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"caf\xe9\n", ("standard input is not UTF-8 text", "iconv")),
        (b"\n \n", ("There is no text to predict", "edgebert run")),
    ],
    ids=["not UTF-8", "blank"],
)
def test_run_refuses_what_comes_in_on_standard_input(
    data: bytes, words: tuple[str, ...], cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert_refused(cli("run", "bundle"), EXIT_INPUT, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), ("Text 1 is empty", "Leave it out")),
        (("fine", "  "), ("Text 2 is empty", "Leave it out")),
        (("fine", "--variant", "nosuch"), ("has no variant nosuch", "onnxruntime/int8-dynamic")),
    ],
    ids=["empty", "blank", "unknown variant"],
)
def test_run_refuses_a_text_or_variant(arguments: tuple[str, ...], words: tuple[str, ...], cli: Any, bundle: Path) -> None:
    assert_refused(cli("run", bundle, *arguments), EXIT_INPUT, words)
