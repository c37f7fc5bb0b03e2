"""A quantisation method is one file and one line: a fake one goes through everything, in processes that have that line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_method
import jsonschema
import pytest
from conftest import write_recipe
from plugged_fakes import Run, command_line

EXPLICIT = ("--set", "stages.quantize={method: [dynamic, timid], courage: low, per_channel: false}")
AUTO = ("--set", "stages=[{quantize: {method: auto}}]")


@pytest.fixture
def run(tmp_path: Path, model_template: Path) -> Run:
    """The command line where the method is registered, beside recipe.yaml."""
    write_recipe(tmp_path, model_template)
    return command_line(tmp_path, *fake_method.lines())


def report_of(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def test_its_fields_are_read_checked_and_described(run: Run, tmp_path: Path) -> None:
    run("validate", "recipe.yaml", *EXPLICIT)
    wrong = run("validate", "recipe.yaml", "--set", "stages.quantize={method: timid, courage: lou, ranges: mse}", code=2)
    assert "stages.1.quantize.courage" in wrong.stderr and "`low`" in wrong.stderr
    idle = run("validate", "recipe.yaml", "--set", "stages.quantize={method: static, courage: low}", code=2)
    assert "courage is a parameter of the method timid; drop it" in idle.stderr
    schema = json.loads(run("schema").stdout)
    validator = jsonschema.Draft202012Validator({**schema["$defs"]["Quantize"], "$defs": schema["$defs"]})
    assert validator.is_valid({"method": "timid", "courage": "low"})
    assert validator.is_valid({"method": ["dynamic", "timid"], "courage": "low"})
    assert not validator.is_valid({"method": "dynamic", "courage": "low"})
    planned = run("plan", "recipe.yaml", *EXPLICIT).stdout
    assert "int8-timid-tensor-low" in planned


@pytest.mark.slow
def test_it_is_compressed_with_measured_bundled_and_compared(run: Run, tmp_path: Path) -> None:
    run("compress", "recipe.yaml", *EXPLICIT, "--out", "made")
    (timid,) = [entry for entry in report_of(tmp_path / "made")["entries"] if "timid" in entry["name"]]
    assert timid["name"] == "onnxruntime/int8-timid-tensor-low" and timid["coverage"]["float_products"]
    run("verify", "made/bundle")
    run("run", "made/bundle", "a good film", "--variant", timid["name"])
    run("bench", "made/bundle", "--variant", timid["name"], "--rounds", "1", "--queries", "4", "--out", "bench.json", "-q")
    run("compare", "made", "made")
    run("report", "made", "--out", "page.html")
    assert "int8-timid" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_auto_tries_it_as_it_says(run: Run, tmp_path: Path) -> None:
    run("compress", "recipe.yaml", *AUTO, "--out", "made")
    (found,) = [entry["search"] for entry in report_of(tmp_path / "made")["entries"] if entry.get("search")]
    tried = [trial["what"] for trial in found["trials"]]
    assert {"method dynamic", "method timid", "method timid low"} <= set(tried)
