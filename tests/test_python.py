"""The package from Python: each name whatever was imported first, with the defaults and the refusals of the command line."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPE, Result
from made_reports import a_report, an_entry, rounds
from ruamel.yaml import YAML

import edgebert
from edgebert.cli.bench import bench as bench_verb
from edgebert.compress.call import recipe_file
from edgebert.compress.recipe_file import load_recipe
from edgebert.errors import InputError, RecipeError
from edgebert.measure.bench import call
from edgebert.measure.bench.sweep import BenchOptions
from edgebert.report.compare.comparison import compare
from edgebert.report.file import write_report

ORDERS = {
    "the package alone": "import edgebert",
    "a module of the room first": "import edgebert.compress.recipe",
    "the room's own function first": "from edgebert.compress.run import compress as inner; import edgebert",
    "a name of the package first": "from edgebert import plan, compress; import edgebert",
}


def content_of(text: str) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(text))


@pytest.mark.parametrize("order", ORDERS)
def test_compress_is_the_room_and_a_function_whatever_was_imported_first(order: str) -> None:
    script = f"""
{ORDERS[order]}
import sys
assert callable(edgebert.compress) and edgebert.compress is sys.modules["edgebert.compress"]
assert "overrides" in edgebert.compress.__call__.__doc__
import edgebert.compress.recipe
from edgebert.compress.recipe import Recipe
assert edgebert.compress.recipe.Recipe is Recipe is edgebert.Recipe
assert callable(edgebert.compress) and callable(edgebert.compare)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = "import edgebert, sys; dir(edgebert); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "numpy", "pydantic", "onnxruntime", "typer"} & set(done.stdout.split())


def test_every_name_is_there_and_says_what_it_is() -> None:
    assert {*edgebert.__all__} <= {*dir(edgebert)}
    for name in edgebert.__all__:
        found = getattr(edgebert, name)
        assert name == "__version__" or inspect.getdoc(found), name
    with pytest.raises(AttributeError, match="'edgebert' has no attribute 'comprss'"):
        edgebert.comprss  # noqa: B018


def test_a_recipe_may_be_a_file_or_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    content, overrides = content_of(RECIPE), {"stages.quantize.method": ["static"], "seed": 3}
    expected = load_recipe("recipe.yaml", ("stages.quantize.method=[static]", "seed=3"))
    assert expected.recipe.seed == 3
    for given in ("recipe.yaml", tmp_path / "recipe.yaml", content, load_recipe("recipe.yaml").recipe):
        file = recipe_file(given, overrides)
        assert (file.recipe, file.name, file.base) == (expected.recipe, "recipe", tmp_path)
    assert content == content_of(RECIPE)  # it is the caller's
    assert recipe_file("quickstart", {}).recipe == load_recipe("quickstart").recipe


