"""Multi-label classification: answers are raw Transformers', thresholds, label sets of files, goldens, one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from tiny_families import tiny_folder

from edgebert.bundle.golden_answers import compare_goldens
from edgebert.bundle.read import read_bundle
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.run import compress
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.column_kinds import KINDS
from edgebert.errors import DataError
from edgebert.measure.predictions import statistics_of
from edgebert.models.load import load_model, run_model
from edgebert.report.file import read_report
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task
from edgebert.tasks.answers import Detail
from edgebert.tasks.base import collate
from edgebert.tasks.thresholds import best_thresholds

NAME = "multi-label-classification"
LABELS = ("joy", "fear", "anger")
TEXTS = ["so good", "", "wait what", "😀 grüß 世界", "long " * 3000, "a\ttab"]


def decoded(logits: Any, **options: Any) -> Any:
    """The prediction for one row of logits."""
    task = get_task(NAME, options or None)
    return task.decode([{"logits": np.array(logits, dtype=np.float32)}], [], [], LABELS)[0]


def test_predictions_are_those_of_transformers_with_a_sigmoid(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    task = get_task(NAME)
    tiny_folder("bert", task.architecture, tmp_path, labels=LABELS)
    model = load_model(tmp_path, task)
    serving = Serving(task, LABELS, 64, model.config.pad_token_id, tmp_path / "tokenizer.json")
    rows = [{"text": text} for text in TEXTS]
    encoded = serving.encode(serving.open_tokenizer(), rows)
    for row, item in zip(rows, encoded, strict=True):
        theirs = AutoTokenizer.from_pretrained(tmp_path)(
            row["text"].replace("\t", " "), truncation=True, max_length=64, return_tensors="pt"
        )
        assert theirs["input_ids"][0].tolist() == list(item.ids)
        with torch.no_grad():
            wanted = model(**theirs).logits.sigmoid()[0]
            batch = collate([item], length=len(item), pad_id=serving.pad_id)
            ours = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})
        (found,) = task.decode([{"logits": ours["logits"][0].numpy()}], [item], [row], LABELS)
        assert found["probabilities"] == pytest.approx(wanted.tolist(), abs=1e-6)
        assert found["labels"] == [label for label, share in zip(LABELS, wanted.tolist(), strict=True) if share >= 0.5]


def test_thresholds_are_of_all_labels_or_of_each() -> None:
    assert decoded([0.0, -0.1, 2.0])["labels"] == ["joy", "anger"]
    assert decoded([0.0, -0.1, 2.0], thresholds=0.4)["labels"] == [*LABELS]
    assert decoded([0.0, -0.1, 2.0], thresholds=[0.6, 0.4, 0.99])["labels"] == ["fear"]
    assert decoded([-1000, 1000, -1000]) == {"labels": ["fear"], "probabilities": [0.0, 1.0, 0.0]}
    for bad in (0.0, 1.0, [0.5], [0.5, 2.0], "half"):
        with pytest.raises(ValidationError):
            get_task(NAME).options_type.model_validate_json(json.dumps({"thresholds": bad}))
    with pytest.raises(ValueError, match=r"3 names, but task\.thresholds 2 numbers"):
        get_task(NAME, {"thresholds": [0.5, 0.6]}).check_model_labels(LABELS)


def test_answers_hold_the_labels_above_their_thresholds_and_as_many_probabilities_as_asked() -> None:
    task, outputs = get_task(NAME), [{"logits": np.array([1.0, 3.0, -2.0], dtype=np.float32)}]
    plain, first = (task.answer(outputs, [], [], LABELS, detail)[0] for detail in (Detail(), Detail(top_k=1, logits=True)))
    assert plain.as_json()["labels"] == ["fear", "joy"] and list(plain.as_json()["probabilities"]) == ["fear", "joy", "anger"]
    assert plain.cells() == ("fear 0.9526, joy 0.7311",)
    assert list(first.as_json()["probabilities"]) == ["fear"] and first.as_json()["logits"]["anger"] == -2.0
    nothing = task.answer([{"logits": np.full(3, -5.0)}], [], [], LABELS)[0]
    assert nothing.as_json()["labels"] == [] and nothing.cells() == ("-",)


def test_a_model_agrees_where_the_labels_are_the_same_whatever_the_probabilities() -> None:
    task = get_task(NAME)
    assert task.agrees(decoded([1, -1, -1]), decoded([3, -2, -1])) and not task.agrees(
        decoded([1, -1, -1]), decoded([1, 1, -1])
    )


def test_metrics_are_scikit_learns_where_rows_have_no_label() -> None:
    from sklearn.metrics import f1_score, roc_auc_score

    task, generator = get_task(NAME), np.random.default_rng(0)
    right = generator.random((60, 3)) < 0.3
    logits = (generator.normal(size=(60, 3)) + right).round(1)
    predictions = [decoded(row) for row in logits]
    indices = {label: index for index, label in enumerate(LABELS)}
    references = [
        task.reference({"labels": [label for label, has in zip(LABELS, row, strict=True) if has]}, indices, LABELS)
        for row in right
    ]
    values = {name: item.value() for name, item in statistics_of(task, predictions, references, LABELS).items()}
    assert list(values) == ["micro_f1", "macro_f1", "roc_auc"] and not right.any(axis=1).all()
    assert values["micro_f1"] == pytest.approx(f1_score(right, logits >= 0, average="micro"))
    assert values["macro_f1"] == pytest.approx(f1_score(right, logits >= 0, average="macro"))
    assert values["roc_auc"] == pytest.approx(roc_auc_score(right, logits, average="macro"))


@given(
    hnp.arrays(np.float64, st.integers(1, 25), elements=st.integers(0, 10).map(lambda value: value / 10)),
    st.lists(st.booleans(), min_size=25, max_size=25),
)
def test_the_best_threshold_is_the_best_of_all(scores: Any, flags: list[bool]) -> None:
    from sklearn.metrics import f1_score

    right = np.array(flags[: len(scores)])
    (threshold,) = best_thresholds(scores[:, None], right[:, None])
    assert 0 < threshold < 1
    if right.any() and not right.all():
        tried = [f1_score(right, scores >= cut, zero_division=0) for cut in np.linspace(0.025, 0.975, 39)]
        assert f1_score(right, scores >= threshold, zero_division=0) >= max(tried) - 1e-12
    else:
        assert threshold == 0.5


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (["joy", 2], ["joy", "2"]),
        ([], []),
        ('["joy", "a|b"]', ["joy", "a|b"]),
        ("[]", []),
        ([0.0, 1.0, 1.0], ["1", "2"]),
        ([False, False], []),
        ({"joy": 1, "fear": "0", "anger": "True"}, ["joy", "anger"]),
    ],
)
def test_label_sets_are_read_as_lists_or_one_number_for_each_label(value: Any, wanted: list[str]) -> None:
    assert KINDS["labels"].read(value) == wanted


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("joy|fear", r'not a list of labels: write it as JSON, \["joy", "fear"\]'),
        ([0, 1, 0], "'0' twice: as one 0 or 1 for each label, write them 0.0 and 1.0"),
        (["joy", "joy"], "'joy' twice"),
        ({"joy": 2}, "'2' for the label 'joy', not 0 or 1"),
        ({"joy": None}, "not 0 or 1"),
        (None, "is missing"),
        ("", "is not a list"),
        (["joy", None], "tag 2 that is missing"),
    ],
)
def test_what_is_no_set_of_labels_is_refused(value: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        KINDS["labels"].read(value)


def test_goldens_hold_while_no_probability_moves() -> None:
    task, golden = get_task(NAME), {"logits": [[9.0, -0.2, -9.0]]}
    for logits, same in (([9.1, -0.21, -9.1], True), ([9.0, 0.2, -9.0], False), ([5.0, -0.2, -9.0], False)):
        answers = [{"logits": np.array(logits)}]
        assert compare_goldens(answers, golden, task, 0.02).within(0.02) == same


def write_rows(folder: Path) -> None:
    """train.csv with label columns, and eval and select with lists."""
    words = {"joy": "glad happy", "fear": "afraid dark", "anger": "mad hate"}
    sets = [[label for index, label in enumerate(LABELS) if number >> index & 1] for number in range(8)]
    rows = [{"text": " ".join(words[label] for label in chosen) or "plain", "labels": chosen} for chosen in sets]
    lines = [",".join([f'"{row["text"]}"', *(str(int(label in row["labels"])) for label in LABELS)]) for row in rows * 4]
    (folder / "train.csv").write_text("\n".join([f"text,{','.join(LABELS)}", *lines]) + "\n")
    for name, part in (("eval", rows * 2), ("select", rows * 3)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


@pytest.mark.slow
def test_a_run_tunes_thresholds_on_select_and_the_bundle_serves_with_them(tmp_path: Path) -> None:
    import edgebert

    tiny_folder("bert", "ForSequenceClassification", tmp_path / "model", labels=LABELS)
    write_rows(tmp_path)
    recipe: dict[str, Any] = {
        "model": "model",
        "task": {"name": NAME, "max_length": 16},
        "data": {"eval": "eval.jsonl", "select": "select.jsonl", "train": {"path": "train.csv", "label_columns": [*LABELS]}},
        "stages": [{"finetune": {"epochs": 1}}, "export"],
        "targets": [{"runtime": "onnxruntime", "threads": 1}],
        "metrics": ["own.py:wrong"],
        "gates": [{"metric": "micro_f1", "min": 0.0}, {"metric": "own.py:wrong", "max": 3.0}],
        "measure": {"rounds": 1, "queries": 4, "warmup": 1, "golden_inputs": 2},
    }
    (tmp_path / "own.py").write_text(
        "def wrong(predictions, references, labels):\n"
        "    pairs = zip(predictions, references)\n"
        "    return [float(len({*one['labels']} ^ {*other['labels']})) for one, other in pairs]\n"
        "wrong.less_is_better = True\n"
    )
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = compress(
        load_recipe(str(tmp_path / "recipe.yaml")), store=ArtifactStore(tmp_path / "s"), out=tmp_path / "run", progress=Silent()
    )
    (tmp_path / "own.py").unlink()  # reports and bundles are read without the function
    report = read_report(tmp_path / "run" / "report.json")
    assert report.task_metrics[-1] == "own.py:wrong" and report.less_is_better == ("own.py:wrong",)
    value = report.value(report.entries[0], "own.py:wrong")
    assert value is not None and 0 <= value <= 3 and "| wrong |" in (run.bundle / "README.md").read_text()
    (finding,) = edgebert.compare(tmp_path / "run", metrics=["own.py:wrong"]).pairs[0].findings
    assert finding.verdict == "equivalent" and finding.ref == value
    thresholds = read_bundle(run.bundle).task_options["thresholds"]
    assert len(thresholds) == 3 and all(0 < value < 1 for value in thresholds) and thresholds != [0.5] * 3
    assert json.loads((run.bundle / "config.json").read_text())["problem_type"] == "multi_label_classification"
    (answer,) = [item.as_json() for item in edgebert.load(run.bundle).predict(["glad happy mad"])]
    enough = {label for label, least in zip(LABELS, thresholds, strict=True) if answer["probabilities"][label] >= least}
    assert {*answer["labels"]} == enough
    assert run.report.selection is not None and run.report.selection.source == "data.select"
    assert "thresholds" in (run.bundle / "README.md").read_text()


def test_columns_of_labels_are_refused_where_they_cannot_be_meant(tmp_path: Path) -> None:
    from edgebert.data.first_rows import first_rows
    from edgebert.data.spec import DataSpec

    write_rows(tmp_path)
    for task, columns, fault in (
        ("text-classification", ("joy",), "has no sets of labels"),
        (NAME, ("joy", "love"), "has no column `love`"),
    ):
        with pytest.raises(DataError, match=fault):
            first_rows(DataSpec(path="train.csv", label_columns=columns), "train", base=tmp_path, task=get_task(task))
    found = first_rows(DataSpec(path="train.csv", label_columns=LABELS), "train", base=tmp_path, task=get_task(NAME))
    assert found.labels == {"anger": 16, "fear": 16, "joy": 16} and found.rows[0]["labels"] == []


def test_numbers_of_labels_with_a_point_are_not_taken_for_flags() -> None:
    read = KINDS["labels"].read
    assert read([0.0, 1.0, 1.0]) == ["1", "2"] and read([1, 3]) == ["1", "3"] and read([True, False]) == ["0"]
    for value in ([1.0], [3.0], [0.0, 3.0], [True]):
        with pytest.raises(ValueError, match="numbers of labels without a point"):
            read(value)
