"""A whole recipe that prunes and distils, killed with SIGKILL in both: it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPE, make_model, review_rows, write_reviews, write_table
from stage_runs import run

from edgebert.compress.recipe_file import load_recipe
from edgebert.core.store import ArtifactStore

STAGES = """\
  - prune: {to: {macs: 0.4}, block: 8, steps: 2, vocabulary: {}, positions: 32, recover: {epochs: 12, batch_size: 8, \
checkpoint_seconds: 0.01}}
  - distill: {epochs: 12, batch_size: 8, relations: 1, dropout: 0.1, early_stopping: {share: 0.1}, checkpoint_seconds: 0.01}
  - export
"""


def recipe_in(folder: Path) -> Path:
    """recipe.yaml beside model/ and data/."""
    make_model(folder / "model")
    write_reviews(folder / "data")
    write_table(folder / "data" / "transfer.csv", [{"text": row["text"]} for row in review_rows(80)[48:]])
    text = RECIPE.replace("  - export\n", STAGES).replace("  eval:", "  transfer: data/transfer.csv\n  eval:")
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


def kill_when_there(recipe: Path, store: Path, pattern: str) -> None:
    """Starts a run, and kills it with its children once the store has such a file."""
    command = [sys.executable, "-m", "edgebert", "compress", str(recipe), "--store", str(store), "--quiet"]
    process = subprocess.Popen(
        command, cwd=recipe.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 300
        while not list(store.glob(pattern)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_killed_recipe_ends_with_the_hashes_of_an_undisturbed_one(tmp_path: Path, cli: Any) -> None:
    recipe, store = recipe_in(tmp_path), tmp_path / "store"
    stages = load_recipe(str(recipe)).recipe.stages[:2]
    wanted = run(tmp_path, tmp_path / "calm", *stages)
    kill_when_there(recipe, store, "work/*/recover-1/checkpoint.safetensors")
    kill_when_there(recipe, store, "work/*/checkpoint.safetensors")
    assert ArtifactStore(store).verify() == []
    assert not (tmp_path / "runs" / "recipe").exists()

    result = cli("compress", "recipe.yaml", "--quiet")
    assert result.code == 0, result.err
    record = json.loads((tmp_path / "runs" / "recipe" / "run.json").read_text())
    steps = {step["step"]: step for step in record["steps"]}
    assert [steps[name]["sha256"] for name in ("prune-macs-0.4", "distill")] == [artifact.sha256 for artifact in wanted]
    assert steps["prune-macs-0.4"]["found_in_store"] and not steps["distill"]["found_in_store"]
    assert record["data"]["transfer"]["rows"] == 32
    assert list(store.glob("work/*/*")) == []

    names = [line.split()[0] for line in result.out.splitlines()[1:5]]
    assert names == ["onnxruntime/fp32", "onnxruntime/prune", "onnxruntime/distill", "onnxruntime/int8-dynamic"]
    bundle = tmp_path / "runs" / "recipe" / "bundle"
    assert cli("verify", bundle).code == 0
    assert json.loads(cli("run", bundle, "a good film", "--json").out)[0]["label"] in ("negative", "positive")
    lineage = [entry["stage"] for entry in json.loads((bundle / "edgebert.json").read_text())["lineage"]]
    assert lineage == ["quantize", "export", "distill", "prune", "model"]
    plan = {line.split()[0]: line.split()[1] for line in cli("plan", "recipe.yaml").out.splitlines()}
    assert [plan[name] for name in ("prune-macs-0.4", "distill", "data.transfer")] == ["found"] * 3
