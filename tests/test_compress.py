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
