"""Broken input and broken surroundings: one message that names the fault and the way out, the right exit code, nothing left."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import RECIPE

from edgebert.artifact import ArtifactStore
from edgebert.data_spec import DataSpec
from edgebert.errors import EXIT_ENVIRONMENT, EXIT_INPUT, EXIT_INTERRUPTED
from edgebert.readers import read_rows

STAGES = "  - export\n  - quantize: {method: [dynamic]}\n"
TARGETS = "  - {runtime: onnxruntime, threads: 1}"
GATE = "{metric: accuracy, min: 0.0}"
COMPRESS = ("compress", "recipe.yaml", "--quiet")

Break = Callable[[Path], object]
"""Breaks one thing in the folder that holds recipe.yaml, model/ and data/."""


@dataclass(frozen=True)
class Case:
    """How the input is broken, and what the command says then."""

    id: str
    broken: Break
    words: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    code: int = EXIT_INPUT


def cases(*table: Case) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table, ids=lambda case: case.id)


def nothing(folder: Path) -> None:
    """For what is wrong in the arguments alone."""


def swap(old: str, new: str, file: str = "recipe.yaml") -> Break:
    """Replaces a piece of a file, which has to be there."""

    def broken(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return broken


def put(file: str, content: str | bytes) -> Break:
    """Writes a file, in the place of the one that is there."""
    return lambda folder: (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def drop(*files: str) -> Break:
    return lambda folder: [(folder / file).unlink() for file in files]


def folder_at(place: str) -> Break:
    return lambda folder: (folder / place).mkdir()


def both(*steps: Break) -> Break:
    return lambda folder: [step(folder) for step in steps]


def recipe_is(text: str | bytes) -> Break:
    return put("recipe.yaml", text)


def stages(*entries: str) -> Break:
    return swap(STAGES, "".join(f"  - {entry}\n" for entry in entries))


def evaluation(content: str | bytes, name: str = "eval.csv", **spec: str) -> Break:
    """Other data to judge by."""
    entry = json.dumps({"path": f"data/{name}", **spec})
    return both(put(f"data/{name}", content), swap("eval: data/eval.csv", f"eval: {entry}"))


def model(source: str) -> Break:
    return swap("model: ./model", f"model: {source}")


def config(**values: Any) -> Break:
    """Other values in the model's config.json."""

    def broken(folder: Path) -> None:
        file = folder / "model" / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return broken


def tensors(change: Callable[[dict[str, Any]], object]) -> Break:
    """The model's weights after a change to them."""

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


