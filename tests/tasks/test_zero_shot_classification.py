"""Zero-shot classification: scores equal to Transformers' pipeline, outputs found by name, candidates that cannot be used."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_families import tiny_folder
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from edgebert.errors import InputError
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks.answers import Detail
from edgebert.tasks.base import Encoded
from edgebert.tasks.text_classification import PredictedLabel
from edgebert.tasks.zero_shot_classification import ZeroShotClassification

TASK = ZeroShotClassification()
NLI = ("contradiction", "neutral", "entailment")
CANDIDATES = ("food", "films", "the weather")
TEXTS = ("the soup was awful", "a fine film,\tand 東京 too", "not very good: it was an app of 3 out of 10!")


def config_of(labels: tuple[str, ...]) -> dict[str, Any]:
    return {"id2label": {str(index): label for index, label in enumerate(labels)}}


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("labels", [NLI, NLI[::-1]], ids=["entailment last", "entailment first"])
def test_scores_are_those_of_the_pipeline_of_transformers(
    labels: tuple[str, ...], count: int, multi_label: bool, tmp_path: Path
) -> None:
    folder = tiny_folder("bert", "ForSequenceClassification", tmp_path, labels=labels)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    options = {"multi_label": multi_label, "template": "It was about {}!", "candidates": CANDIDATES[:count]}
    task = TASK.configured(options).of_model(config_of(labels))
    serving = Serving(task, (), 64, model.config.pad_token_id, folder / "tokenizer.json")
    rows = [{"text": text} for text in TEXTS]
    encoded = serving.encode(serving.open_tokenizer(), rows)
    with torch.no_grad():
        batches = [serving.batch([item], Target(runtime="onnxruntime")) for item in encoded]
        tensors = [{name: torch.as_tensor(value) for name, value in batch.items()} for batch in batches]
        outputs = [{"logits": model(**batch).logits[0].numpy()} for batch in tensors]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classify = pipeline("zero-shot-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
        wanted = classify(
            [text.replace("\t", " ") for text in TEXTS],
            candidate_labels=list(CANDIDATES[:count]),
            hypothesis_template="It was about {}!",
            multi_label=multi_label,
        )
    for theirs, ours in zip(wanted, task.answer(outputs, encoded, rows, ()), strict=True):
        assert isinstance(ours, PredictedLabel)
        assert ours.probabilities == pytest.approx(dict(zip(theirs["labels"], theirs["scores"], strict=True)), abs=1e-5)
        assert ours.label == theirs["labels"][0]


def test_a_row_of_its_own_candidates_does_not_use_the_bundles() -> None:
    task = TASK.configured({"candidates": CANDIDATES}).of_model(config_of(NLI))
    row, encoded = {"text": "a", "candidates": ("x", "y")}, [Encoded((1,), (0,), 0, part=part) for part in range(2)]
    outputs = [{"logits": np.array([0.0, 9.0, 1.0])}, {"logits": np.array([3.0, 0.0, 2.0])}]
    (found,) = task.answer(outputs, encoded, [row], (), Detail(top_k=1, logits=True))
    assert isinstance(found, PredictedLabel)
    assert (found.label, list(found.probabilities), found.logits) == ("y", ["y"], {"x": 1.0, "y": 2.0})
    assert task.decode(outputs, encoded, [row], ()) == ["y"]
    assert [task.targets(item, {**row, "label": "x"}, {}).tolist() for item in encoded] == [2, 0]


@pytest.mark.parametrize(
    ("labels", "outputs"),
    [
        (NLI, (2, 0)),
        (("entailment", "neutral", "contradiction"), (0, 2)),
        (("ENTAILMENT", "CONTRADICTION", "NEUTRAL"), (0, 1)),  # the pipeline takes the last one, which is neutral here
        (("not_entailment", "entailment"), (1, 0)),
        (("entailment", "not_entailment"), (0, 1)),
    ],
)
def test_outputs_are_found_by_their_names(labels: tuple[str, ...], outputs: tuple[int, int]) -> None:
    task = TASK.of_model(config_of(labels))
    assert (task.options.entailment, task.options.contradiction) == outputs
    assert task.model_fault(config_of(labels), len(labels)) is None and task.of_model(config_of(labels)) == task


def test_a_model_without_entailment_is_refused_unless_the_recipe_says_which_output_it_is() -> None:
    labels = ("negative", "positive")
    assert "none of the model's labels is `entailment` (negative, positive)" in (TASK.model_fault(config_of(labels), 2) or "")
    named = TASK.configured({"entailment": 1})
    assert named.model_fault(config_of(labels), 2) is None and named.of_model(config_of(labels)).options.contradiction == 0
    assert "would be number 3" in (TASK.configured({"entailment": 3}).model_fault(config_of(labels), 2) or "")


@pytest.mark.parametrize(("contradiction", "message"), [(2, "that of entailment"), (9, "not one of the model's 3 outputs")])
def test_a_contradiction_that_the_model_cannot_have_is_refused(contradiction: int, message: str) -> None:
    fault = TASK.configured({"contradiction": contradiction}).model_fault(config_of(NLI), 3)
    assert message in (fault or "") and "task.contradiction" in (fault or "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "has no candidates"),
        ({"text": "a", "candidates": ["x", "x"]}, "names the candidate 'x' twice"),
        ({"text": "a", "candidates": ["x", "y"], "label": "z"}, "the label 'z', which is none of its candidates: x, y"),
    ],
)
def test_a_row_that_nothing_can_be_chosen_for_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASK.check_row(row)
    with pytest.raises(ValueError, match="the same label in every row"):
        TASK.check_rows(["x", "x"])


@pytest.mark.parametrize(
    "options", [{"template": "no place"}, {"template": "{} {}"}, {"candidates": ["a", "a"]}, {"candidates": [" "]}]
)
def test_options_that_make_no_hypotheses_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TASK.configured(options)


def test_a_line_holds_a_text_and_candidates_where_the_bundle_has_none() -> None:
    assert TASK.row_of("a text\tx\ty") == TASK.row_of(("a text", "x", "y")) == {"text": "a text", "candidates": ("x", "y")}
    assert TASK.configured({"candidates": ["x"]}).row_of("a text") == {"text": "a text"}
    for line in ("a text", "a text\tx\tx", "a text\t "):
        with pytest.raises(InputError, match="candidate"):
            TASK.row_of(line)
