"""quantize: auto on a tiny BERT: what it keeps and repairs, what it reports where nothing passes, and that it resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RECIPE, make_model, write_reviews
from safetensors.torch import load_file, save_file

from edgebert.bundle.manifest import BundleManifest
from edgebert.compress.plan import make_plan
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.run import Run, compress
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.measure.latency.turns_worker import Timings
from edgebert.report.search_record import SearchRecord
from edgebert.report.text.search import advice_lines, choice_lines, sensitivity_lines, trial_rows
from edgebert.runtimes.facts import Tunable
from edgebert.runtimes.target import Target
from edgebert.stages import export
from edgebert.stages.quantize import Quantize, trials
from edgebert.stages.quantize.fallback import divergence, fallback_steps
from edgebert.stages.quantize.tuning import tunables_of

AUTO = RECIPE.replace("  - export\n  - quantize: {method: [dynamic]}\n", "  - quantize: {method: auto}\n")
CHANNELS = [3, 17]


@pytest.fixture(scope="module", autouse=True)
def _short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models take few turns, and a graph that was exported with the same weights and rewrites is not exported again."""
    folder, real = tmp_path_factory.mktemp("exports"), export.export_model

    def export_once(model: Any, task: Any, target: Path, *, name: str, rewrites: Sequence[Any] = ()) -> dict[str, Any]:
        digest = hashlib.sha256("+".join(rewrites).encode())
        for parameter in model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        kept = folder / f"{digest.hexdigest()}.onnx"
        if not kept.exists():
            real(model, task, kept, name=name, rewrites=rewrites)
        shutil.copyfile(kept, target)
        return {"export_difference": 0.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "SECONDS", 0.01)
        patch.setattr(export, "export_model", export_once)
        yield


