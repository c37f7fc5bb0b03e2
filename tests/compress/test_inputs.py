"""A recipe's inputs are checked together before any work: validate, plan and compress name every file that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import RECIPE, Result

GOOD = "text,label\nfine,positive\npoor,negative\n"
NO_TEXT = "txt,label\nfine,positive\npoor,negative\n"
NO_LABEL = "text,lab\nfine,positive\npoor,negative\n"


def lay_out(folder: Path, train: str | None, evaluation: str | None, recipe: str = RECIPE) -> None:
    """Writes a recipe that needs train, and its data; None: no such file."""
    (folder / "data").mkdir()
    calibrated_on_train = recipe.replace("  calibration: {path: data/train.csv, samples: 8}\n", "").replace("dynamic", "static")
    (folder / "recipe.yaml").write_text(calibrated_on_train)
    for name, text in (("train", train), ("eval", evaluation)):
        if text is not None:
            (folder / "data" / f"{name}.csv").write_text(text)


TABLE = {
    "both lack a column": (NO_TEXT, NO_LABEL, ["(train.csv) has no column `text`", "(eval.csv) has no column `label`"]),
    "one is not there, one is empty": (None, "", ["train.csv does not exist", "--set data.train=FILE", "eval.csv is empty"]),
    "unusable rows": (GOOD + ",negative\n", GOOD + "x,\n", ["row 3: `text` is empty", "row 3: `label` is empty"]),
    "no rows": ("text,label\n", GOOD + "x\0,positive\n", ["(train.csv) has no rows", "NUL bytes"]),
    "labels of another model": (GOOD + "x,great\n", GOOD + "y,awful\n", ["data.train: ", "'great'", "data.eval: ", "'awful'"]),
}


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.usefixtures("model_dir")
def test_both_files_faults_are_named_at_once(case: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    train, evaluation, faults = TABLE[case]
    lay_out(tmp_path, train, evaluation)
    for verb in ("validate", "compress"):
        refused = cli(verb, "recipe.yaml")
        assert refused.code == 2 and "recipe.yaml: 2 problems" in refused.err
        assert [fault for fault in faults if fault not in refused.err] == []
    assert not (tmp_path / "runs").exists()
    planned = cli("plan", "recipe.yaml", "--json")
    notes = {line["name"]: line for line in json.loads(planned.out)}
    assert planned.code == 2
    assert {notes[f"data.{role}"]["state"] for role in ("train", "eval")} <= {"unusable", "missing"}
    assert [fault for fault in faults if fault not in " ".join(line["note"] for line in notes.values())] == []


@pytest.mark.usefixtures("model_dir")
def test_a_single_fault_is_an_error_of_its_own(cli: Callable[..., Result], tmp_path: Path) -> None:
    lay_out(tmp_path, GOOD, NO_TEXT)
    refused = cli("validate", "recipe.yaml")
    assert refused.code == 2 and "problem" not in refused.err
    assert "data.eval (eval.csv) has no column `text`; it has `txt`, `label`" in refused.err


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (("./model", "./nowhere"), ["line 1: model: The model folder", "does not exist", "`text`", "`label`"]),
        (("max_length: 32", "max_length: 9999"), ["task.max_length: 9999 tokens do not fit", "`text`", "`label`"]),
    ],
)
@pytest.mark.usefixtures("model_dir")
def test_faults_of_the_model_and_of_the_data_come_together(
    change: tuple[str, str], faults: list[str], cli: Callable[..., Result], tmp_path: Path
) -> None:
    lay_out(tmp_path, NO_TEXT, NO_LABEL, RECIPE.replace(*change))
    for verb in ("validate", "plan", "compress"):
        refused = cli(verb, "recipe.yaml")
        assert refused.code == 2 and "3 problems" in refused.err
        assert [fault for fault in faults if fault not in refused.err] == []


@pytest.mark.usefixtures("model_dir")
def test_some_labels_of_a_long_file_say_nothing_of_the_others(cli: Callable[..., Result], tmp_path: Path) -> None:
    sorted_by_class = "text,label\n" + "fine,positive\n" * 1500 + "poor,negative\n"
    lay_out(tmp_path, sorted_by_class, GOOD)
    checked = cli("validate", "recipe.yaml")
    assert (checked.code, checked.out) == (0, "recipe.yaml: valid\n"), checked.err


@pytest.mark.usefixtures("model_dir")
def test_a_plan_says_of_which_model_each_graph_is(cli: Callable[..., Result], tmp_path: Path) -> None:
    recipe = RECIPE.replace("  - export\n", "  - prune: {sizes: {layers: [0]}}\n  - prune: {sizes: {heads: 2}}\n")
    lay_out(tmp_path, GOOD, GOOD.replace("fine", "good"), recipe)
    lines = json.loads(cli("plan", "recipe.yaml", "--json").out)
    notes = [(line["name"], line["note"]) for line in lines if line["name"].startswith(("export", "int8"))]
    assert ("export-onnx", "of the model, the FP32 baseline") in notes
    exports = [note for name, note in notes if name == "export-onnx"]
    assert len(set(exports)) == len(exports) == 3
    assert any(name == "int8-static" and note.endswith("-2") for name, note in notes)
