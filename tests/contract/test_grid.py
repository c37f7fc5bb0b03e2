"""Chains of the grid task x family x runtime: `edgebert compress` of a tiny model, and its bundle on a device install.

Each task and each family goes through the whole chain in one pair at least, on every runtime; test_cells.py takes all other
pairs through the same parts on the level of functions. A cell that does not work is refused first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_process import WITHOUT, WORKSTATION, run_python
from fast_export import traced
from task_rows import SAMPLES, rows_of
from tiny_families import tiny_folder

from edgebert.bundle.predictor import load_predictor
from edgebert.bundle.read import read_bundle
from edgebert.bundle.self_test import verify_bundle
from edgebert.compress.cells import Cell, cells
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.compress.run import Run, compress
from edgebert.core.progress import Silent
from edgebert.core.store import Artifact, ArtifactStore
from edgebert.errors import RecipeError
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.load import load_model, run_model
from edgebert.runtimes import RUNTIMES, get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.stages.export import onnx_graph
from edgebert.stages.quantize.methods import usual_method
from edgebert.tasks import TASKS
from edgebert.tasks.base import Task

DOCS = Path(__file__).parent.parent.parent / "docs"
HEAD = ("LABEL_0", "LABEL_1")
"""Names that Transformers gives outputs without names."""
PRUNE = {"prune": {"sizes": {"heads": 3, "intermediate_sizes": 32}, "samples": 6}}
PARITY = 1e-5
"""Largest difference between a graph and torch, relative to the largest output where that exceeds 1."""
ANSWERS = """
import json
from pathlib import Path
from edgebert.bundle.predictor import load_predictor
bundle, texts = Path(sys.argv[1]), json.loads(sys.argv[2])
answers = {name: load_predictor(bundle, variant=name).predict(texts) for name in sys.argv[3:]}
print(json.dumps({name: [answer.as_json() for answer in found] for name, found in answers.items()}))
"""
"""What the device install runs: the answers of variants of a bundle."""


def crossed() -> list[tuple[Task, Family]]:
    """Pairs that hold every task and every family that are not refused altogether."""
    refused = {(cell.task.name, cell.family.model_type) for cell in cells() if cell.obstacle}
    pairs = [(task, family) for task in TASKS for family in FAMILIES if (task.name, family.model_type) not in refused]
    by_task = {task.name: (task, family) for task, family in reversed(pairs)}
    by_family = {family.model_type: (task, family) for task, family in reversed(pairs)}
    return [pair for pair in pairs if pair in (by_task[pair[0].name], by_family[pair[1].model_type])]


CHAINS = crossed()
chains = pytest.mark.parametrize("chain", CHAINS, ids=lambda pair: f"{pair[0].name}-{pair[1].model_type}", indirect=True)


def labels_of(task: Task) -> tuple[str, ...]:
    return SAMPLES[task.name].labels


@dataclass(frozen=True)
class Chain:
    """A finished run of a tiny model of a family for a task, on every runtime whose cell is not refused."""

    task: Task
    family: Family
    folder: Path
    run: Run

    @property
    def bundle(self) -> Path:
        return self.folder / "run" / "bundle"

    @cached_property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.folder / "store")

    def artifact(self, step: str) -> Artifact:
        record = json.loads((self.folder / "run" / "run.json").read_text())
        key = next(item["key"] for item in record["steps"] if item["step"].startswith(step))
        found = self.store.get(key)
        assert found is not None
        return found

    @property
    def runtimes(self) -> list[str]:
        return [
            cell.runtime.name for cell in cells() if (cell.task, cell.family, cell.obstacle) == (self.task, self.family, None)
        ]


def recipe_of(task: Task, family: Family, folder: Path) -> Path:
    """A recipe that prunes, exports, quantises and checks, for every runtime; its model and data lie beside it."""
    tiny_folder(
        family.model_type,
        task.architecture,
        folder / "model",
        labels=labels_of(task) or SAMPLES[task.name].outputs or HEAD[: task.head_rows],
        layers=1,
    )
    for name, first in (("train", 0), ("eval", 12)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(task, 8, first)))
    methods = [method.method_name() for runtime in RUNTIMES if (method := usual_method(runtime.format))]
    recipe = {
        "model": "model",
        "task": {"name": task.name, "max_length": 32},
        "data": {"train": "train.jsonl", "eval": "eval.jsonl", "calibration": {"path": "train.jsonl", "samples": 4}},
        "stages": [
            *([PRUNE] if "units" in family.prunes else []),
            "export",
            {"quantize": {"method": methods}},
        ],
        "targets": [{"runtime": runtime.name, "threads": 1} for runtime in RUNTIMES],
        "gates": [{"metric": task.metrics[0].name, "min": -1.0}],  # what random weights answer is worth nothing
        "measure": {"rounds": 1, "queries": 4, "warmup": 1, "golden_inputs": 2},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


def exported(real: Callable[..., Any], module: Any, task: Task, name: str, *inputs: Any, **options: Any) -> Any:
    """The export of edgebert for the recipe's model, and a fast one for the pruned one, which differs in its sizes."""
    pruned = str(module.model.config.model_type).startswith("edgebert_pruned")
    return (traced if pruned else real)(module, task, name, *inputs, **options)


