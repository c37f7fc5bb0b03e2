"""Faults in a recipe or an override: one message with the line, the fault and the known names, nothing left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from breaks import STAGES, Break, Case, assert_case, cases, model, nothing, put, stages, swap
from conftest import RECIPE

TARGETS = "  - {runtime: onnxruntime, threads: 1}"
GATE = "{metric: accuracy, min: 0.0}"


def recipe_is(text: str | bytes) -> Break:
    return put("recipe.yaml", text)


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
    Case("not UTF-8", recipe_is(RECIPE.encode() + b"# caf\xe9\n"), ("not UTF-8 text (byte 383)", "Save it as UTF-8")),
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
    Case("code in YAML", swap("seed: 0", "seed: !!python/object/apply:os.getpid []"), ("line 15: seed", "has the tag")),
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
    Case("index beyond the list", nothing, ("there is no entry 9; the list has 2",), ("--set", "stages.9.x=1")),
    Case("index before the list", nothing, ("there is no entry -1",), ("--set", "stages.-1.x=1")),
    Case("index that is no number", nothing, ("no \N{SUPERSCRIPT TWO} in this list",), ("--set", "stages.\u00b2.x=1")),
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