def parquet(rows: int = 100) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["good", "bad"] * (rows // 2), "label": ["positive", "negative"] * (rows // 2)}), buffer)
    return buffer.getvalue()


def header(value: Any) -> bytes:
    """A safetensors file that is only a header."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text


def assert_refused(result: Any, code: int, words: tuple[str, ...]) -> None:
    """One message with the words in it, and nothing else."""
    assert result.code == code, result.err
    assert result.out == ""
    assert result.err.startswith("error: "), result.err
    assert sum(line.startswith("error:") for line in result.err.splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    assert "fault in edgebert" not in result.err, result.err
    for word in words:
        assert word in result.err, result.err


def assert_nothing_left(folder: Path) -> None:
    """No run folder, no draft of one, nothing half-written in the store."""
    assert not list((folder / "runs").glob("*"))
    assert not list((folder / "runs").glob(".*"))
    for place in ("tmp", "work"):
        assert not list((folder / "store" / place).glob("*"))
    assert ArtifactStore(folder / "store").verify() == []


def assert_case(case: Case, cli: Any, folder: Path) -> None:
    """Breaks the input, runs compress, looks at what it said and what it left."""
    case.broken(folder)
    before = {path.name for path in folder.iterdir()} | {"runs", "store"}
    assert_refused(cli(*COMPRESS, *case.arguments), case.code, case.words)
    assert_nothing_left(folder)
    assert {path.name for path in folder.iterdir()} <= before


ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
MANY_FAULTS = (
    RECIPE.replace("seed: 0", "seed: zero")
    .replace("rounds: 1", "round: 1")
    .replace("- export", "- exprt")
    .replace("method: [dynamic]", "metod: dynamic")
    .replace(GATE, "{metric: accuracy}")
)


@cases(
    Case("unknown key", swap("seed: 0", "seeed: 0"), ("recipe.yaml: 1 problem", "line 15: seeed: unknown key", "`seed`")),
    Case("unknown key inside", swap("rounds: 1", "round: 1"), ("line 14: measure.round: unknown key", "`rounds`")),
    Case("key that is no text", swap("seed: 0", "seed: 0\n1: 2"), ("line 16: 1: unknown key", "Known: model, task")),
    Case("text for a number", swap("seed: 0", "seed: zero"), ("line 15: seed", "valid integer", '"zero"')),
    Case("number for a text", model("5"), ("line 1: model", "mapping", "got 5")),
    Case("text for a list", swap("stages:\n" + STAGES, "stages: export\n"), ("line 7: stages", "list", '"export"')),
    Case("mapping for a list", swap(f"  - {GATE}", f"  {GATE}"), ("line 12: gates", "list", "accuracy")),
    Case("truth for a number", swap("seed: 0", "seed: true"), ("line 15: seed", "valid integer", "got true")),
    Case("number out of range", swap("threads: 1", "threads: 0"), ("line 11: targets.0.threads", "equal to 1, got 0")),
    Case("endless number", swap("seed: 0", "seed: " + "9" * 5000), ("recipe.yaml", "4300 digits")),
    Case("missing section", swap("task: {name: text-classification, max_length: 32}\n", ""), ("task: is missing",)),
    Case("missing data set", swap("  eval: data/eval.csv\n", ""), ("line 3: data.eval: is missing",)),
    Case("no stages", swap(STAGES, "  []\n"), ("line 7: stages: needs at least one entry",)),
    Case("empty stages", swap(STAGES, ""), ("line 7: stages", "list, got null")),
    Case(
        "several faults",
        recipe_is(MANY_FAULTS),
        (
            "recipe.yaml: 5 problems",
            "line 8: stages.0: there is no stage `exprt`. Did you mean `export`?",
            "line 9: stages.1.quantize.metod: unknown key. Did you mean `method`?",
            "line 13: gates.0: needs exactly one of",
            "line 14: measure.round: unknown key",
            "line 15: seed",
        ),
    ),
    Case("key twice", swap("seed: 0", "seed: 0\nseed: 1"), ("line 16: not valid YAML", 'duplicate key "seed"')),
    Case("open bracket", swap("seed: 0", "seed: [0"), ("line 16: not valid YAML", "expected ',' or ']'")),
    Case("tab as indent", swap("seed: 0", "\tseed: 0"), ("line 15: not valid YAML", "'\\t'")),
    Case("control character", swap("seed: 0", "seed: \x01"), ("recipe.yaml", "not valid YAML", "#x0001")),
    Case("two documents", swap("seed: 0", "seed: 0\n---\nseed: 1"), ("not valid YAML", "another document")),
    Case("list", recipe_is("- a\n- b\n"), ("a recipe is a mapping with model, task, data and stages", "edgebert init")),
    Case("empty file", recipe_is(""), ("recipe.yaml", "a recipe is a mapping", "edgebert init")),
    Case("not UTF-8", recipe_is(RECIPE.encode() + b"# caf\xe9\n"), ("not UTF-8 text (byte 377)", "Save it as UTF-8")),
    Case("larger than 1 MB", recipe_is(RECIPE + "#" * (1 << 20)), ("recipe.yaml is larger than 1 MB",)),
    Case("alias bomb", recipe_is(ALIAS_BOMB), ("more than 20000 values; that is not a recipe",)),
    Case("alias of itself", swap("seed: 0", "seed: 0\nx: &a [*a]"), ("x: unknown key",)),
    Case("deeply nested", swap("seed: 0", f"seed: {'[' * 100}{']' * 100}"), ("nested too deeply",)),
    Case("very deeply nested", swap("seed: 0", f"seed: {'{a: ' * 900}{'}' * 900}"), ("nested too deeply",)),
    Case("NaN", swap("min: 0.0", "min: .nan"), ("line 13: gates.0.min", "finite number, got nan")),
    Case("infinity", swap("min: 0.0", "min: -.inf"), ("line 13: gates.0.min", "finite number, got -inf")),
    Case("overflow", swap("min: 0.0", "min: 1e999"), ("line 13: gates.0.min", "finite number, got inf")),
    Case("NUL in a path", model('"a\\0b"'), ("line 1: model: holds the character U+0000",)),
    Case("surrogate in a label", swap("max_length: 32", 'labels: [a, "\\ud800"]'), ("line 2: task.labels.1", "U+D800")),
    Case("code in YAML", swap("seed: 0", "seed: !!python/object/apply:os.getpid []"), ("line 15: seed", "valid integer")),
    Case("unknown stage", stages("exporte"), ("line 8: stages.0: there is no stage `exporte`", "`export`")),
    Case("far-off stage", stages("zzz"), ("line 8: stages.0: there is no stage `zzz`", "Known: finetune, prune,")),
    Case("two stages in one", stages("export:\n    quantize:"), ("one entry holds one stage", "export, quantize", "`-`")),
    Case("stage that is a number", stages("5"), ("line 8: stages.0: a stage is its name, or `name: {parameters}`",)),
    Case("unknown parameter", stages("quantize: {metod: x}"), ("stages.0.quantize.metod: unknown key", "`method`")),
    Case("parameter of a wrong type", stages("quantize: {per_channel: maybe}"), ("quantize.per_channel", "valid boolean")),
    Case("list of parameters", stages("quantize: [dynamic]"), ("stages.0.quantize: its parameters are a mapping",)),
    Case("parameter out of range", stages("finetune: {learning_rate: 3}"), ("finetune.learning_rate", "less than 1, got 3")),
    Case("unknown method", swap("[dynamic]", "[dynamc]"), ("line 9: stages.1.quantize.method.0", "`dynamic`")),
    Case("unknown single method", swap("[dynamic]", "dynamc"), ("1 problem", "quantize.method:", "`dynamic`")),
    Case("method twice", swap("[dynamic]", "[dynamic, dynamic]"), ("quantize.method: needs one or more different",)),
    Case("unknown runtime", swap("onnxruntime", "onnx"), ("1 problem", "targets.0.runtime", "`onnxruntime`")),
    Case("target that is a text", swap(TARGETS, "  - openvino"), ("targets.0", "mapping", '"openvino"')),
    Case("no targets", swap(TARGETS, "  []"), ("line 10: targets: needs at least one entry",)),
    Case("same target twice", swap(TARGETS, TARGETS + "\n" + TARGETS), ("two targets are the same (onnxruntime)", "drop one")),
    Case("bucket at a fixed length", swap("threads: 1", "padding: max_length, length_bucket: 8"), ("drop one of them",)),
    Case("unknown task", swap("text-classification", "text-clasification"), ("task.name", "`text-classification`")),
    Case("unknown metric", swap("accuracy", "acuracy"), ("line 13: gates.0.metric", "`accuracy`")),
    Case("gate with two bounds", swap("min: 0.0", "min: 0.0, max_drop: 0.1"), ("exactly one of", "it has min, max_drop")),
    Case("gate without a bound", swap(", min: 0.0", ""), ("gates.0: needs exactly one of min, max", "it has none")),
    Case("ratio of a ratio", swap(GATE, "{metric: speedup, min_ratio: 1.0}"), ("speedup is already relative", "min or max")),
    Case("short pin", model("{source: ./model, sha256: abc}"), ("line 1: model.sha256", "[0-9a-f]{64}", '"abc"')),
    Case("one label", swap("max_length: 32", "labels: [a]"), ("task.labels: needs two or more different labels",)),
    Case("max_length of 1", swap("max_length: 32", "max_length: 1"), ("line 2: task.max_length", "got 1")),
    Case("both path and hub", swap("data/eval.csv", "{path: x.csv, hub: a/b}"), ("data.eval: needs either `path`", "`hub`")),
    Case("neither path nor hub", swap("data/eval.csv", "{limit: 3}"), ("data.eval: needs either `path`", "`hub`")),
    Case("split of a file", swap("data/eval.csv", "{path: x.csv, split: a}"), ("`split` belongs to a `hub` data set",)),
    Case("unknown format", swap("data/eval.csv", "{path: x.csv, format: cvs}"), ("data.eval.format", "`csv`")),
    Case("long delimiter", swap("data/eval.csv", "{path: x.csv, delimiter: ';;'}"), ("data.eval.delimiter", '";;"')),
)
def test_compress_refuses_a_recipe(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


@cases(
    Case("no value", nothing, ("--set: 1 problem", "seed: an override is path=value"), ("--set", "seed")),
    Case("no path", nothing, ("=3: an override is path=value",), ("--set", "=3")),
    Case("unknown key", nothing, ("sed: unknown key", "`seed`"), ("--set", "sed=1")),
    Case("unknown key inside", nothing, ("model.x: unknown key", "Known: source"), ("--set", "model.x.y=1")),
    Case("bad value", nothing, ("seed", "valid integer", '"abc"'), ("--set", "seed=abc")),
    Case("value that is no YAML", nothing, ("--set", "seed: not valid YAML"), ("--set", "seed=[1")),
    Case("value with a key twice", nothing, ("gates", 'duplicate key "a"'), ("--set", "gates={a: 1, a: 2}")),
    Case("NaN", nothing, ("gates.0.min", "finite number"), ("--set", "gates.0.min=.nan")),
    Case("unknown method", nothing, ("stages.1.quantize.method", "`dynamic`"), ("--set", "stages.quantize.method=dynamc")),
    Case("place beyond the list", nothing, ("there is no entry 9; the list has 2",), ("--set", "stages.9.x=1")),
    Case("place before the list", nothing, ("there is no entry -1",), ("--set", "stages.-1.x=1")),
    Case("place that is no number", nothing, ("no \N{SUPERSCRIPT TWO} in this list",), ("--set", "stages.\u00b2.x=1")),
    Case("stage that is not there", nothing, ("the recipe has no distill",), ("--set", "stages.distill.x=1")),
    Case("below a plain value", nothing, ("seed.x", "x stands under a plain value"), ("--set", "seed.x=1")),
    Case("two faults", nothing, ("2 problems", "seed.x", "stages.9"), ("--set", "seed.x=1", "--set", "stages.9.x=1")),
    Case("home of nobody", nothing, ("~nobody-of-that-name/x", "not a path"), ("--set", "model=~nobody-of-that-name/x")),
    Case(
        "stage that stands twice",
        stages("export", "quantize", "quantize: {per_channel: false}"),
        ("quantize stands in the list 2 times", "say which by its place: 1, 2"),
        ("--set", "stages.quantize.method=static"),
    ),
)
def test_compress_refuses_an_override(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


HEAD = "text,label\n"
GOOD = "a good film,positive\na bad film,negative\n"
JSONL = '{"text": "good", "label": "positive"}\n{"text": "bad", "label": "negative"}\n'
LONG = "x" * (10 << 20)
SQUAD = '{"data": [{"title": "x", "paragraphs": [{"context": "y", "qas": [%s]}]}]}'


@cases(
    Case("missing", swap("data/eval.csv", "data/evl.csv"), ("data/evl.csv does not exist", "--set data.eval=FILE")),
    Case("folder", both(folder_at("data/x.csv"), swap("eval.csv", "x.csv")), ("data/x.csv is a folder", "Name a file in it")),
    Case("file of nobody", swap("data/eval.csv", "~nobody-of-that-name/x.csv"), ("~nobody-of-that-name", "not a path")),
    Case("endless name", swap("data/eval.csv", "x" * 5000), ("xxx...", "too long")),
    Case("empty", evaluation(""), ("data/eval.csv is empty", "--set data.eval=FILE")),
    Case("blank lines", evaluation("\n\n\n"), ("data/eval.csv has no header line", "text,label")),
    Case("header only", evaluation(HEAD), ("data.eval (eval.csv) has no rows", "Name a file with rows")),
    Case("other column", evaluation("sentence,label\n" + GOOD), ("no column `text`; it has `sentence`, `label`", "columns:")),
    Case("unknown left-hand column", evaluation(HEAD + GOOD, columns={"txt": "text"}), ("`txt` is no column", "`text_pair`")),
    Case("unknown right-hand column", evaluation(HEAD + GOOD, columns={"text": "txt"}), ("no column `txt`; it has `text`",)),
    Case("other separator", evaluation("text;label\ngood;positive\n"), ("no column `text`; it has `text;label`",)),
    Case("column twice", evaluation("text,text,label\na,b,positive\n"), ("two columns `text`", "Rename one")),
    Case("header too short", evaluation("text,label\n1,good,positive\n"), ("first row has 3 fields", "header line names 2")),
    Case("label not in the model", evaluation(HEAD + GOOD + "x,meh\n"), ("data.eval", "'meh' (1 rows)", "task.labels")),
    Case("number not in the model", evaluation(HEAD + "a,0\nb,7\n"), ("'7' (1 rows)", "negative, positive")),
    Case("label of an odd digit", evaluation(HEAD + "a,0\nb,\u00b2\n"), ("'\u00b2' (1 rows)", "negative, positive")),
    Case("nan text", evaluation(HEAD + GOOD + "nan,positive\n"), ("row 3: `text` is 'nan'", "pandas", "Correct or remove")),
    Case("nan label", evaluation(HEAD + GOOD + "fine,nan\n"), ("row 3: `label` is 'nan'", "pandas")),
    Case("empty text", evaluation(HEAD + GOOD + ",positive\n"), ("row 3: `text` is empty",)),
    Case("empty label", evaluation(HEAD + GOOD + "fine,\n"), ("row 3: `label` is empty",)),
    Case("many faults", evaluation(HEAD + ",x\n" * 9), ("5 unusable rows (and perhaps more)", "row 1", "row 5")),
    Case("one label only", evaluation(HEAD + "a,positive\nb,positive\n"), ("only one label: 'positive'", "judge")),
    Case("10 MB line", evaluation(HEAD + GOOD + f"{LONG},positive\n"), ("row 3", "10,485,760 characters", "never closes")),
    Case("10 MB header", evaluation(f"{LONG},label\n{GOOD}"), ("data/eval.csv has no header line",)),
    Case("latin-1", evaluation(HEAD.encode() + b"caf\xe9,positive\n"), ("not UTF-8 text, near line 1 (byte 0xe9)", "iconv")),
    Case("UTF-16", evaluation((HEAD + GOOD).encode("utf-16")), ("data/eval.csv is not UTF-8 text", "iconv")),
    Case("NUL bytes", evaluation(HEAD + "a\0b,positive\n"), ("data/eval.csv holds NUL bytes near line", "`format:`")),
    Case("open quote", evaluation(HEAD + GOOD + '"good,positive\nbad,negative\n'), ("EOF inside string", "quoting: none")),
    Case("row too long", evaluation(HEAD + GOOD + "a,b,positive\n"), ("Expected 2 fields in line 4, saw 3", "separator")),
    Case("row too short", evaluation(HEAD + GOOD + "lonely\n"), ("row 3: `label` is empty",)),
    Case("line break as delimiter", evaluation(HEAD + GOOD, delimiter="\n"), ("eval.csv cannot be read as CSV", "separator")),
    Case("unknown ending", evaluation(HEAD + GOOD, "eval.xlsx"), ("the ending '.xlsx'", "Add `format:`", "csv, jsonl")),
    Case("no ending", evaluation(HEAD + GOOD, "eval"), ("the ending ''", "Add `format:`")),
    Case("other format", evaluation(HEAD + GOOD, format="jsonl"), ("eval.csv cannot be read as JSON", "one JSON object")),
    Case("JSONL null", evaluation(JSONL + '{"text": null, "label": "positive"}', "e.jsonl"), ("row 3: `text` is missing",)),
    Case("JSONL NaN", evaluation(JSONL + '{"text": NaN, "label": "positive"}', "e.jsonl"), ("row 3: `text` is missing",)),
    Case(
        "JSONL number",
        evaluation(JSONL + '{"text": 5, "label": "positive"}', "e.jsonl"),
        ("row 3: `text` is not text but int",),
    ),
    Case("JSONL object", evaluation('{"text": {"a": 1}, "label": 1}', "e.jsonl"), ("row 1: `text` is not text but dict",)),
    Case("JSONL without a key", evaluation(JSONL + '{"text": "fine"}', "e.jsonl"), ("row 3: `label` is missing",)),
    Case("JSONL cut short", evaluation(JSONL + '{"text": "fine', "e.jsonl"), ("e.jsonl cannot be read as JSON", "row 2")),
    Case("JSONL lists", evaluation('["a", 1]\n["b", 0]\n', "e.jsonl"), ("e.jsonl cannot be read as JSON", "one JSON object")),
    Case("JSONL surrogate", evaluation(JSONL + '{"text": "\\ud800"}', "e.jsonl"), ("cannot be read as JSON", "surrogate")),
    Case("JSONL 10 MB line", evaluation(JSONL + f'{{"text": "{LONG}", "label": "0"}}', "e.jsonl"), ("10,485,760 characters",)),
    Case(
        "Parquet cut short", evaluation(parquet()[:-20], "e.parquet"), ("e.parquet cannot be read as PARQUET", "partial copy")
    ),
    Case("Parquet that is text", evaluation("hello", "e.parquet"), ("e.parquet cannot be read as PARQUET", "partial copy")),
    Case("Parquet without rows", evaluation(parquet(0), "e.parquet"), ("data.eval (e.parquet) has no rows",)),
    Case("JSON cut short", evaluation((SQUAD % "")[:-2], "e.json"), ("e.json is not valid JSON", "premature EOF")),
    Case("SQuAD without a question", evaluation(SQUAD % '{"id": 1}', "e.json"), ("not in SQuAD's format", "lacks 'question'")),
    Case(
        "SQuAD of a wrong shape", evaluation('{"data": ["paragraphs"]}', "e.json", format="squad"), ("not in SQuAD's format",)
    ),
    Case(
        "SQuAD with a bad place",
        evaluation(SQUAD % '{"id": 1, "question": "q", "answers": [{"text": "t", "answer_start": "z"}]}', "e.json"),
        ("not in SQuAD's format", "'z'"),
    ),
    Case("SQuAD for this task", evaluation(SQUAD % '{"id": 1, "question": "q"}', "e.json"), ("no column `text`", "`context`")),
    Case(
        "CoNLL without a tag", evaluation("word O\nword\n", "e.conll"), ("e.conll, line 2: needs a token and a tag", "'word'")
    ),
    Case(
        "calibration smaller than asked",
        both(swap("[dynamic]", "[static]"), swap("samples: 8", "samples: 80")),
        ("data.calibration (train.csv) asks for 80 samples, but has 48 rows", "data.calibration.samples to 48 or fewer"),
    ),
    Case(
        "Hub data set without a network",
        swap("data/eval.csv", "{hub: nyu-mll/glue, config: sst2}"),
        ("The Hub data set nyu-mll/glue could not be read", "Without one, give a file: --set data.eval=FILE"),
        code=EXIT_ENVIRONMENT,
    ),
)
def test_compress_refuses_data(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


@pytest.mark.parametrize(
    ("content", "spec"),
    [
        (",text,label\n0,a good film,positive\n1,a bad film,negative\n", {}),
        ("text\u00a7label\na good film\u00a7positive\na bad film\u00a7negative\n", {"delimiter": "\u00a7"}),
        ("\n\ntext,label\n\na good film,positive\n\na bad film,negative\n", {}),
        ("text,label\ra good film,positive\ra bad film,negative\r", {}),
    ],
    ids=["index of pandas", "wide delimiter", "blank lines", "carriage returns"],
)
def test_csv_that_only_looks_broken_is_read(content: str, spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text(content, encoding="utf-8", newline="")
    rows = read_rows(DataSpec(path="odd.csv", **spec), tmp_path / "odd.csv")
    assert [(row["text"], row["label"]) for row in rows] == [("a good film", "positive"), ("a bad film", "negative")]


WEIGHTS = "model/model.safetensors"
INDEX = "model/model.safetensors.index.json"


def shards(places: Any) -> Break:
    """A model in several files, with that index."""
    return both(drop(WEIGHTS), put(INDEX, json.dumps({"weight_map": places})))


def spoil(weights: dict[str, Any]) -> None:
    weights["bert.encoder.layer.0.attention.self.query.weight"][0] = float("nan")


def lose_layer(weights: dict[str, Any]) -> None:
    for name in [name for name in weights if ".layer.1." in name]:
        del weights[name]


def lose_head(weights: dict[str, Any]) -> None:
    for name in [name for name in weights if name.startswith("classifier.")]:
        del weights[name]


@cases(
    Case("missing", model("./modl"), ("modl does not exist", "--set model=")),
    Case("file", model("./recipe.yaml"), ("recipe.yaml is a file", "Name the folder that holds config.json")),
    Case("home of nobody", model("~nobody-of-that-name/x"), ("~nobody-of-that-name/x", "not a path")),
    Case("endless name", model("./" + "x" * 5000), ("xxx...", "too long")),
    Case("no config.json", drop("model/config.json"), ("has no config.json", "save_pretrained()")),
    Case("config that is no JSON", put("model/config.json", "{"), ("config.json is not valid JSON", "partial download")),
    Case("config that is no object", put("model/config.json", "[]"), ("config.json does not hold a JSON object",)),
    Case("deeply nested config", put("model/config.json", "[" * 100_000), ("config.json is not valid JSON",)),
    Case("other model", config(model_type="roberta"), ("a model of type 'roberta'", "BERT")),
    Case("code of its own", config(auto_map={"AutoModel": "x.Y"}), ("auto_map", "edgebert never does that", "remove auto_map")),
    Case("labels without order", config(id2label={"a": "x", "b": "y"}), ("id2label does not name the outputs", "Correct it")),
    Case("positions that are a text", config(max_position_embeddings="many"), ('max_position_embeddings is "many"',)),
    Case("heads that are a text", config(num_attention_heads="many"), ('num_attention_heads is "many"', "Correct it")),
    Case("no heads", config(num_attention_heads=0), ("num_attention_heads is 0; it has to be 1 or more", "Correct it")),
    Case(
        "positions that Transformers dropped",
        config(position_embedding_type="relative_key_query"),
        ('position_embedding_type is "relative_key_query"', "has dropped the weights", "absolute positions"),
    ),
    Case("decoder", config(is_decoder=True), ("is_decoder is true; edgebert compresses encoders", "plain BERT")),
    Case("cross-attention", config(add_cross_attention=True), ("add_cross_attention is true", "plain BERT")),
    *(
        Case(
            f"pruned layers of {json.dumps(sizes)}",
            config(
                **{"model_type": "edgebert_pruned_bert", "layer_heads": [4, 4], "layer_intermediate_sizes": [64, 64], **sizes}
            ),
            (f"{name} is {json.dumps(value)}, not a list of 2 whole numbers from 1 on", "Correct it"),
        )
        for name in ("layer_heads", "layer_intermediate_sizes")
        for value in (4, None, [4], [4, "4"], [4, True], [4, 0], [4, 4, 4])
        for sizes in [{name: value}]
    ),
    Case("padding that is a text", config(pad_token_id="x"), ('pad_token_id is "x", not a whole number',)),
    Case(
        "only a pickle",
        both(drop(WEIGHTS), put("model/pytorch_model.bin", "x")),
        ("only as pytorch_model.bin", "a pickle can run code", "safe_serialization=True"),
    ),
    Case("no weights", drop(WEIGHTS), ("model has no model.safetensors",)),
    Case("weights cut short", cut(WEIGHTS, 100), ("model.safetensors is not a whole safetensors file", "fetch it again")),
    Case("empty weights", put(WEIGHTS, ""), ("is not a whole safetensors file", "fetch it again")),
    Case("Git LFS pointer", put(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), ("Git LFS pointer: fetch it again",)),
    Case("header of a wrong shape", put(WEIGHTS, header([])), ("is not a whole safetensors file",)),
    Case("header without places", put(WEIGHTS, header({"a": {"data_offsets": []}})), ("is not a whole safetensors file",)),
    Case("deeply nested header", put(WEIGHTS, header(b"[" * 100_000)), ("is not a whole safetensors file",)),
    Case("index of a wrong shape", shards([]), ("index.json names no weight files", "fetch it again")),
    Case("index of a wrong place", shards({"a": "../x.safetensors"}), ("names ../x.safetensors, which is not in the folder",)),
    Case(
        "NaN in the weights", tensors(spoil), ("/model hold NaN", "layer.0.attention.self.query.weight", "earlier checkpoint")
    ),
    Case(
        "layer without weights",
        tensors(lose_layer),
        ("/model do not fit its config.json", "bert.encoder.layer.1", "is missing"),
    ),
    Case("more layers than weights", config(num_hidden_layers=3), ("do not fit its config.json", "layer.2", "is missing")),
    Case(
        "more labels than outputs",
        config(id2label={"0": "negative", "1": "positive", "2": "neutral"}),
        ("classifier.bias has the shape (2,)", "asks for (3,)", "save_pretrained()"),
    ),
    Case("config that cannot be", config(hidden_size=33), ("/model cannot be loaded as text-classification", "33")),
    Case(
        "pin of another file",
        model(f"{{source: ./model, sha256: {'a' * 64}}}"),
        ("has sha256", "a" * 64, "correct model.sha256"),
    ),
    Case("no tokenizer", drop("model/tokenizer.json", "model/vocab.txt"), ("has no tokenizer", "tokenizer.save_pretrained")),
    Case(
        "damaged tokenizer", put("model/tokenizer.json", "{}"), ("The tokenizer in", "/model cannot be read", "save_pretrained")
    ),
    Case(
        "vocabulary without [UNK]", both(drop("model/tokenizer.json"), put("model/vocab.txt", "")), ("/model cannot be read",)
    ),
    Case("tokenizer of another model", config(vocab_size=20), ("token ids up to 103", "20 rows")),
    Case("damaged tokenizer_config", put("model/tokenizer_config.json", "{"), ("tokenizer_config.json is not valid JSON",)),
    Case("package that leaves itself", model("package://edgebert/../x"), ("leaves the package", "Name a folder inside it")),
    Case("package that starts at the root", model("package://edgebert//etc"), ("leaves the package",)),
    Case("package without that folder", model("package://edgebert/x"), ("The package edgebert has no folder x",)),
    Case("package without a name", model("package://../x"), ("names no package", "package://package_name")),
    Case(
        "package that is not installed",
        model("package://no_such_package/x"),
        ("needs the Python package no_such_package, which is not installed", "--set model=PATH"),
        code=EXIT_ENVIRONMENT,
    ),
    Case(
        "Hub model without a network",
        model("org/name"),
        ("`org/name` is not a folder here", "HF_HUB_OFFLINE=1", "--set model=PATH"),
        code=EXIT_ENVIRONMENT,
    ),
)
def test_compress_refuses_a_model(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


NO_DATA_BUT_EVAL = both(swap("  train: data/train.csv\n", ""), swap("  calibration: {path: data/train.csv, samples: 8}\n", ""))


@cases(
    Case("nncf without OpenVINO", stages("quantize: {method: nncf}"), ("no target runs what `int8-nncf`", "runtime: openvino")),
    Case("export without a head", tensors(lose_head), ("stages.0.export", "not fine-tuned", "Put `- finetune` before it")),
    Case("no training data", both(stages("finetune", "export"), NO_DATA_BUT_EVAL), ("stages.0.finetune", "Give data.train")),
    Case(
        "no calibration data",
        both(stages("export", "quantize: {method: static}"), NO_DATA_BUT_EVAL),
        ("stages.1.quantize: needs calibration data", "Give data.calibration"),
    ),
    Case("target that runs nothing", swap("onnxruntime", "openvino"), ("no target runs what `int8-dynamic` makes", "Add `-")),
    Case("other count of labels", swap("max_length: 32", "labels: [a, b, c]"), ("task.labels: has 3 names", "2 outputs")),
    Case("other labels", swap("max_length: 32", "labels: [a, b]"), ("'negative' (10 rows) is not one of", "a, b")),
    Case("longer than the positions", swap("max_length: 32", "max_length: 65"), ("65 tokens do not fit", "64 positions")),
    Case(
        "all at once",
        both(stages("quantize: {method: nncf}"), swap("max_length: 32", "max_length: 65, labels: [a, b, c]")),
        ("3 problems", "int8-nncf", "task.max_length", "task.labels"),
    ),
)
def test_compress_refuses_what_cannot_work_together(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


def prune(parameters: str, *before: str) -> Break:
    """A recipe that prunes; the model has 2 layers of 4 heads and 64 FFN neurons, and 64 positions."""
    return stages(*before, f"prune: {parameters}", "export", "quantize")


def distill(parameters: str, *before: str) -> Break:
    """A recipe that distils; the model is 32 wide, with heads of 8."""
    return stages(*before, f"distill: {parameters}", "export", "quantize")


def teacher(change: Break = nothing, **values: Any) -> Break:
    """A folder `teacher` beside the model: the model with another config.json, or otherwise changed."""

    def made(folder: Path) -> None:
        (folder / "elsewhere").mkdir()
        shutil.copytree(folder / "model", folder / "elsewhere" / "model")
        both(config(**values), change)(folder / "elsewhere")
        (folder / "elsewhere" / "model").rename(folder / "teacher")
        (folder / "elsewhere").rmdir()

    return made


def vocabulary(change: Callable[[dict[str, Any]], object]) -> Break:
    """Another content of tokenizer.json."""

    def broken(folder: Path) -> None:
        file = folder / "model" / "tokenizer.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return broken


def lose_cls(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["[OTHER]"] = tokenizer["model"]["vocab"].pop("[CLS]")
    tokenizer["post_processor"]["cls"][0] = "[OTHER]"


def become_pairs(tokenizer: dict[str, Any]) -> None:
    vocab = tokenizer["model"]["vocab"]
    tokenizer["model"] = {"type": "BPE", "vocab": vocab, "merges": [], "unk_token": "[UNK]"}


NO_EXAMPLES = both(NO_DATA_BUT_EVAL, swap("eval: data/eval.csv", "eval: data/eval.csv\n  calibration: data/train.csv"))
ONE_OF = "needs exactly one of macs, speedup, keep"


@cases(
    Case("removes nothing", prune("{}"), ("line 8: stages.0.prune: removes nothing: give to, sizes, vocabulary or positions",)),
    Case("depth alone", prune("{depth: 1}"), ("depth and steps go with `to`, which says how small; give it",)),
    Case("steps alone", prune("{positions: 32, steps: 2}"), ("depth and steps go with `to`",)),
    Case("no goal", prune("{to: {}}"), (f"prune.to: {ONE_OF}; it has none",)),
    Case("two goals", prune("{to: {macs: 0.5, keep: 0.9}}"), (f"{ONE_OF}; it has macs, keep",)),
    Case("all MACs", prune("{to: {macs: 1}}"), ("prune.to.macs: input should be less than 1, got 1",)),
    Case("no MACs", prune("{to: {macs: 0}}"), ("prune.to.macs: input should be greater than 0, got 0",)),
    Case("fewer than no MACs", prune("{to: {macs: -0.5}}"), ("prune.to.macs: input should be greater than 0",)),
    Case("no speed-up", prune("{to: {speedup: 1}}"), ("prune.to.speedup: input should be greater than 1, got 1",)),
    Case("more than the teacher", prune("{to: {keep: 1.5}}"), ("prune.to.keep: input should be less than or equal to 1",)),
    Case(
        "metric that the task does not have",
        prune("{to: {keep: 0.9, metric: bleu}}"),
        ("line 8: stages.0.prune.to.metric: text-classification has no metric `bleu`", "Take one of accuracy, macro_f1"),
    ),
    Case("metric of a size", prune("{to: {macs: 0.5, metric: accuracy}}"), ("prune.to: metric goes with keep",)),
    Case("goal that is a number", prune("{to: 0.5}"), ("prune.to", "0.5")),
    Case("to and sizes", prune("{to: {macs: 0.5}, sizes: {heads: 2}}"), ("`to` and `sizes` exclude each other; drop one",)),
    Case("sizes and steps", prune("{sizes: {heads: 2}, steps: 2}"), ("`sizes` says all; drop steps and depth",)),
    Case("keep and steps", prune("{to: {keep: 0.9}, steps: 2}"), ("takes as many steps as it needs; drop steps",)),
    Case("no sizes", prune("{sizes: {}}"), ("needs layers, heads or intermediate_sizes",)),
    Case("no heads", prune("{sizes: {heads: 0}}"), ("sizes.heads has 0; a layer keeps 1 or more", "sizes.layers")),
    Case("no heads in a layer", prune("{sizes: {heads: [2, 0]}}"), ("sizes.heads has 0; a layer keeps 1 or more",)),
    Case("more heads", prune("{sizes: {heads: 5}}"), ("sizes.heads has 5, but the layer has 4; pruning only removes",)),
    Case("more neurons", prune("{sizes: {intermediate_sizes: [64, 65]}}"), ("sizes.intermediate_sizes has 65", "has 64")),
    Case("too few entries", prune("{sizes: {heads: [2]}}"), ("sizes.heads has 1 entries for 2 layers that stay",)),
    Case("too many entries", prune("{sizes: {layers: [0], heads: [2, 2]}}"), ("has 2 entries for 1 layers that stay",)),
    Case("layer beyond the last", prune("{sizes: {layers: [0, 2]}}"), ("names layer 2; the model has 0 to 1",)),
    Case("layer before the first", prune("{sizes: {layers: [-1, 1]}}"), ("names layer -1; the model has 0 to 1",)),
    Case("layers out of order", prune("{sizes: {layers: [1, 0]}}"), ("sizes.layers must be ascending and distinct",)),
    Case("layer twice", prune("{sizes: {layers: [1, 1]}}"), ("sizes.layers must be ascending and distinct",)),
    Case("no layers", prune("{sizes: {layers: []}}"), ("sizes.layers", "at least")),
    Case("too deep", prune("{to: {macs: 0.5}, depth: 3, block: 8}"), ("depth is 3, but the model has 2 layers",)),
    Case("wide block", prune("{to: {macs: 0.5}, block: 65}"), ("block is 65, but the widest layer has 64 FFN neurons",)),
    Case(
        "few positions", prune("{positions: 31}"), ("positions is 31, but inputs have up to 32 tokens; give task.max_length",)
    ),
    Case("many positions", prune("{positions: 65}"), ("positions is 65, but the model has 64",)),
    Case("hardly a position", prune("{positions: 2}"), ("prune.positions: input should be greater than or equal to 3",)),
    Case(
        "vocabulary without [CLS]",
        both(prune("{vocabulary: {}}"), vocabulary(lose_cls)),
        ("stages.0.prune", "cls_token is '[CLS]', which its vocabulary does not hold", "Take the tokenizer files"),
    ),
    Case(
        "another kind of tokenizer",
        both(prune("{vocabulary: {}}"), vocabulary(become_pairs)),
        ("stages.0.prune", "a tokenizer of type BPE; only the vocabulary of a WordPiece tokenizer", "Leave the vocabulary"),
    ),
    Case(
        "tokenizer whose files do not agree",
        both(prune("{to: {macs: 0.5}, vocabulary: {}}"), put("model/added_tokens.json", '{"<x>": 7}')),
        ("stages.0.prune", "lists the token '<x>', which tokenizer.json does not have", "Take the tokenizer files"),
    ),
    Case(
        "padding by a token that may be cut",
        both(prune("{vocabulary: {}}"), config(pad_token_id=9)),
        ("stages.0.prune", "has the pad_token_id 9, which is a token that may be cut"),
    ),
    Case(
        "tokenizer of a larger model",
        both(prune("{vocabulary: {}}"), config(vocab_size=3)),
        ("stages.0.prune", "the tokenizer needs the token", "but the model has 3"),
    ),
    Case("unknown importance", prune("{to: {macs: 0.5}, importance: fischer}"), ("prune.importance", "`fisher`")),
    Case("unknown setting of the recovery", prune("{to: {macs: 0.5}, recover: {epoch: 1}}"), ("recover.epoch", "`epochs`")),
    Case("recovery without steps", prune("{to: {macs: 0.5}, recover: {epochs: 1}}"), ("`recover`", "add steps: 2 or more")),
    Case("recovery of given sizes", prune("{sizes: {heads: 2}, recover: {}}"), ("`recover`", "`to: {keep: ...}`")),
    Case(
        "recovery of layers by number",
        prune("{to: {macs: 0.5}, steps: 2, recover: {layer_map: [[2, 2]]}}"),
        ("prune.recover: layer_map names layers, which a step may drop; take last, kept or uniform",),
    ),
    Case(
        "relations that do not fit the heads",
        prune("{to: {keep: 0.9}, recover: {relations: 1, relation_heads: 3}}"),
        ("stages.0.prune: recover: relation_heads is 3, which does not divide heads of 8",),
    ),
    Case(
        "recovery by labels that are not there",
        both(prune("{to: {macs: 0.5}, steps: 2, recover: {hard: 1}}"), NO_EXAMPLES),
        ("stages.0.prune: needs training data", "Give data.train"),
    ),
    Case("prune before finetune", both(prune("{to: {macs: 0.5}}"), tensors(lose_head)), ("stages.0.prune", "Put `- finetune`")),
    Case("prune without examples", both(prune("{to: {macs: 0.5}}"), NO_EXAMPLES), ("needs examples", "data.transfer")),
    Case(
        "prune after quantize",
        stages("export", "quantize", "prune: {to: {macs: 0.5}}"),
        ("stages.2.prune", "changes the model after the stages that quantise it", "Put it before them"),
    ),
    Case("all at once", prune("{to: {macs: 0.5}, depth: 3, block: 65, positions: 31}"), ("3 problems", "depth", "positions")),
)
def test_compress_refuses_to_prune(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


TEACHER = "teachers: [./teacher]"


@cases(
    Case("learns nothing", distill("{soft: 0, hidden: 0}"), ("learns nothing: give soft, hard, hidden or relations a weight",)),
    Case("unknown parameter", distill("{temprature: 2}"), ("distill.temprature: unknown key", "`temperature`")),
    Case("no teachers", distill("{teachers: []}"), ("distill.teachers", "at least")),
    Case(
        "nameless teacher",
        distill('{teachers: [teacher, ""]}'),
        ("1 problem", "stages.0.distill.teachers.1: string should have at least 1 character"),
    ),
    Case("no epochs", distill("{epochs: 0}"), ("distill.epochs: input should be greater than 0",)),
    Case("cold", distill("{temperature: 0}"), ("distill.temperature: input should be greater than 0",)),
    Case("other precision", distill("{precision: fp16}"), ("distill.precision", '"fp16"', "`bf16`")),
    Case("no accumulation", distill("{accumulate: 0}"), ("distill.accumulate: input should be greater than or equal to 1",)),
    Case(
        "all held out", distill("{early_stopping: {share: 1}}"), ("distill.early_stopping.share: input should be less than 1",)
    ),
    Case("unknown map", distill("{layer_map: lst}"), ("1 problem", "distill.layer_map", '"lst"', "`last`")),
    Case("map of nothing", distill("{layer_map: []}"), ("layer_map needs pairs [student, teacher]",)),
    Case("layers from 0", distill("{layer_map: [[0, 1]]}"), ("layer_map needs pairs", "counted from 1")),
    Case(
        "layers that are not there",
        distill("{layer_map: [[3, 1], [1, 4]]}"),
        ("layer_map names layer 3 of the student, which has 2", "layer_map names layer 4 of its teacher, which has 2"),
    ),
    Case(
        "layer that another teacher has not",
        both(teacher(num_hidden_layers=1), distill(f"{{{TEACHER}, layer_map: [[2, 2]]}}")),
        ("layer_map names layer 2 of the teacher ./teacher, which has 1",),
    ),
    Case("relations that do not divide", distill("{relations: 1, relation_heads: 3}"), ("relation_heads is 3", "heads of 8")),
    Case(
        "relations that do not divide another teacher",
        both(teacher(num_attention_heads=8), distill(f"{{{TEACHER}, relations: 1, relation_heads: 8}}")),
        ("relation_heads is 8, which does not divide heads of 8 and 4",),
    ),
    Case(
        "wider than its teacher",
        both(teacher(hidden_size=16), distill(f"{{{TEACHER}, hidden_map: none}}")),
        ("the student is wider (32) than the teacher ./teacher (16)", "`hidden_map: none` puts no map between"),
    ),
    Case("teacher that is not there", distill(f"{{{TEACHER}}}"), ("stages.0.distill", "/teacher does not exist", "./teacher")),
    Case(
        "teacher that is no BERT",
        both(teacher(model_type="roberta"), distill(f"{{{TEACHER}}}")),
        ("stages.0.distill", "a model of type 'roberta'", "./teacher"),
    ),
    Case(
        "teacher without a head",
        both(teacher(tensors(lose_head)), distill(f"{{{TEACHER}}}")),
        ("./teacher was not fine-tuned for text-classification.", "Fine-tune it first"),
    ),
    Case(
        "teacher with more labels",
        both(teacher(id2label={"0": "a", "1": "b", "2": "c"}), distill(f"{{{TEACHER}}}")),
        ("./teacher has 3 labels, the task 2.", "same labels in the same order"),
    ),
    Case(
        "teacher with the labels the other way round",
        both(teacher(id2label={"0": "Positive", "1": "Negative"}), distill("{teachers: [teacher, ./teacher]}")),
        ("./teacher has the labels in another order: Positive, Negative; the task has negative, positive.",),
    ),
    Case(
        "teacher that reads less than the student",
        both(teacher(max_position_embeddings=31), distill(f"{{{TEACHER}}}")),
        (
            "1 problem",
            "stages.0.distill: ./teacher has 31 positions, fewer than the 32 tokens that inputs may have.",
            "Set task.max_length to 31",
        ),
    ),
    Case(
        "no assistant", distill("{teachers: assistant}", "prune: {to: {macs: 0.5}}"), ("names `assistant`", "put `- distill`")
    ),
    Case(
        "assistant that would be itself",
        distill("{teachers: assistant}", "prune: {to: {macs: 0.5}}", "distill"),
        ("stages.2.distill", "names `assistant`, but no earlier stage distils one"),
    ),
    Case("distill before finetune", both(distill("{}"), tensors(lose_head)), ("stages.0.distill", "Put `- finetune`")),
    Case("distill without examples", both(distill("{}"), NO_EXAMPLES), ("stages.0.distill", "needs examples", "data.transfer")),
    Case(
        "hard labels without any",
        both(distill("{hard: 1}"), NO_EXAMPLES, swap("eval: data", "transfer: data/train.csv\n  eval: data")),
        ("stages.0.distill: needs training data. Give data.train",),
    ),
    Case(
        "damaged transfer data",
        both(distill("{}"), put("data/t.csv", "words\na\n"), swap("eval: data", "transfer: data/t.csv\n  eval: data")),
        ("data.transfer (t.csv) has no column `text`; it has `words`", "columns: {text: NAME}"),
    ),
    Case(
        "missing transfer data",
        both(distill("{}"), swap("eval: data", "transfer: data/t.csv\n  eval: data")),
        ("data/t.csv does not exist", "Correct it under `data`"),
    ),
)
def test_compress_refuses_to_distill(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


@cases(
    Case("store that is a file", put("x", ""), ("x cannot be a folder", "--store"), ("--store", "x"), EXIT_ENVIRONMENT),
    Case("store below a file", put("x", ""), ("a file stands in its way", "--store"), ("--store", "x/y"), EXIT_ENVIRONMENT),
    Case("store with an endless name", nothing, ("too long", "--store"), ("--store", "x" * 300), EXIT_ENVIRONMENT),
    Case("out that is no run", both(folder_at("o"), put("o/x", "")), ("was not written by a run", "--out"), ("--out", "o")),
    Case("out that is a file", put("o", ""), ("o exists and was not written by a run", "--out"), ("--out", "o")),
    Case("out below a file", put("o", ""), ("a file stands in its way", "--out"), ("--out", "o/x"), EXIT_ENVIRONMENT),
    Case("out that is this folder", nothing, ("was not written by a run; it is left alone",), ("--out", ".")),
    Case("out with an endless name", nothing, ("too long", "--out"), ("--out", "x" * 300), EXIT_ENVIRONMENT),
    Case("unknown option", nothing, ("No such option: --sets", "edgebert --help"), ("--sets", "x=1")),
    Case("option without a value", nothing, ("--store", "edgebert --help"), ("--store",)),
    Case("two recipes", nothing, ("unexpected extra argument", "other.yaml"), ("other.yaml",)),
)
def test_compress_refuses_an_option(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_compress_refuses_to_be_started_as_several_processes(
    name: str, cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "2")
    words = (f"edgebert was started as 2 processes ({name}=2)", "Start it without accelerate launch", f"unset {name}")
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, words)
    assert not (recipe.parent / "store").exists()
    monkeypatch.setenv(name, "1")
    assert cli("validate", recipe).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("comprss",), ("No such command 'comprss'", "compress")),
        (("compress",), ("Missing argument 'RECIPE'", "edgebert --help")),
        (("compress", "nosuch.yaml"), ("No recipe nosuch.yaml", "shipped recipes: quickstart")),
        (("compress", ""), ("No recipe ''", "Name a YAML file")),
        (("compress", "model"), ("model is a folder, not a recipe", "edgebert init model")),
        (("compress", "x" * 5000), ("xxx...", "too long")),
        (("validate", "nosuch"), ("No recipe nosuch", "Name a YAML file")),
        (("plan", "nosuch"), ("No recipe nosuch", "Name a YAML file")),
        (("init", "nosuch"), ("nosuch has no config.json", "save_pretrained()")),
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


@pytest.mark.parametrize(
    ("package", "method", "words"),
    [
        ("datasets", "dynamic", ("Reading eval.csv needs the package datasets",)),
        ("onnxruntime", "dynamic", ("needs the package onnxruntime",)),
        ("torch", "dynamic", ("The stage export-onnx needs the package torch",)),
        ("openvino", "nncf", ("needs the package openvino",)),
        ("nncf", "nncf", ("The stage int8-nncf needs the package nncf",)),
    ],
)
def test_compress_names_a_package_that_is_not_installed_before_any_work(
    package: str, method: str, words: tuple[str, ...], cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "nncf":
        both(swap("[dynamic]", "[nncf]"), swap("onnxruntime", "openvino"))(recipe.parent)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find_spec(name, *rest))
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, (*words, "which is not installed", 'pip install "edgebert['))
    assert_nothing_left(recipe.parent)
    made = {artifact.manifest.made_by.name for artifact in ArtifactStore(recipe.parent / "store").artifacts()}
    assert made <= {"model", "data"}


@cases(
    Case("ruamel.yaml", nothing, ("Reading a recipe needs the package ruamel.yaml",)),
    Case("ijson", evaluation(SQUAD % "", "e.json"), ("Reading e.json needs the package ijson",)),
    Case("huggingface_hub", model("org/name"), ("The Hub model org/name needs the package huggingface_hub",)),
)
def test_compress_names_a_module_that_cannot_be_imported(
    case: Case, cli: Any, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.broken(recipe.parent)
    monkeypatch.setitem(sys.modules, case.id, None)
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, (*case.words, 'pip install "edgebert['))
    assert_nothing_left(recipe.parent)


@pytest.fixture
def tmpfs() -> Iterator[Callable[[Path, str], None]]:
    """Mounts a small file system of its own over a folder, for as long as the test runs."""
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            pytest.skip("only root can mount a file system")
        folder.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this root cannot mount a file system: {done.stderr.strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)  # lazy, because the process may have mapped a file of it


@pytest.mark.parametrize(("place", "option"), [("store", "--store"), ("runs", "--out")])
def test_compress_says_when_a_place_cannot_be_written(
    place: str, option: str, cli: Any, recipe: Path, request: pytest.FixtureRequest
) -> None:
    folder = recipe.parent / place
    if os.geteuid() == 0:  # whom permissions do not bind
        request.getfixturevalue("tmpfs")(folder, "ro")
    else:
        folder.mkdir(mode=0o555)
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, (f"/{place}", "cannot be written", f"may write with {option}"))
    assert_nothing_left(recipe.parent)


@pytest.mark.parametrize(
    ("place", "size", "words"),
    [
        ("store", "16k", ("/store", "edgebert store gc", "--store")),  # while a file is copied
        ("store", "400k", ("/store", "edgebert store gc", "--store")),  # while a library writes
        ("runs", "16k", ("/runs/recipe", "--out")),
    ],
    ids=["copy", "library", "out"],
)
def test_compress_says_when_the_disk_is_full(
    place: str, size: str, words: tuple[str, ...], cli: Any, recipe: Path, tmpfs: Callable[[Path, str], None]
) -> None:
    both(swap("[dynamic]", "[nncf]"), swap("onnxruntime", "openvino"))(recipe.parent)
    tmpfs(recipe.parent / place, f"size={size}")
    assert_refused(cli(*COMPRESS), EXIT_ENVIRONMENT, ("No space left", *words))
    assert_nothing_left(recipe.parent)


LIMITED = """
import resource, sys
from edgebert.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
main()
"""


def command(recipe: Path, *python: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """compress in a process of its own; `python` is what stands before its arguments."""
    surroundings = {**os.environ, "EDGEBERT_HOME": str(recipe.parent / "store"), **environment}
    return subprocess.run(
        [sys.executable, *python, *COMPRESS],
        cwd=recipe.parent,
        env={name: value for name, value in surroundings.items() if value},
        capture_output=True,
        text=True,
        timeout=300,
    )


def refused_by(done: subprocess.CompletedProcess[str]) -> SimpleNamespace:
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def test_compress_says_when_a_file_may_not_grow(recipe: Path) -> None:
    done = command(recipe, "-c", LIMITED)
    assert_refused(refused_by(done), EXIT_ENVIRONMENT, ("No space left", "File too large", "--store"))
    assert_nothing_left(recipe.parent)


def test_compress_says_when_the_hub_does_not_answer(recipe: Path, tmp_path: Path) -> None:
    model("org/name")(recipe.parent)
    hub = {"HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub")}  # nobody listens there
    done = command(recipe, "-m", "edgebert", **hub)
    assert_refused(refused_by(done), EXIT_ENVIRONMENT, ("could not be reached", "Connection refused", "--set model=PATH"))
    assert_nothing_left(recipe.parent)


LIGHT = """
import sys
from edgebert.cli import main
try:
    main()
except SystemExit as end:
    sys.exit("torch was loaded" if {"torch", "transformers"} & set(sys.modules) else end.code)
"""


def test_compress_finds_what_is_missing_before_it_loads_torch(recipe: Path) -> None:
    swap("data/eval.csv", "data/evl.csv")(recipe.parent)
    assert_refused(refused_by(command(recipe, "-c", LIGHT)), EXIT_INPUT, ("data/evl.csv does not exist",))


def interrupt(recipe: Path, reached: str) -> tuple[int, str]:
    """Ctrl-C, as a terminal sends it, when the progress has come to a line. Returns the exit code and what was said."""
    arguments = [sys.executable, "-m", "edgebert", "compress", "recipe.yaml"]
    with subprocess.Popen(
        arguments,
        cwd=recipe.parent,
        env={**os.environ, "EDGEBERT_HOME": str(recipe.parent / "store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith(reached):
                break
        os.killpg(process.pid, signal.SIGINT)
        said += process.stderr.read()
    return process.returncode, said


def test_compress_can_be_interrupted_and_goes_on_afterwards(recipe: Path, cli: Any) -> None:
    for reached in ("read data.eval", "export to ONNX", "measure latency"):
        code, said = interrupt(recipe, reached)
        assert code == EXIT_INTERRUPTED, said
        assert reached in said
        assert said.count("error: Interrupted.") == 1
        assert "run the same command again to go on" in said
        assert "Traceback" not in said
        assert_nothing_left(recipe.parent)
    result = cli("compress", "recipe.yaml")
    assert result.code == 0, result.err
    assert "int8-dynamic: found in the store" in result.err
