"""Metrics of the user's own: loaded, checked, named where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from edgebert.errors import InputError
from edgebert.measure.predictions import statistics_of
from edgebert.report.gates import Gate
from edgebert.report.metric_table import metric_named
from edgebert.tasks import get_task
from edgebert.tasks.metrics.own import own_metric

CODE = """
import numpy as np

def hits(predictions, references, labels):
    return np.array([[one == other, 1] for one, other in zip(predictions, references)], dtype=float)
hits.reduction = "ratio"

def costs(predictions, references, labels):
    return [2.0 if one != other else 0.0 for one, other in zip(predictions, references)]
costs.less_is_better = True

def short(predictions, references, labels):
    return [1.0]

def wide(predictions, references, labels):
    return np.ones((len(references), 3))

def unknown(predictions, references, labels):
    return [float("nan")] * len(references)

def words(predictions, references, labels):
    return ["many"] * len(references)

def fails(predictions, references, labels):
    raise RuntimeError("no luck")

def odd(predictions, references, labels):
    return []
odd.reduction = "median"

def listed(predictions, references, labels):
    return []
listed.reduction = ["mean"]

def halves(predictions, references, labels):
    return np.full((len(references), 2), 0.5)
halves.reduction = "macro_f1"

def below(predictions, references, labels):
    return -np.ones((len(references), 2))
below.reduction = "macro_f1"

def leaves(predictions, references, labels):
    raise SystemExit(0)
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with own.py, and a file that fails."""
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import no_such_package")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)")
    return tmp_path


def test_a_function_is_a_metric_beside_the_tasks_own(folder: Path) -> None:
    task = get_task("text-classification")
    with_own = task.with_metrics(tuple(own_metric(f"own.py:{name}", folder) for name in ("hits", "costs")))
    found = statistics_of(with_own, ["a", "b", "a"], ["a", "a", "a"], ["a", "b"])
    assert [*found] == ["accuracy", "macro_f1", "own.py:hits", "own.py:costs"]
    assert found["own.py:hits"].value() == found["accuracy"].value() and found["own.py:costs"].value() == pytest.approx(2 / 3)
    assert with_own == task and with_own.key == task.key and [metric.name for metric in task.metrics] == [*found][:2]
    assert with_own.metrics[-1].less_is_better and metric_named("own.py:costs").title == "costs"
    multi = get_task("multi-label-classification").with_metrics(with_own.own_metrics)
    assert multi.configured({"thresholds": 0.4}).own_metrics == with_own.own_metrics


def test_a_function_of_an_installed_package_is_found() -> None:
    metric = own_metric("operator:itemgetter", Path())
    assert (metric.name, metric.title, metric.reduction) == ("operator:itemgetter", "itemgetter", "mean")


def test_the_source_changes_with_the_file(folder: Path) -> None:
    before = own_metric("own.py:hits", folder).source
    (folder / "own.py").write_text(CODE + "\n# changed\n")
    assert before and own_metric("own.py:hits", folder).source != before


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("none.py:hits", "there is no file"),
        ("no_such_package:hits", "cannot be imported: ModuleNotFoundError"),
        ("broken.py:hits", "no_such_package"),
        ("own.py:none", "own.py has no function none"),
        ("own.py:number", "no function number"),
        ("own.py:odd", "reduction 'median'"),
        ("own.py:listed", r"reduction \['mean'\]"),
        ("leaving.py:hits", "cannot be imported: SystemExit: 0"),
    ],
)
def test_what_is_no_function_is_named(folder: Path, name: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        own_metric(name, folder)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("short", r"shape \(1,\)"),
        ("wide", r"shape \(2, 3\)"),
        ("unknown", "no finite numbers"),
        ("words", "failed: ValueError"),
        ("fails", "failed: RuntimeError: no luck"),
        ("leaves", "failed: SystemExit: 0"),
        ("halves", "number no labels"),
        ("below", "number no labels"),
    ],
)
def test_what_are_no_statistics_is_named(folder: Path, name: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        own_metric(f"own.py:{name}", folder).statistics(["a", "b"], ["a", "a"], ["a", "b"])


def test_a_gate_takes_the_name_of_a_function_and_no_other_unknown_one() -> None:
    assert str(Gate.model_validate({"metric": "own.py:hits", "min_ratio": 0.9})) == "own.py:hits >= 0.9 of FP32"
    with pytest.raises(ValidationError, match="Input should be 'accuracy' or"):
        Gate.model_validate({"metric": "hits", "min": 0.9})
