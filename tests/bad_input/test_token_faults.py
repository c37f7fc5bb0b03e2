"""Words and tags that cannot be used: one message with the row and the remedy, before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from breaks import assert_nothing_left, assert_refused
from tiny_families import tiny_folder

from edgebert.compress.init import recipe_text
from edgebert.compress.recipe_file import load_recipe
from edgebert.errors import EXIT_INPUT

LABELS = ("B-person", "I-person", "O")
GOOD = [
    {"words": ["Ada", "Lovelace", "lived"], "tags": ["B-person", "I-person", "O"]},
    {"words": ["so", "on"], "tags": ["O", "O"]},
]
RECIPE: dict[str, Any] = {
    "model": "model",
    "task": {"name": "token-classification", "max_length": 16},
    "data": {"eval": "eval.jsonl"},
    "stages": [{"quantize": {"method": "dynamic"}}],
    "measure": {"rounds": 1, "queries": 2, "warmup": 0, "golden_inputs": 1},
}


def written(folder: Path, rows: list[dict[str, Any]], *, labels: tuple[str, ...] = LABELS, **changes: Any) -> Path:
    """The recipe of a tiny model, with these rows as data.eval."""
    tiny_folder("bert", "ForTokenClassification", folder / "model", labels=labels)
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(json.dumps({**RECIPE, **changes}))
    return folder


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"words": ["Ada"], "tags": ["PER"]}, ("row 3: the tag 'PER' is not of the BIO scheme", "B-type")),
        ({"words": ["Ada"], "tags": ["B-"]}, ("row 3: the tag 'B-' is not of the BIO scheme",)),
        ({"words": ["Ada", "lived"], "tags": ["O"]}, ("row 3: has 2 words and 1 tags", "every word needs one")),
        ({"words": ["Ada", " "], "tags": ["O", "O"]}, ("row 3: `words` has word 2 that is empty",)),
        ({"words": ["Ada", 5], "tags": ["O", "O"]}, ("row 3: `words` has word 2 that is not text but int",)),
        ({"words": [], "tags": []}, ("row 3: `words` is an empty list",)),
        ({"words": "Ada lived", "tags": ["O", "O"]}, ("row 3: `words` is not a list but str", "CoNLL")),
        ({"words": ["Ada"], "tags": [None]}, ("row 3: `tags` has tag 1 that is missing",)),
        ({"words": ["Ada"], "tags": ["B-city"]}, ("the tag 'B-city' (1 words) is not one of the model's", "task.labels")),
    ],
)
def test_rows_that_cannot_be_used_are_named(row: dict[str, Any], words: tuple[str, ...], cli: Any, tmp_path: Path) -> None:
    written(tmp_path, [*GOOD, row])
    assert_refused(cli("compress", "recipe.yaml", "--quiet"), EXIT_INPUT, words)
    assert_nothing_left(tmp_path)


def test_a_column_that_is_not_there_is_named(cli: Any, tmp_path: Path) -> None:
    written(tmp_path, [{"text": "Ada lived", "tags": ["O", "O"]}])
    assert_refused(cli("compress", "recipe.yaml", "--quiet"), EXIT_INPUT, ("row 1: has `tags`, but no `words`",))
    written(tmp_path, [{"sentence": "Ada lived"}])
    assert_refused(
        cli("compress", "recipe.yaml", "--quiet"),
        EXIT_INPUT,
        ("no column `words`; it has `sentence`", "columns: {words: NAME}"),
    )


def test_names_that_data_sets_often_give_the_columns_need_no_entry(cli: Any, tmp_path: Path) -> None:
    rows = [{"tokens": row["words"], "ner_tags": [LABELS.index(tag) for tag in row["tags"]]} for row in GOOD]
    written(tmp_path, rows)
    done = cli("compress", "recipe.yaml", "--json")
    assert done.code in (0, 1), done.err
    assert json.loads(done.out)


def test_labels_of_a_model_that_are_no_tags_are_refused_by_validate(cli: Any, tmp_path: Path) -> None:
    written(tmp_path, GOOD, labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    refused = cli("validate", "recipe.yaml")
    assert refused.code == EXIT_INPUT
    assert "task.labels" in refused.err and "'LABEL_0' is not of the BIO scheme" in refused.err
    written(tmp_path, GOOD, labels=("LABEL_0", "LABEL_1", "LABEL_2"), task={**RECIPE["task"], "labels": list(LABELS)})
    assert cli("validate", "recipe.yaml").code == 0


def test_a_gate_on_a_metric_of_another_task_is_refused_by_validate(cli: Any, tmp_path: Path) -> None:
    written(tmp_path, GOOD, gates=[{"metric": "accuracy", "min_ratio": 0.9}])
    refused = cli("validate", "recipe.yaml")
    assert refused.code == EXIT_INPUT
    assert "token-classification has no metric `accuracy`" in refused.err and "entity_f1" in refused.err


def test_a_model_for_another_task_is_refused_by_validate(cli: Any, tmp_path: Path) -> None:
    written(tmp_path, GOOD, task="text-classification", gates=[])
    refused = cli("validate", "recipe.yaml")
    assert refused.code == EXIT_INPUT
    assert "BertForTokenClassification" in refused.err


def test_a_sentence_of_600_words_is_read_in_windows_and_said_to_be(cli: Any, tmp_path: Path) -> None:
    long = {"words": ["Ada"] * 600, "tags": ["B-person"] * 600}
    written(tmp_path, [*GOOD, long])
    done = cli("compress", "recipe.yaml")
    assert done.code in (0, 1), done.err
    assert "data.eval: the longest row has 600 words, and an input 16 tokens" in done.err
    answers = cli("run", "runs/recipe/bundle", "--json", " ".join(["Ada"] * 600))
    assert answers.code == 0, answers.err


def test_init_writes_a_recipe_of_the_models_task(cli: Any, tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    text = recipe_text(tmp_path / "model", out=tmp_path / "mine.yaml", evaluation=tmp_path / "eval.jsonl")
    assert "name: token-classification" in text and "words: words, tags: tags" in text
    assert "{metric: entity_f1, min_ratio: 0.99}" in text
    (tmp_path / "mine.yaml").write_text(text.replace("train.csv", "eval.jsonl"))
    checked = cli("validate", "mine.yaml")
    assert checked.code == 0, checked.err


def test_a_wrong_recipe_without_gates_has_its_own_fault_alone(cli: Any, tmp_path: Path) -> None:
    written(tmp_path, GOOD, stages=[{"quantize": {"method": "dinamic"}}])
    refused = cli("validate", "recipe.yaml")
    assert "1 problem" in refused.err and "Did you mean `dynamic`?" in refused.err
    written(tmp_path, GOOD, task="token-clasification")
    assert "1 problem" in cli("validate", "recipe.yaml").err


def test_without_gates_the_tasks_first_metric_has_one(tmp_path: Path) -> None:
    recipe = load_recipe(str(written(tmp_path, GOOD) / "recipe.yaml")).recipe
    assert [str(gate) for gate in recipe.gates] == ["entity_f1 >= 0.99 of FP32"]
