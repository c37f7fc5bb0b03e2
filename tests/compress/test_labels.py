"""The labels of a run: the recipe's names against config.json's, and those that a head learns from its data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Result

from edgebert.compress.labels import learned_labels, renamed
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.prepared import PreparedData, prepare_data
from edgebert.data.spec import DataSpec
from edgebert.errors import RecipeError
from edgebert.tasks import TASKS


def relabelled(recipe: Path, *names: str) -> None:
    """Gives the model's outputs other names."""
    file = recipe.parent / "model" / "config.json"
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **labels}))


@pytest.mark.parametrize("labels", ["[positive, negative]", "[Positive, NEGATIVE]", "[positive, bad]", "[bad, negative ]"])
def test_task_labels_do_not_exchange_the_models_outputs(labels: str, recipe: Path) -> None:
    if "bad, negative" in labels:
        relabelled(recipe, "negative", "positive")
    with pytest.raises(RecipeError) as refused:
        resolve_recipe(load_recipe(str(recipe), [f"task.labels={labels}"]))
    assert "which is output" in str(refused.value) and "negative, positive" in str(refused.value)


def test_task_labels_that_name_every_output_anew_are_taken_and_told(recipe: Path) -> None:
    resolved = resolve_recipe(load_recipe(str(recipe), ["task.labels=[bad, good]"]))
    assert renamed(("bad", "good"), resolved.model.labels) == (
        "task.labels renames the model's outputs: negative is called bad, positive is called good"
    )
    assert renamed(resolved.model.labels, resolved.model.labels) is None
    assert renamed(("bad", "good"), ("LABEL_0", "LABEL_1")) is None


def data(folder: Path, store: ArtifactStore, *labels: Any) -> PreparedData:
    rows = "".join(json.dumps({"text": f"text {index}", "label": label}) + "\n" for index, label in enumerate(labels))
    (folder / "train.jsonl").write_text(rows)
    return prepare_data(DataSpec(path="train.jsonl"), "train", base=folder, task=TASKS[0], store=store, progress=Silent())


@pytest.mark.parametrize(
    ("labels", "learned"),
    [
        ((10, 9, "2"), ("2", "9", "10")),
        (("world", "Sports", "3"), ("3", "Sports", "world")),
        ((True, False), ("False", "True")),
        ((1.0, "0.0"), ("0", "1")),
    ],
)
def test_a_head_learns_labels_in_their_natural_order(
    labels: tuple[Any, ...], learned: tuple[str, ...], tmp_path: Path, store: ArtifactStore
) -> None:
    assert learned_labels(data(tmp_path, store, *labels)) == learned


def compressed(cli: Any, recipe: Path, rows: str, *overrides: str) -> Result:
    (recipe.parent / "data" / "eval.csv").write_text(rows)
    result: Result = cli("compress", "recipe.yaml", *(f"--set={item}" for item in overrides))
    shutil.rmtree(recipe.parent / "runs", ignore_errors=True)
    return result


def test_compress_says_how_labels_were_read(cli: Any, recipe: Path) -> None:
    rows = "text,label\ngood,1\nbad,0\nfine,1\nawful,0\n"
    result = compressed(cli, recipe, rows, "task.labels=[bad, good]")
    assert result.code == 0, result.err
    assert "task.labels renames the model's outputs: negative is called bad" in result.err
    assert "data.eval: labels are matched by number: 0 is bad, 1 is good" in result.err
    relabelled(recipe, "1", "0")
    refused = compressed(cli, recipe, rows)
    assert refused.code == 2 and "A number could mean the name or the output" in refused.err


def test_a_run_on_a_worthless_baseline_fails_and_says_what_it_saw(cli: Any, recipe: Path) -> None:
    gates = ["--set=gates=[{metric: accuracy, min_ratio: 0.9}]", "--set=task.max_length=16"]
    result = cli("compress", "recipe.yaml", *gates)
    assert result.code == 1, result.err
    assert "100% of the texts of data.eval are longer than task.max_length 16 tokens and were cut" in result.err
    assert "FP32 is worthless here: its accuracy of 0.4167 is no better than 0.5833" in result.out
    assert "what to try next" not in result.out
    bundle = recipe.parent / "runs" / "recipe" / "bundle"
    card, manifest = (bundle / "README.md").read_text(), json.loads((bundle / "edgebert.json").read_text())
    assert "FP32 is worthless here" in card and "100% of the texts of data.eval are longer" in card
    assert manifest["verdict"] == "FAILED" and any("FP32 is worthless here" in reason for reason in manifest["reasons"])
    plan = cli("plan", "recipe.yaml", *gates)
    told = [line for line in plan.out.splitlines() if line.startswith("data.eval")]
    assert any("100% of the texts of data.eval" in line for line in told), plan.out
    page = cli("report", str(bundle.parent / "report.json"), "--out", "page.html")
    assert page.code == 0, page.err
    html = (recipe.parent / "page.html").read_text()
    assert "FP32 is worthless here" in html and "100% of the texts of data.eval are longer" in html
