"""A runtime is one file and one line: a fake one goes through everything, in processes that have that line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import copied_runtime
import pytest
from conftest import write_recipe
from plugged_fakes import Run, command_line

TARGETS = "targets=[{runtime: onnxruntime}, {runtime: copied, mood: hasty, threads: 1}]"
QUICK = ("--rounds", "1", "--queries", "4", "-q")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """recipe.yaml, and what it makes for both runtimes in made/."""
    folder = tmp_path_factory.mktemp("copied")
    write_recipe(folder, model_template)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """The command line where the runtime is registered."""
    return command_line(folder, *copied_runtime.lines())


@pytest.fixture(scope="module")
def made(folder: Path, run: Run) -> Path:
    """A run of compress for both runtimes."""
    methods = ("--set", "stages.quantize.method=[dynamic, timid-copied]", "--set", TARGETS)
    run("compress", "recipe.yaml", *methods, "--out", "made")
    return folder / "made"


def entries(file: Path) -> dict[str, Any]:
    return {entry["name"]: entry for entry in json.loads(file.read_text())["entries"]}


def test_its_options_are_read_checked_and_described(run: Run) -> None:
    run("validate", "recipe.yaml", "--set", TARGETS, "--set", "stages=[export]")
    wrong = run("validate", "recipe.yaml", "--set", "targets=[{runtime: copied, mood: clam}]", code=2)
    assert "targets.0.mood" in wrong.stderr and "`calm`" in wrong.stderr
    foreign = run("validate", "recipe.yaml", "--set", "targets=[{runtime: onnxruntime, mood: hasty}]", code=2)
    assert "mood is Copied Runtime's; drop it for another runtime" in foreign.stderr
    fields = json.loads(run("schema").stdout)["$defs"]["Target"]["properties"]
    assert "copied" in fields["runtime"]["enum"] and fields["mood"]["description"].startswith("Copied Runtime only: ")
    assert "4 for Copied Runtime" in fields["length_bucket"]["description"]


def test_auto_is_refused_where_no_method_is_for_it(folder: Path) -> None:
    alone = command_line(folder, copied_runtime.lines()[0])
    stages = ("--set", "stages=[{quantize: {method: auto}}]", "--set", "targets=[{runtime: copied}]")
    assert "auto knows no quantisation method for the target copied" in alone("plan", "recipe.yaml", *stages, code=2).stderr


@pytest.mark.slow
def test_its_graphs_are_made_measured_and_bundled(made: Path, run: Run) -> None:
    found = entries(made / "report.json")
    assert {"copied-tuned/fp32", "copied-tuned/int8-timid-copied"} <= set(found)
    candidate = found["copied-tuned/int8-timid-copied"]
    assert candidate["target"]["mood"] == "hasty" and candidate.get("coverage") is None
    assert {path.name for path in (made / "bundle" / "copied").iterdir()} == {"model.copied", "model_int8.copied"}
    run("verify", "made/bundle")
    for name in found:
        answered = json.loads(run("run", "made/bundle", "a good film", "--variant", name, "--json").stdout)
        assert answered[0]["label"] in ("negative", "positive")


@pytest.mark.slow
def test_its_models_are_benched_and_reports_compared(made: Path, run: Run, folder: Path) -> None:
    run("bench", "made/bundle", "--runtime", "copied", *QUICK, "--out", "bundle.json")
    run("bench", "made/bundle/copied/model.copied", *QUICK, "--lengths", "8", "--out", "graph.json")
    (entry,) = entries(folder / "graph.json").values()
    assert entry["target"]["runtime"] == "copied"
    run("compare", "made", "made")
    run("report", "made", "--out", "page.html")
    assert "copied-tuned/int8-timid-copied" in (folder / "page.html").read_text()


@pytest.mark.slow
def test_its_bundle_is_shipped_and_served(made: Path, run: Run, folder: Path) -> None:
    run("ship", "made/bundle", "./device", "--queries", "4", "--rounds", "1", "-q")
    shown = run("devices", "status", "./device", "--json").stdout
    assert "int8" in shown or "fp32" in shown
    run("run", "./device", "a good film")


@pytest.mark.slow
def test_auto_tunes_it_as_it_says(run: Run, folder: Path, made: Path) -> None:
    stages = ("--set", "stages=[{quantize: {method: auto}}]", "--set", "targets=[{runtime: copied}]")
    run("compress", "recipe.yaml", *stages, "--out", "searched")
    (found,) = [entry["search"] for entry in entries(folder / "searched" / "report.json").values() if entry.get("search")]
    tried = {trial["what"] for trial in found["trials"]}
    assert {"in haste", "without this", "method timid-copied", "method timid-copied low"} <= tried
    assert not any("attention" in what for what in tried)  # an operator of ONNX Runtime alone


@pytest.mark.slow
def test_layers_are_timed_on_it(run: Run, folder: Path) -> None:
    prune = "{prune: {to: {speedup: 1.05}, block: 8, samples: 16}}"
    stages = ("--set", f"stages=[{prune}, {{quantize: {{method: timid-copied}}}}]", "--set", "targets=[{runtime: copied}]")
    run("compress", "recipe.yaml", *stages, "--out", "pruned")
    (tables, *_) = [json.loads(file.read_text()) for file in (folder / "store").rglob("table.json")]
    assert (tables["runtime"], tables["precision"], tables["bucket"]) == ("copied", "int8", 4)
