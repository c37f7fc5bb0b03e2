"""Recipes: the schema and the reader agree, overrides land where they say, and errors come with their lines."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Result
from ruamel.yaml import YAML

from edgebert.compress.recipe import Recipe, json_schema
from edgebert.compress.recipe_file import load_recipe
from edgebert.core.files import shipped_folder
from edgebert.errors import RecipeError

SHIPPED = sorted(shipped_folder("recipes").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

SHORT: dict[str, Any] = {
    "model": "./model",
    "task": "text-classification",
    "data": {"train": "train.csv", "eval": "eval.csv", "calibration": "train.csv"},
    "stages": ["export", "quantize"],
}
LONG: dict[str, Any] = {
    "model": {"source": "./model", "sha256": "0" * 64},
    "task": {"name": "text-classification", "labels": ["no", "yes"], "max_length": 64},
    "data": {
        "train": {"path": "train.csv", "columns": {"text": "sentence"}, "quoting": "none", "delimiter": ";", "limit": 10},
        "eval": {"hub": "nyu-mll/glue", "config": "sst2", "split": "validation", "revision": "main"},
        "calibration": {"path": "train.csv", "samples": 8, "format": "csv"},
    },
    "stages": [
        {"finetune": {"epochs": 1.5, "learning_rate": 1.0e-4}},
        {"export": {"formats": ["onnx", "openvino"]}},
        {"quantize": {"method": ["dynamic", "static", "nncf"], "per_channel": False}},
    ],
    "targets": [{"runtime": "onnxruntime", "threads": 2}, {"runtime": "openvino", "length_bucket": 16}],
    "gates": [{"metric": "accuracy", "min_ratio": 0.99}, {"metric": "size_mb", "max": 30}],
    "measure": {"rounds": 1, "queries": 10, "warmup": 0, "golden_inputs": 1},
    "seed": 7,
}


def changed(raw: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    """A copy with one value set."""
    result = copy.deepcopy(raw)
    node: Any = result
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return result


VALID = {
    "short": SHORT,
    "long": LONG,
    "stage without parameters": changed(SHORT, "stages", 1, value={"quantize": None}),
    "stage with empty parameters": changed(SHORT, "stages", 1, value={"quantize": {}}),
    "one method": changed(SHORT, "stages", 1, value={"quantize": {"method": "static"}}),
    "rows without labels": changed(SHORT, "data", "transfer", value="more.csv"),
    "rows without labels alone": changed(SHORT, "data", value={"transfer": {"path": "more.jsonl"}, "eval": "eval.csv"}),
    "prune to a share": changed(SHORT, "stages", 0, value={"prune": {"to": {"macs": 0.5}, "depth": 3, "steps": 2}}),
    "prune to sizes": changed(SHORT, "stages", 0, value={"prune": {"sizes": {"layers": [0, 2], "heads": [2, 3]}}}),
    "prune to one size": changed(SHORT, "stages", 0, value={"prune": {"sizes": {"intermediate_sizes": 32}}}),
    "prune the tables": changed(SHORT, "stages", 0, value={"prune": {"vocabulary": {}, "positions": 64}}),
    "distill": changed(SHORT, "stages", 0, value="distill"),
    "distill from one": changed(SHORT, "stages", 0, value={"distill": {"teachers": "assistant"}}),
    "distill from several": changed(SHORT, "stages", 0, value={"distill": {"teachers": ["teacher", "./other"]}}),
    "distill with pairs": changed(SHORT, "stages", 0, value={"distill": {"layer_map": [[1, 2], [2, 4]]}}),
    "distill with a stop": changed(SHORT, "stages", 0, value={"distill": {"early_stopping": {"patience": 2}}}),
    "target that is tuned": changed(SHORT, "targets", value=[{"runtime": "onnxruntime", "disabled_optimizers": ["X"]}]),
    "null calibration": changed(SHORT, "data", "calibration", value=None),
}
INVALID = {
    "unknown key at the top": changed(SHORT, "modle", value="./model"),
    "unknown key of the model": changed(LONG, "model", "path", value="x"),
    "unknown key of the task": changed(LONG, "task", "length", value=3),
    "unknown data set": changed(SHORT, "data", "test", value="x.csv"),
    "unknown key of a data set": changed(LONG, "data", "train", "column", value={}),
    "samples of training data": changed(LONG, "data", "train", "samples", value=3),
    "unknown key of a stage": changed(LONG, "stages", 2, "quantize", "width", value=4),
    "unknown key of a target": changed(LONG, "targets", 0, "device", value="cpu"),
    "unknown key of a gate": changed(LONG, "gates", 0, "minimum", value=1),
    "unknown key of measure": changed(LONG, "measure", "runs", value=1),
    "unknown stage": changed(SHORT, "stages", 0, value="exprot"),
    "unknown stage with parameters": changed(SHORT, "stages", 0, value={"exprot": {}}),
    "two stages in one entry": changed(SHORT, "stages", 0, value={"export": {}, "quantize": {}}),
    "stage given by its tag": changed(SHORT, "stages", 0, value={"stage": "export"}),
    "unknown method": changed(LONG, "stages", 2, "quantize", "method", value="gptq"),
    "unknown task": changed(SHORT, "task", value="translation"),
    "unknown runtime": changed(LONG, "targets", 0, "runtime", value="tensorrt"),
    "unknown metric": changed(LONG, "gates", 0, "metric", value="bleu"),
    "text for a number": changed(LONG, "seed", value="7"),
    "number for text": changed(LONG, "data", "train", "path", value=7),
    "samples of rows without labels": changed(SHORT, "data", "transfer", value={"path": "t.csv", "samples": 3}),
    "unknown key of a goal": changed(SHORT, "stages", 0, value={"prune": {"to": {"mac": 0.5}}}),
    "goal out of range": changed(SHORT, "stages", 0, value={"prune": {"to": {"macs": 1.0}}}),
    "half a head": changed(SHORT, "stages", 0, value={"prune": {"sizes": {"heads": 1.5}}}),
    "unknown layer map": changed(SHORT, "stages", 0, value={"distill": {"layer_map": "first"}}),
    "layer without a partner": changed(SHORT, "stages", 0, value={"distill": {"layer_map": [[1]]}}),
    "no teachers": changed(SHORT, "stages", 0, value={"distill": {"teachers": []}}),
    "nameless teacher": changed(SHORT, "stages", 0, value={"distill": {"teachers": ["teacher", ""]}}),
    "number for a teacher": changed(SHORT, "stages", 0, value={"distill": {"teachers": [3]}}),
    "no stages": changed(SHORT, "stages", value=[]),
    "negative seed": changed(LONG, "seed", value=-1),
    "short sha256": changed(LONG, "model", "sha256", value="abc"),
    "fractional threads": changed(LONG, "targets", 0, "threads", value=1.5),
    "no data": {key: value for key, value in SHORT.items() if key != "data"},
    "no eval data": changed(SHORT, "data", value={"train": "train.csv"}),
}


def read(raw: dict[str, Any], folder: Path) -> Recipe:
    """What the reader makes of it. JSON is YAML."""
    (folder / "recipe.yaml").write_text(json.dumps(raw))
    return load_recipe(str(folder / "recipe.yaml")).recipe


def test_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_schema_and_reader_accept_every_shipped_recipe(file: Path) -> None:
    VALIDATOR.validate(json.loads(json.dumps(YAML(typ="safe").load(file.read_text()))))
    assert load_recipe(file.stem).path == file


@pytest.mark.parametrize("raw", VALID.values(), ids=VALID)
def test_schema_and_reader_accept_the_same_recipe(raw: dict[str, Any], tmp_path: Path) -> None:
    VALIDATOR.validate(raw)
    read(raw, tmp_path)


@pytest.mark.parametrize("raw", INVALID.values(), ids=INVALID)
def test_schema_and_reader_refuse_the_same_recipe(raw: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(raw)
    with pytest.raises(RecipeError):
        read(raw, tmp_path)


def test_short_and_long_forms_mean_the_same(tmp_path: Path) -> None:
    written_out = {
        "model": {"source": "./model"},
        "task": {"name": "text-classification"},
        "data": {role: {"path": path} for role, path in SHORT["data"].items()},
        "stages": [{"export": {}}, {"quantize": {"method": ["dynamic"]}}],
    }
    assert read(SHORT, tmp_path) == read(written_out, tmp_path)


def test_recipe_is_frozen_when_it_was_read(tmp_path: Path) -> None:
    recipe = read(LONG, tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 8


def written(folder: Path, raw: dict[str, Any]) -> Path:
    """A recipe in a folder of its own."""
    (folder / "recipes").mkdir()
    path = folder / "recipes" / "recipe.yaml"
    path.write_text(json.dumps(raw))
    return path


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    """LONG as a file."""
    return written(tmp_path, LONG)


@pytest.fixture
def short_file(tmp_path: Path) -> Path:
    """SHORT as a file."""
    return written(tmp_path, SHORT)


@pytest.fixture
def distill_file(tmp_path: Path) -> Path:
    """A recipe that distils as a file."""
    return written(tmp_path, changed(SHORT, "stages", value=["distill", "export"]))


def dumped(file: Path, *overrides: str) -> dict[str, Any]:
    return load_recipe(str(file), overrides).recipe.model_dump(mode="json")


@pytest.mark.parametrize(
    ("raw", "override", "path", "value"),
    [
        (LONG, "seed=3", ("seed",), 3),
        (LONG, "stages.quantize.method=static", ("stages", 2, "method"), ["static"]),
        (LONG, "stages.2.method=static", ("stages", 2, "method"), ["static"]),
        (LONG, "stages.2.quantize.method=static", ("stages", 2, "method"), ["static"]),
        (LONG, "stages.quantize.method=[static, nncf]", ("stages", 2, "method"), ["static", "nncf"]),
        (LONG, "stages.0=finetune", ("stages", 0, "epochs"), 3.0),
        (LONG, "stages.finetune={epochs: 2.0}", ("stages", 0, "epochs"), 2.0),
        (LONG, "targets.1.threads=4", ("targets", 1, "threads"), 4),
        (LONG, "targets=[{runtime: openvino}]", ("targets", 0, "runtime"), "openvino"),
        (LONG, "gates.0.min_ratio=0.5", ("gates", 0, "min_ratio"), 0.5),
        (LONG, "gates=[]", ("gates",), []),
        (LONG, "measure.rounds=9", ("measure", "rounds"), 9),
        (LONG, "task.max_length=16", ("task", "max_length"), 16),
        (LONG, "data.train.columns.text=review", ("data", "train", "columns"), {"text": "review"}),
        (LONG, "data.calibration=null", ("data", "calibration"), None),
        (LONG, "model.sha256=null", ("model", "sha256"), None),
        (SHORT, "stages.quantize.method=static", ("stages", 1, "method"), ["static"]),
        (SHORT, "stages.1.method=static", ("stages", 1, "method"), ["static"]),
        (SHORT, "stages.export.formats=[openvino]", ("stages", 0, "formats"), ["openvino"]),
        (SHORT, "measure.rounds=9", ("measure", "rounds"), 9),
        (SHORT, "task.labels=[no, yes]", ("task", "labels"), ["no", "yes"]),
        (SHORT, "data.calibration.samples=4", ("data", "calibration", "samples"), 4),
        (SHORT, "data.train.columns.text=review", ("data", "train", "columns"), {"text": "review"}),
        (SHORT, "model.revision=v1", ("model", "revision"), "v1"),
    ],
)
def test_override_sets_the_value_that_its_path_names_also_where_a_short_form_omits_it(
    tmp_path: Path, raw: dict[str, Any], override: str, path: tuple[str | int, ...], value: Any
) -> None:
    found: Any = dumped(written(tmp_path, raw), override)
    for key in path:
        found = found[key]
    assert found == value


def test_overrides_leave_the_rest_of_the_recipe_as_it_is(long_file: Path) -> None:
    before, after = dumped(long_file), dumped(long_file, "stages.quantize.method=static")
    before["stages"][2]["method"] = ["static"]
    assert before == after


def test_later_override_wins_when_two_set_the_same_path(long_file: Path) -> None:
    assert dumped(long_file, "seed=1", "seed=2")["seed"] == 2


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("model=elsewhere", ("model", "source")),
        ("model.source=elsewhere", ("model", "source")),
        ("model={source: elsewhere}", ("model", "source")),
        ("data.train=elsewhere", ("data", "train", "path")),
        ("data.train.path=elsewhere", ("data", "train", "path")),
        ("data.train={path: elsewhere, columns: {text: sentence}}", ("data", "train", "path")),
        ("data={train: elsewhere, eval: elsewhere}", ("data", "eval", "path")),
    ],
)
def test_override_counts_a_path_from_where_the_command_runs(
    short_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, path: tuple[str, ...]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    found: Any = dumped(short_file, override)
    for key in path:
        found = found[key]
    assert found == str(tmp_path / "elsewhere")


def test_override_counts_a_path_that_is_not_there_from_where_the_command_runs(
    short_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dumped(short_file, "model=./missing")["model"]["source"] == str(tmp_path / "missing")
    assert dumped(short_file, "data.eval=missing.csv")["data"]["eval"]["path"] == str(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("override", "index"),
    [
        ("stages.distill.teachers=big", 0),
        ("stages.0.teachers=big", 0),
        ("stages.distill.teachers=[teacher, ./missing, big]", 2),
        ("stages.0.distill={teachers: [big], epochs: 1}", 0),
        ("stages=[{distill: {teachers: [teacher, big]}}, export]", 1),
    ],
)
def test_override_counts_a_teacher_from_where_the_command_runs(
    distill_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, index: int
) -> None:
    here = tmp_path / "here"
    for name in ("big", "teacher", "assistant"):
        (here / name).mkdir(parents=True)
    monkeypatch.chdir(here)
    teachers = dumped(distill_file, override)["stages"][0]["teachers"]
    assert teachers[index] == str(here / "big")
    assert teachers[:index] in ([], ["teacher"], ["teacher", str(here / "missing")])


def test_override_leaves_teachers_that_are_no_paths_alone(
    distill_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "teacher").mkdir()
    monkeypatch.chdir(tmp_path)
    for names in (["teacher"], ["assistant"], ["org/name"], ["package://module/model"]):
        assert dumped(distill_file, f"stages.distill.teachers={json.dumps(names)}")["stages"][0]["teachers"] == names


def test_override_leaves_names_that_are_no_paths_alone(
    short_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dumped(short_file, "model=org/name")["model"]["source"] == "org/name"
    assert dumped(short_file, "model=package://module/model")["model"]["source"] == "package://module/model"
    assert dumped(short_file, "data.eval={hub: org/name, config: train}")["data"]["eval"]["hub"] == "org/name"


def test_override_takes_an_index_when_a_stage_stands_twice(short_file: Path) -> None:
    short_file.write_text(json.dumps(changed(SHORT, "stages", value=["export", "quantize", "quantize"])))
    assert dumped(short_file, "stages.2.method=static")["stages"][2]["method"] == ["static"]


def test_load_recipe_takes_a_shipped_recipe_by_its_name() -> None:
    assert load_recipe("quickstart").path == shipped_folder("recipes") / "quickstart.yaml"


def test_init_writes_a_recipe_that_validates_when_the_model_is_fine_tuned(
    cli: Callable[..., Result], model_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    made = cli("init", model_dir, "--train", data_dir / "train.csv", "--eval", data_dir / "eval.csv", "--out", "new.yaml")
    assert made.code == 0, made.err
    checked = cli("validate", "new.yaml")
    assert (checked.code, checked.out) == (0, "new.yaml: valid\n"), checked.err
    recipe = load_recipe(str(tmp_path / "new.yaml")).recipe
    assert recipe.task.labels == ("negative", "positive")
    assert [stage.stage_name() for stage in recipe.stages] == ["export", "quantize"]
    assert recipe.data.train is not None
    assert (tmp_path / str(recipe.data.train.path)).resolve() == data_dir / "train.csv"
    VALIDATOR.validate(json.loads(json.dumps(YAML(typ="safe").load((tmp_path / "new.yaml").read_text()))))


def test_init_puts_finetune_first_when_the_model_has_no_head(
    cli: Callable[..., Result], encoder_template: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep folder").mkdir()
    made = cli("init", encoder_template, "--out", "deep folder/new.yaml")
    assert made.code == 0, made.err
    checked = cli("validate", "deep folder/new.yaml")
    assert checked.code == 2 and "deep folder/train.csv does not exist" in checked.err and "deep folder/eval.csv" in checked.err
    assert [stage.stage_name() for stage in load_recipe("deep folder/new.yaml").recipe.stages] == [
        "finetune",
        "export",
        "quantize",
    ]


def test_init_leaves_an_existing_file_alone_unless_forced(cli: Callable[..., Result], model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text("mine")
    assert cli("init", model_dir, "--out", "new.yaml").code == 2
    assert (tmp_path / "new.yaml").read_text() == "mine"
    assert cli("init", model_dir, "--out", "new.yaml", "--force").code == 0
    assert load_recipe("new.yaml").recipe.task.labels == ("negative", "positive")