@pytest.fixture(scope="module")
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    """The chain of a task and a family, made once."""
    task, family = request.param
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = load_recipe(str(recipe_of(task, family, folder)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_graph, "onnx_program", partial(exported, onnx_graph.onnx_program))
            run = compress(recipe, store=ArtifactStore(folder / "store"), out=folder / "run", progress=Silent())
        yield Chain(task, family, folder, run)


@pytest.mark.slow
@chains
def test_graphs_answer_as_torch_does(chain: Chain) -> None:
    task, model = chain.task, load_model(chain.folder / "model", chain.task)
    serving = Serving(task, labels_of(task), 32, model.config.pad_token_id, chain.folder / "model" / "tokenizer.json")
    encoded = serving.encode(serving.open_tokenizer(), rows_of(task, 3))
    manifest = read_bundle(chain.bundle)
    for runtime in chain.runtimes:
        variant = next(item for item in manifest.variants if item.role == "baseline" and item.target.runtime == runtime)
        batch = serving.batch(encoded, Target(runtime=runtime, batch=3))
        with torch.no_grad():
            wanted = run_model(model, {name: torch.from_numpy(value) for name, value in batch.items()})
        found = get_runtime(runtime).open(chain.bundle / variant.file, variant.target).predict(batch)
        for output in task.outputs:
            theirs = wanted[output.name].numpy()
            real = batch["attention_mask"].astype(bool) if output.of_tokens else slice(None)
            difference = np.abs(found[output.name][real] - theirs[real]).max()
            assert difference <= PARITY * max(1.0, np.abs(theirs).max()), runtime


@pytest.mark.slow
@chains
def test_the_pruned_model_reloads_as_it_was_saved(chain: Chain) -> None:
    if "units" not in chain.family.prunes:
        return
    folder = chain.artifact("prune").path
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == chain.family.pruned_type
    assert (config["layer_heads"], config["layer_intermediate_sizes"]) == ([3], [32])
    model = load_model(folder, chain.task)
    with torch.no_grad():
        ids = torch.arange(10, 22)[None]
        outputs = run_model(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": ids * 0})
    assert all(torch.isfinite(outputs[name]).all() for name in chain.task.output_names)


@pytest.mark.slow
@chains
def test_int8_runs_and_the_bundle_verifies(chain: Chain) -> None:
    tests = verify_bundle(chain.bundle)[1]
    assert [test.state for test in tests] == ["ok"] * len(tests)
    manifest = read_bundle(chain.bundle)
    for runtime in chain.runtimes:
        mine = [item for item in manifest.variants if item.target.runtime == runtime]
        assert {item.precision for item in mine} == {"fp32", "int8"}
    assert json.loads((chain.bundle / "config.json").read_text())["model_type"] == chain.family.model_type
    metric = chain.task.metrics[0].name
    assert all(chain.run.report.value(entry, metric) is not None for entry in chain.run.report.entries)


@pytest.mark.slow
@chains
def test_the_device_install_answers_as_the_workstation_does(chain: Chain) -> None:
    texts = [SAMPLES[chain.task.name].line(row) for row in rows_of(chain.task, 2, 20)]
    names = [variant.name for variant in read_bundle(chain.bundle).variants]
    script = WITHOUT.format(absent=sorted(WORKSTATION)) + ANSWERS
    there = run_python(script, chain.bundle, json.dumps(texts), *names)
    assert there.returncode == 0, there.stderr
    here = {name: load_predictor(chain.bundle, variant=name).predict(texts) for name in names}
    found = {name: [answer.as_json() for answer in answers] for name, answers in here.items()}
    assert json.loads(json.dumps(found)) == json.loads(there.stdout)


def test_every_cell_is_of_the_tuples() -> None:
    assert len(cells()) == len(TASKS) * len(FAMILIES) * len(RUNTIMES)
    assert all(cell.obstacle is None or cell.obstacle.strip() for cell in cells())


def test_a_cell_that_is_refused_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, family = CHAINS[0]
    recipe = load_recipe(str(recipe_of(task, family, tmp_path)))
    assert resolve_recipe(recipe).task is task
    monkeypatch.setattr(type(RUNTIMES[1]), "refuses", lambda self, name, kind: f"{name} of {kind} is too much for it")
    assert Cell(task, family, RUNTIMES[1]).obstacle == f"{task.name} of {family.model_type} is too much for it"
    with pytest.raises(RecipeError) as caught:
        resolve_recipe(recipe)
    assert "targets.1.runtime" in str(caught.value) or "targets" in str(caught.value)
    assert "is too much for it" in str(caught.value)


def test_the_page_of_coverage_is_what_its_command_writes() -> None:
    made = subprocess.run(
        [sys.executable, str(DOCS / "make_coverage.py")], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert made.stdout == (DOCS / "coverage.md").read_text()
