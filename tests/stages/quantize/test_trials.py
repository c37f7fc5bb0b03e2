"""Trials of a search: their rows, their gates, and the failure of answers that are no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stage_runs import make_bench

from edgebert.compress.compression import Compression
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.runtimes.target import Target
from edgebert.stages.quantize.trials import MeasuredTrials

TARGET = Target(runtime="onnxruntime")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """A recipe whose store keeps the FP32 graph for all tests."""
    return make_bench(tmp_path_factory.mktemp("trials"), model_template) / "recipe.yaml"


def trials_of(recipe: Path, gates: str) -> MeasuredTrials:
    overrides = [f"gates={gates}", "stages=[{quantize: {method: auto}}]"]
    resolved = resolve_recipe(load_recipe(str(recipe), overrides))
    compression = Compression(resolved, ArtifactStore(recipe.parent / "store"), Silent())
    compression.store.prepare()
    return compression._trials(TARGET, compression.base)


@pytest.mark.slow
def test_a_model_that_answers_like_fp32_holds_the_gates(recipe: Path) -> None:
    trials = trials_of(recipe, "[{metric: agreement, min: 1.0}, {metric: size_mb, max: 0.001}]")
    found = trials.score(trials.reference().file, TARGET)
    assert found.failures == ()  # what is not decided by answers is not asked
    assert found.metrics["agreement"] == 1.0
    assert found.score == found.metrics["accuracy"] == trials.baseline().score
    assert len(trials.score(trials.reference().file, TARGET, rows=5).outputs) == 5


@pytest.mark.slow
def test_answers_that_are_no_numbers_fail_every_gate_and_end_nothing(recipe: Path) -> None:
    trials = trials_of(recipe, "[{metric: accuracy, min: 0.0}, {metric: agreement, min: 0.0}]")
    outputs = [dict(output) for output in trials.fp32]
    outputs[3] = {"logits": np.array([np.nan, 0.0])}
    found = trials.judged(outputs, trials._fp32_encoded, len(outputs))
    assert len(found.failures) == 2 and "NaN" in found.failures[0]
    assert found.score == -np.inf


def test_where_no_gate_is_on_answers_99_percent_of_fp32_is_asked(recipe: Path) -> None:
    assert [str(gate) for gate in trials_of(recipe, "[{metric: size_mb, max: 30}]").asked] == ["accuracy >= 0.99 of FP32"]


@pytest.mark.parametrize(
    ("gates", "allowed"),
    [
        ("[{metric: accuracy, max_drop: 0.003}, {metric: accuracy, max_drop: 0.02}]", lambda fp32: 0.003),
        ("[{metric: accuracy, min_ratio: 0.995}]", lambda fp32: fp32 * 0.005),
        ("[{metric: accuracy, min: 0.0}]", lambda fp32: fp32),
        ("[{metric: accuracy, min: 1.0}]", lambda fp32: max(0.0, fp32 - 1.0)),
        ("[{metric: agreement, min: 0.9}]", lambda fp32: 0.01),
    ],
)
def test_methods_that_score_may_lose_what_the_tightest_gate_allows(recipe: Path, gates: str, allowed: object) -> None:
    trials = trials_of(recipe, gates)
    assert callable(allowed)
    assert trials.allowed_drop == pytest.approx(allowed(trials.baseline().score))


def test_rows_come_in_a_seeded_order_for_a_file_may_be_sorted(recipe: Path) -> None:
    trials = trials_of(recipe, "[]")
    in_file = list(trials.data.rows())
    assert trials.rows != in_file
    assert sorted(row["text"] for row in trials.rows) == sorted(row["text"] for row in in_file)
    assert trials.rows == trials_of(recipe, "[]").rows
