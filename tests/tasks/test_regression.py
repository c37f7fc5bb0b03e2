"""Regression: numbers are raw Transformers', of one output or several; what can judge nothing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families import tiny_folder

from edgebert.data.column_kinds import KINDS
from edgebert.measure.predictions import statistics_of
from edgebert.models.folder import inspect_model
from edgebert.models.load import load_model, run_model
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task
from edgebert.tasks.base import collate

THREE = get_task("regression", {"numbers": 3})


@pytest.mark.parametrize("count", [1, 3])
def test_numbers_are_those_of_transformers(count: int, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    task = get_task("regression", {"numbers": count} if count > 1 else None)
    tiny_folder("bert", task.architecture, tmp_path, labels=[f"LABEL_{index}" for index in range(count)])
    model, theirs = load_model(tmp_path, task), AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    serving = Serving(task, (), 32, model.config.pad_token_id, tmp_path / "tokenizer.json")
    for row in ({"text": "a good film"}, {"text": "one 😀", "text_pair": "two " * 500}, {"text": ""}):
        texts = [row["text"], *([row["text_pair"]] if "text_pair" in row else [])]
        (item,) = serving.encode(serving.open_tokenizer(), [row])
        batch = collate([item], length=len(item), pad_id=serving.pad_id)
        encoded = AutoTokenizer.from_pretrained(tmp_path)(*texts, truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            wanted = theirs(**encoded).logits[0].tolist()
            found = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})["logits"]
        outputs = [{"logits": found[0].numpy()}]
        (prediction,) = task.decode(outputs, [item], [row], ())
        assert np.atleast_1d(prediction) == pytest.approx(wanted, rel=1e-5, abs=1e-5) and isinstance(prediction, list) == (
            count > 1
        )
        (answer,) = task.answer(outputs, [item], [row], ())
        assert answer.as_json() == {"score": prediction}
        assert answer.cells() == (" ".join(f"{value:.4f}" for value in np.atleast_1d(prediction)),)
    assert inspect_model(tmp_path).head_fault(task) is None
    other = THREE if count == 1 else get_task("regression")
    assert f"the model has {count} outputs" in str(inspect_model(tmp_path).head_fault(other))


def test_metrics_of_several_numbers_are_means_over_them() -> None:
    from scipy import stats

    generator = np.random.default_rng(0)
    given, right = generator.normal(size=(2, 30, 3)).round(1)
    values = {name: item.value() for name, item in statistics_of(THREE, given.tolist(), right.tolist(), ()).items()}
    pairs = [*zip(given.T, right.T, strict=True)]
    assert values["spearman"] == pytest.approx(np.mean([stats.spearmanr(*pair).statistic for pair in pairs]))
    assert values["pearson"] == pytest.approx(np.mean([stats.pearsonr(*pair).statistic for pair in pairs]))
    assert values["mae"] == pytest.approx(np.abs(given - right).mean())
    assert statistics_of(THREE, [], [], ())["mae"].examples == 0


def test_targets_losses_and_guesses_are_of_all_numbers() -> None:
    assert THREE.targets(None, {"score": [1.0, 2.0, 3.0]}, {}).tolist() == [1, 2, 3]  # type: ignore[arg-type]
    assert np.isnan(THREE.targets(None, {}, {})).tolist() == [True] * 3  # type: ignore[arg-type]
    assert THREE.guesses([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]) == [[1.0, 1.0, 1.0]] * 2
    assert THREE.agrees([1.0, 2.0, 100.0], [1.04, 2.0, 104.0]) and not THREE.agrees([1.0, 2.0, 3.0], [1.0, 2.2, 3.0])
    assert THREE.key != "regression" == get_task("regression").key and THREE.head_rows == 3


@pytest.mark.parametrize(
    ("kind", "value"),
    [("number", "nan"), ("number", float("inf")), ("number", True), ("number", None), ("numbers", [1.0, float("nan")])],
)
def test_what_is_no_number_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"missing|not a number"):
        KINDS[kind].read(value)


def test_rows_and_sets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers, and the task 3"):
        THREE.check_row({"score": [1.0, 2.0]})
    with pytest.raises(ValueError, match="same number in every row: 2, in place 2"):
        THREE.check_rows([[1.0, 2.0, 3.0], [2.0, 2.0, 4.0]])
    with pytest.raises(ValueError, match="same number in every row: 5"):
        get_task("regression").check_rows([5.0, 5.0])