@pytest.mark.parametrize(
    ("recipe", "overrides", "faults"),
    [
        ({"model": "m"}, {}, ["task", "data", "stages"]),
        (content_of(RECIPE), {"stages.prune.to": 1, "stages.9.x": 2}, ["stages.prune.to", "stages.9.x"]),
        (content_of(RECIPE) | {"seed": -1, "extra": 1}, {}, ["seed", "extra"]),
    ],
)
def test_every_fault_of_a_content_is_named(recipe: dict[str, Any], overrides: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        edgebert.plan(recipe, overrides=overrides)
    assert all(fault in str(caught.value) for fault in faults)


def test_compress_has_the_defaults_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEBERT_HOME", raising=False)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("edgebert.compress.call.compress", lambda file, **named: asked.append({"name": file.name, **named}))
    edgebert.compress("mine.yaml")
    edgebert.compress("mine.yaml", out=tmp_path / "there", store="kept", remeasure=True)
    monkeypatch.setenv("EDGEBERT_HOME", str(tmp_path / "home"))
    edgebert.compress("mine.yaml", out="here")
    assert [(one["name"], str(one["out"]), one["remeasure"]) for one in asked] == [
        ("mine", "runs/mine", False),
        ("mine", str(tmp_path / "there"), True),
        ("mine", "here", False),
    ]
    assert [one["store"].root for one in asked] == [tmp_path / ".edgebert", tmp_path / "kept", tmp_path / "home"]


def test_a_plan_says_what_is_there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = edgebert.plan(str(finished / "recipe.yaml"), store=finished / "store")
    assert isinstance(found, edgebert.Plan) and found.ready
    assert {line.name: line.state for line in found.lines}["data.eval"] == "found"
    assert str(found).count("\n") == len(found.lines) - 1


def test_compare_takes_reports_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ref, changed = a_report(an_entry(rounds(seed=1))), a_report(an_entry(rounds(seed=2)))
    write_report(tmp_path / "run" / "report.json", changed)
    expected = compare(ref, edgebert.read_report(tmp_path / "run" / "report.json")).pairs
    for given in (changed, tmp_path / "run", str(tmp_path / "run" / "report.json")):
        found = edgebert.compare(ref, given)
        assert isinstance(found, edgebert.Comparison) and found.pairs == expected
    assert edgebert.compare(ref, changed, metrics=["p50_ms"]).pairs[0].findings[0].metric == "p50_ms"


@pytest.mark.parametrize(
    ("arguments", "named", "fault"),
    [
        ((), {}, "has no baseline to compare with"),
        (("nowhere.json",), {}, "There is no report nowhere.json"),
        (("two",), {}, "two holds 2 reports"),
        ((None,), {"metrics": ["p51_ms"]}, "There is no metric p51_ms"),
        ((None,), {"band": 2.0}, "band is 2.0"),
        ((None,), {"accuracy_band": 0.0}, "accuracy_band is 0.0"),
    ],
)
def test_compare_refuses_what_it_cannot_compare(
    arguments: tuple[Any, ...], named: dict[str, Any], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").mkdir()
    report = a_report(an_entry(rounds()))
    for name in ("a", "b"):
        write_report(tmp_path / "two" / f"{name}.json", report)
    with pytest.raises(InputError, match=fault):
        edgebert.compare(report, *arguments, **named)


EVERY_OPTION = """bench a --baseline b --variant x,y --variant z --baseline-variant v --runtime openvino --scenario
multi-stream,server --scenario offline --streams 3 --instances 2 --rate 5,6 --bound 7 --bound-percent 90 --batch 1,8
--threads 2 --lengths 16,data --data f.csv:text --label l --tokenizer t --queries 4 --rounds 3 --warmup 2 --no-settle
--no-end-to-end --pin none --seed 9 --cool-down 1"""
SAME: dict[str, Any] = {
    "baseline": Path("b"),
    "variants": ["x", "y", "z"],
    "baseline_variant": "v",
    "runtime": "openvino",
    "streams": 3,
    "scenarios": ["multi-stream", "server", "offline"],
    "instances": 2,
    "rates": [5, 6],
    "bound_ms": 7,
    "bound_percent": 90,
    "batches": [1, 8],
    "threads": [2],
    "lengths": [16, "data"],
    "data": "f.csv:text",
    "label": "l",
    "tokenizer": "t",
    "queries": 4,
    "rounds": 3,
    "warmup": 2,
    "settle": False,
    "end_to_end": False,
    "pin": (),
    "seed": 9,
    "cool_down_s": 1,
}


def test_bench_asks_what_the_command_asks(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def measure(models: call.Asked, options: BenchOptions, *, data: Any, label: Any, progress: Any) -> None:
        asked.append((models, options, data, label))
        raise InputError("stop")

    monkeypatch.setattr(call, "measure", measure)
    assert [cli("bench", "a", "b").code, cli(*EVERY_OPTION.split()).code] == [2, 2]
    for arguments, options in ((("a", Path("b")), {}), (("a",), SAME)):
        with pytest.raises(InputError, match="stop"):
            edgebert.bench(*arguments, **options)
    assert asked[:2] == asked[2:] and asked[0][0].models == ("a", "b")
    assert asked[1][0].variants == ("x", "y", "z")


def test_bench_has_every_option_that_the_command_has() -> None:
    ours = set(inspect.signature(edgebert.bench).parameters) - {"models"}
    assert ours >= {field.name for field in fields(BenchOptions)} | {field.name for field in fields(call.Asked)} - {"models"}
    of_the_command = len(inspect.signature(bench_verb).parameters)
    assert len(ours) == of_the_command - len({"bench_models", "out", "force", "json_output"})


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"queries": 0}, "queries is 0: it has to be 1 or more"),
        ({"rounds": 0}, "rounds is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"threads": [0]}, "threads is 0"),
        ({"batches": [1, -2]}, "batches is -2"),
        ({"scenarios": ["sideways"]}, "There is no scenario sideways"),
        ({"scenarios": ["server"]}, "The server scenario needs a rate"),
        ({"lengths": ["long"]}, "'long' is not a length"),
        ({"label": "label"}, "which is not given"),
        ({"runtime": "tensorflow"}, "is no runtime"),
        ({"tokenizer": "nowhere"}, "There is no tokenizer nowhere"),
    ],
)
def test_bench_refuses_before_it_looks_at_a_model(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        edgebert.bench("nowhere", **options)


def test_bench_needs_a_model() -> None:
    with pytest.raises(InputError, match="no model to measure"):
        edgebert.bench()
