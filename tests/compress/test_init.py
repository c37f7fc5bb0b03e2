"""init: a recipe with the columns, labels and lengths that the data files have, which validates as it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result

from edgebert.compress import init
from edgebert.compress.init import recipe_text
from edgebert.compress.proposal import propose
from edgebert.compress.recipe_file import load_recipe
from edgebert.errors import DataError, EnvironmentFault
from edgebert.tasks import get_task

TASK = get_task("text-classification")
ROWS = [("a very good film indeed", "good"), ("bad", "bad"), ("it was fine by me", "good"), ("meh, and too long", "bad")]


def table(folder: Path, name: str, header: str, separator: str = ",") -> Path:
    """A file with an id, the texts and the labels of ROWS."""
    lines = [f"{number}{separator}{text.replace(',', '')}{separator}{label}" for number, (text, label) in enumerate(ROWS)]
    (folder / name).write_text("\n".join([header, *lines, ""]))
    return folder / name


@pytest.mark.parametrize(
    ("name", "header", "columns", "guessed"),
    [
        ("a.csv", "id,text,label", {"text": "text", "label": "label"}, ()),
        ("a.csv", "id,sentence,label", {"text": "sentence", "label": "label"}, ("text",)),
        ("a.csv", "id,Review Text,Class", {"text": "Review Text", "label": "Class"}, ("text", "label")),
        ("a.csv", "1,2,3", {"text": "2", "label": "3"}, ("text", "label")),
        ("a.csv", "no,yes,y", {"text": "yes", "label": "y"}, ("text", "label")),
        ("a.csv", 'id,"a, b",x: y', {"text": "a, b", "label": "x: y"}, ("text", "label")),
        ("a.tsv", "id\ttext\tsentiment", {"text": "text", "label": "sentiment"}, ("label",)),
    ],
)
def test_columns_are_found_by_name_or_guessed_and_read_back_as_they_are(
    name: str, header: str, columns: dict[str, str], guessed: tuple[str, ...], tmp_path: Path, model_dir: Path, cli: Any
) -> None:
    file = table(tmp_path, name, header, "\t" if name.endswith("tsv") else ",")
    proposal = propose(file, "train", TASK)
    assert (proposal.columns, proposal.guessed) == (columns, guessed)
    evaluation = tmp_path / f"eval-{name}"
    evaluation.write_text(file.read_text() + file.read_text().splitlines()[1] + "\n")
    (tmp_path / "new.yaml").write_text(recipe_text(model_dir, out=tmp_path / "new.yaml", train=file, evaluation=evaluation))
    recipe = load_recipe(str(tmp_path / "new.yaml")).recipe
    assert recipe.data.train is not None and recipe.data.train.columns == columns == recipe.data.eval.columns


def test_columns_that_nothing_tells_are_named_for_the_user(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "t.csv").write_text("when,what\n2020,a text\n2021,another\n2022,the third\n")
    text = recipe_text(model_dir, out=tmp_path / "new.yaml", train=tmp_path / "t.csv")
    assert "columns: {text: what, label: label}   # EDIT: label; the file has when, what" in text


def test_labels_and_length_are_those_of_the_data(
    tmp_path: Path, encoder_template: Path, model_dir: Path, cli: Callable[..., Result]
) -> None:
    train, evaluation = table(tmp_path, "t.csv", "id,text,label"), tmp_path / "e.csv"
    evaluation.write_text("text,label\nso good,good\nso bad,bad\n")
    made = cli("init", encoder_template, "--train", "t.csv", "--eval", "e.csv", "--out", "new.yaml")
    assert made.code == 0 and "Next: edgebert plan new.yaml" in made.out
    recipe = load_recipe("new.yaml").recipe
    assert (recipe.task.labels, recipe.task.max_length) == (("bad", "good"), 16)
    assert cli("validate", "new.yaml").code == 0
    train.write_text("text,label\n" + "a fine film indeed,1\n" * 20 + "x " * 30 + ",10\n" + "x,9\n")
    text = recipe_text(encoder_template, out=tmp_path / "new.yaml", train=train)
    assert 'labels: ["1", "9", "10"]' in text and "max_length: 32 " in text
    assert 'labels: ["negative", "positive"]   # in the order of the model' in recipe_text(
        model_dir, out=tmp_path / "new.yaml", train=train
    )


def test_labels_of_a_file_that_was_not_read_to_its_end_are_left_out(
    tmp_path: Path, encoder_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgebert.compress.proposal.MOST", 3)
    text = recipe_text(encoder_template, out=tmp_path / "new.yaml", train=table(tmp_path, "t.csv", "id,text,label"))
    assert "labels:" not in text and "max_length: 16 " in text


def test_no_length_is_beyond_what_the_model_takes(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "film " * 500 + ",a\nx,b\n" * 1)
    text = recipe_text(model_dir, out=tmp_path / "new.yaml", train=tmp_path / "t.csv")
    assert "max_length: 64 " in text and "the model allows 64" in text


def test_words_and_tags_are_found_by_the_names_that_data_sets_give_them(tmp_path: Path) -> None:
    rows = [{"tokens": ["Ada", "ran"], "ner_tags": ["B-x", "O"]}, {"tokens": ["so"], "ner_tags": ["O"]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    proposal = propose(tmp_path / "t.jsonl", "train", get_task("token-classification"))
    assert (proposal.columns, proposal.absent) == ({"words": "tokens", "tags": "ner_tags"}, ())


def test_a_model_may_be_in_a_package_or_on_the_hub(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_models").mkdir()
    (tmp_path / "some_models" / "__init__.py").write_text("")
    model_dir.rename(tmp_path / "some_models" / "tiny")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "\nmodel: package://some_models/tiny\n" in recipe_text("package://some_models/tiny", out=tmp_path / "new.yaml")
    snapshot = tmp_path / "snapshots" / "abc123"
    snapshot.parent.mkdir()
    (tmp_path / "some_models" / "tiny").rename(snapshot)
    monkeypatch.setattr("edgebert.models.source._from_hub", lambda source: snapshot)
    assert "\nmodel: {source: org/name, revision: abc123}\n" in recipe_text("org/name", out=tmp_path / "new.yaml")


def test_a_model_that_is_nowhere_is_said_to_be_without_a_hint_at_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EnvironmentFault, match="`nowhere` is not a folder here") as caught:
        recipe_text("nowhere", out=tmp_path / "new.yaml")
    assert "--set" not in str(caught.value)


def test_rows_that_cannot_be_used_are_refused_before_a_recipe_is_written(tmp_path: Path, model_dir: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\na,b\n,c\n")
    with pytest.raises(DataError, match="row 2: `text` is empty"):
        recipe_text(model_dir, out=tmp_path / "new.yaml", train=tmp_path / "t.csv")


def test_a_vocabulary_of_many_languages_is_offered_to_be_cut(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "languages" not in recipe_text(model_dir, out=tmp_path / "new.yaml")
    monkeypatch.setattr(init, "MULTILINGUAL", 10)
    text = recipe_text(model_dir, out=tmp_path / "new.yaml")
    assert text.index("# - prune: {vocabulary: {languages: [en, de]}}") < text.index("  - export")
