"""compress, from a recipe to a bundle, on a tiny real BERT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def run_record(folder: Path) -> Any:
    return json.loads((folder / "runs" / "recipe" / "run.json").read_text())


def test_compress_writes_a_bundle_and_a_verdict(cli: Any, recipe: Path, tmp_path: Path) -> None:
    result = cli("compress", recipe)
    assert result.code == 0, result.err
    assert "PASSED: onnxruntime/int8-dynamic" in result.out
    bundle = tmp_path / "runs" / "recipe" / "bundle"
    assert {"README.md", "config.json", "edgebert.json", "onnx", "report.json", "tokenizer.json"} <= {
        p.name for p in bundle.iterdir()
    }
    assert cli("verify", bundle).code == 0


def test_compress_finds_every_stage_in_the_store_when_it_runs_again(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe).code == 0
    first = run_record(tmp_path)
    assert cli("compress", recipe).code == 0
    second = run_record(tmp_path)
    assert not any(step["found_in_store"] for step in first["steps"])
    assert all(step["found_in_store"] for step in second["steps"])
    assert [step["sha256"] for step in first["steps"]] == [step["sha256"] for step in second["steps"]]


def test_compress_keeps_the_best_and_exits_1_when_a_gate_fails(cli: Any, recipe: Path, tmp_path: Path) -> None:
    result = cli("compress", recipe, "--set", "gates=[{metric: size_mb, max: 0.000001}]")
    assert result.code == 1
    assert "FAILED: onnxruntime/int8-dynamic" in result.out
    assert "missed" in result.out
    assert json.loads((tmp_path / "runs/recipe/bundle/edgebert.json").read_text())["verdict"] == "FAILED"


def test_compress_fails_a_gate_that_was_not_measured(cli: Any, recipe: Path) -> None:
    result = cli("compress", recipe, "--set", "gates=[{metric: p99_ms, max: 1000.0}]")  # 4 queries carry no p99
    assert result.code == 1
    assert "not measured" in result.out


@pytest.mark.parametrize("method", ["static", "nncf"])
def test_compress_runs_each_calibrated_method(cli: Any, recipe: Path, method: str) -> None:
    runtime = "openvino" if method == "nncf" else "onnxruntime"
    result = cli("compress", recipe, "--set", f"stages.quantize.method={method}", "--set", f"targets=[{{runtime: {runtime}}}]")
    assert result.code == 0, result.err
    assert f"PASSED: {runtime}/int8-{method}" in result.out


def test_bundle_does_not_tell_where_it_was_made(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe, "--set", f"model={tmp_path / 'model'}").code == 0
    for file in (tmp_path / "runs/recipe/bundle").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file


def test_run_refuses_a_text_with_more_parts_than_the_task_has(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe).code == 0
    result = cli("run", tmp_path / "runs/recipe/bundle", "one\ttwo\tthree")
    assert result.code == 2
    assert "3 parts" in result.err


def test_plan_ends_as_compress_would_when_a_data_file_is_missing(cli: Any, recipe: Path) -> None:
    arguments = (recipe, "--set", "data.eval.path=nowhere.csv")
    assert cli("plan", *arguments).code == cli("compress", *arguments).code == 2


def test_compress_refuses_to_judge_a_model_on_its_training_rows(cli: Any, recipe: Path) -> None:
    result = cli("compress", recipe, "--set", "data.eval=data/train.csv", "--set", "stages=[finetune, export]")
    assert result.code == 2
    assert "data.train and data.eval hold the same rows" in result.err


def test_gc_keeps_what_a_finished_run_was_made_from_when_its_rerun_failed(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe).code == 0
    assert cli("compress", recipe, "--set", "data.eval.path=nowhere.csv").code == 2
    assert "dropped 0 artifacts" in cli("store", "gc").out
    assert cli("compress", recipe).code == 0
    assert all(step["found_in_store"] for step in run_record(tmp_path)["steps"])


def test_bundle_opens_with_what_a_hub_client_leaves_beside_it(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe).code == 0
    bundle = tmp_path / "runs/recipe/bundle"
    (bundle / ".gitattributes").write_text("*.onnx filter=lfs")
    (bundle / ".cache" / "huggingface").mkdir(parents=True)
    (bundle / ".cache" / "huggingface" / "model.lock").touch()
    assert cli("verify", bundle).code == 0


def test_bundle_names_no_fp32_graph_quantized(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe, "--set", "stages=[export]").code == 0
    assert not (tmp_path / "runs/recipe/bundle/onnx/model_quantized.onnx").exists()
    assert cli("verify", tmp_path / "runs/recipe/bundle").code == 0


def test_run_refuses_a_pair_when_the_model_takes_one_sentence(cli: Any, recipe: Path, tmp_path: Path) -> None:
    assert cli("compress", recipe).code == 0
    result = cli("run", tmp_path / "runs/recipe/bundle", "one\ttwo")
    assert result.code == 2
    assert "Text 1 has text and text_pair, but this model was made for text." in result.err


def test_problems_of_the_layout_carry_their_line(cli: Any, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("  - export\n", ""))
    result = cli("validate", recipe)
    assert result.code == 2
    assert "line 8: stages.0.quantize: needs an ONNX model" in result.err