@pytest.fixture
def equally_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is measured: all have the same latency."""
    monkeypatch.setattr(trials, "take_turns", lambda models, *_, **__: Timings(medians=((1.0,),) * len(models)))


def plant(model: Path) -> None:
    """Outliers that change nothing in FP32 and ruin INT8: value channels times 2000, their columns by 2000."""
    weights = load_file(model / "model.safetensors")
    for layer in range(2):
        prefix = f"bert.encoder.layer.{layer}.attention"
        for kind in ("weight", "bias"):
            weights[f"{prefix}.self.value.{kind}"][CHANNELS] *= 2000
        weights[f"{prefix}.output.dense.weight"][:, CHANNELS] /= 2000
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Callable[..., Path]:
    """A folder with recipe.yaml, model/ and data/; with outliers on request."""

    def make(*, planted: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("auto")
        if planted:
            plant(make_model(folder / "model", seed=10))  # both labels among its answers: few random models give them
        else:
            shutil.copytree(model_template, folder / "model")
        write_reviews(folder / "data")
        (folder / "recipe.yaml").write_text(AUTO)
        return folder

    return make


def run(folder: Path, *changes: str) -> Run:
    file = load_recipe(str(folder / "recipe.yaml"), changes)
    return compress(file, store=ArtifactStore(folder / "store"), out=folder / "run", progress=Silent())


def search_of(outcome: Run) -> SearchRecord:
    found = outcome.verdict.best.entry.search
    assert found is not None
    return found


@pytest.fixture(scope="module")
def plain(made: Callable[..., Path]) -> tuple[Path, Run]:
    """The result of auto for a model that needs no repair; with real timings."""
    folder = made()
    return folder, run(folder, "gates=[{metric: agreement, min: 0.5}]")


@pytest.mark.slow
def test_every_method_rewrite_and_setting_was_tried(plain: tuple[Path, Run]) -> None:
    search = search_of(plain[1])
    tried = [trial.what for trial in search.trials]
    for name in ("mask", "scale", "qkv", "first_token", "attention"):
        assert f"rewrite {name}" in tried
    assert {"method dynamic", "method static", "method static qoperator"} <= set(tried)
    assert {"without SkipLayerNormFusion", "without BiasGeluFusion", "denormals as zero", "without an arena"} <= set(tried)
    assert search.passed and not search.repairs and not search.excluded_nodes
    assert search.rows == 24


@pytest.mark.slow
def test_what_was_kept_is_what_was_measured_faster(plain: tuple[Path, Run]) -> None:
    search = search_of(plain[1])
    assert [f"rewrite {name}" for name in search.rewrites] == [t.what for t in search.trials if t.kept and "rewrite" in t.what]
    for trial in search.trials:
        if trial.what.startswith("without"):
            assert trial.kept == (trial.ratio is not None and trial.ratio >= 1.005)


@pytest.mark.slow
def test_the_winner_runs_with_its_settings_in_the_bundle(plain: tuple[Path, Run]) -> None:
    folder, outcome = plain
    manifest = BundleManifest.model_validate_json((folder / "run/bundle/edgebert.json").read_text())
    chosen = manifest.variant("onnxruntime/int8-auto")
    assert chosen is not None and manifest.selected == chosen.name
    assert chosen.target == Target(runtime="onnxruntime").with_tuning(search_of(outcome).tuning)
    assert (folder / "run/bundle/onnx/model_quantized.onnx").is_file()
    card = (folder / "run/bundle/README.md").read_text()
    assert "How onnxruntime/int8-auto was found" in card and "| rewrite qkv |" in card


@pytest.mark.slow
def test_fp32_stays_as_the_runtime_has_it(plain: tuple[Path, Run]) -> None:
    report = plain[1].report
    baseline = next(entry for entry in report.entries if entry.role == "baseline")
    assert baseline.target == Target(runtime="onnxruntime")
    assert report.baseline_of(plain[1].verdict.best.entry) is baseline


@pytest.mark.slow
def test_a_second_run_finds_everything_and_another_gate_searches_again(plain: tuple[Path, Run]) -> None:
    folder, outcome = plain
    again = run(folder, "gates=[{metric: agreement, min: 0.5}]")
    record = json.loads((folder / "run/run.json").read_text())
    assert all(step["found_in_store"] for step in record["steps"])
    assert search_of(again) == search_of(outcome)
    other = load_recipe(str(folder / "recipe.yaml"), ["gates=[{metric: agreement, min: 0.4}]"])
    states = {line.name: line.state for line in make_plan(other, ArtifactStore(folder / "store")).lines}
    assert states["int8-auto-onnxruntime"] == "runs" and states["export-onnx"] == "found"


@pytest.mark.slow
def test_outliers_in_value_channels_are_repaired_and_the_repair_is_named(made: Callable[..., Path], equally_fast: None) -> None:
    repaired = run(made(planted=True), "gates=[{metric: agreement, min: 0.9}, {metric: accuracy, min: 0.0}]")
    search = search_of(repaired)
    unrepaired = [trial for trial in search.trials if trial.what.startswith("method ")]
    assert {trial.what for trial in unrepaired} >= {"method dynamic", "method static"}
    assert all("agreement" in trial.note for trial in unrepaired), "each misses the gate"
    assert repaired.verdict.passed and search.repairs[:1] == ("values",)
    assert any("repaired by value channels" in line for line in choice_lines(repaired.verdict.best.entry))


@pytest.mark.slow
def test_where_nothing_passes_the_best_is_kept_and_the_weakest_layers_are_named(
    made: Callable[..., Path], equally_fast: None
) -> None:
    outcome = run(made(), "gates=[{metric: accuracy, min: 1.0}]")
    search = search_of(outcome)
    assert outcome.verdict.status == "FAILED" and not search.passed
    assert 10 <= len(search.sensitivity) <= 18  # by the rewrites and the method, four to eight a layer, and the head's two
    assert sum(layer.weights_share for layer in search.sensitivity) == pytest.approx(1, abs=1e-4)
    ranked = [(layer.lost, layer.divergence) for layer in search.sensitivity]
    assert ranked == sorted(ranked, reverse=True)
    advice = "\n".join(advice_lines(outcome.report, outcome.verdict))
    for layer in search.sensitivity[:3]:
        assert layer.name in advice
    assert "quantization_aware" in advice
    assert any(trial.what.startswith("fallback of 1") for trial in search.trials)
    assert any(trial.what.startswith("repair biases") for trial in search.trials)
    assert sensitivity_lines(search.sensitivity)[0].startswith(search.sensitivity[0].name)
    assert len(trial_rows(search)) == len(search.trials)


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_stopped(
    made: Callable[..., Path], equally_fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = made(), trials.take_turns
    timed: list[list[tuple[Path, Target]]] = []

    def limited(models: Any, *arguments: Any, **options: Any) -> Any:
        if len(timed) == 3:
            raise KeyboardInterrupt
        timed.append(list(models))
        return real(models, *arguments, **options)

    monkeypatch.setattr(trials, "take_turns", limited)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not (folder / "run").exists()
    again: list[list[tuple[Path, Target]]] = []

    def counting(models: Any, *arguments: Any, **options: Any) -> Any:
        again.append(list(models))
        return real(models, *arguments, **options)

    monkeypatch.setattr(trials, "take_turns", counting)
    assert search_of(run(folder)).passed
    assert again and not [models for models in again if models in timed]


@pytest.mark.slow
def test_openvino_gets_a_search_of_its_own(made: Callable[..., Path], equally_fast: None) -> None:
    outcome = run(made(), "targets=[{runtime: openvino}]")
    search = search_of(outcome)
    tried = [trial.what for trial in search.trials]
    assert search.method == "nncf" and "rewrite attention" not in tried
    assert {"buckets of 4 tokens", "buckets of 16 tokens", "bfloat16 beside INT8"} <= set(tried)
    assert outcome.verdict.best.entry.name == "openvino/int8-auto"


def test_settings_that_the_recipe_fixes_are_not_tried() -> None:
    fixed = Target(runtime="openvino", length_bucket=8)
    assert not [setting for setting in tunables_of(fixed) if "bucket" in setting.what]
    assert not [setting for setting in tunables_of(Target(runtime="onnxruntime")) if "threads" in setting.what]
    assert Tunable("2 of 4 threads", {"threads": 2}) in tunables_of(Target(runtime="onnxruntime", threads=4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": ("auto", "dynamic")}, "name it alone"),
        ({"method": "auto", "per_channel": False}, "chooses per_channel itself"),
        ({"method": "auto", "ranges": "mse"}, "chooses ranges itself"),
    ],
)
def test_what_auto_decides_is_not_given(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quantize(**fields)


def test_divergence_is_the_kl_of_the_class_probabilities() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    other = np.log(np.array([[0.25, 0.75], [0.9, 0.1]]))
    assert divergence(logits, logits) == pytest.approx(0)
    assert divergence(logits, other) == pytest.approx(0.5 * (0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)))


def test_at_most_half_of_the_products_fall_back() -> None:
    assert fallback_steps(26) == [1, 2, 3, 5, 8, 12]
    assert fallback_steps(1) == []
