"""Runs that are killed, and runs that share a store: the end is the same as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import RECIPE, make_model, write_reviews

from edgebert.core.store import ArtifactStore

pytestmark = pytest.mark.slow
FINETUNE = "  - finetune: {epochs: 100, batch_size: 8, learning_rate: 0.01, checkpoint_seconds: 0.3}\n  - export\n"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A recipe that trains a tiny encoder for some seconds, then quantises it."""
    make_model(tmp_path / "model", head=False)
    write_reviews(tmp_path / "data")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        RECIPE.replace("  - export\n", FINETUNE).replace("task: {name", "task: {labels: [negative, positive], name")
    )
    return recipe


def start(recipe: Path, store: str, out: str) -> subprocess.Popen[str]:
    """One compress in a process group of its own."""
    command = [sys.executable, "-m", "edgebert", "compress", str(recipe), "--store", store, "--out", out, "--quiet"]
    return subprocess.Popen(
        command, cwd=recipe.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def steps(folder: Path) -> dict[str, str]:
    return {step["step"]: step["sha256"] for step in json.loads((folder / "run.json").read_text())["steps"]}


def checkpoint_time(store: Path) -> int:
    return max((file.stat().st_mtime_ns for file in store.glob("work/*/checkpoint.safetensors")), default=0)


def stages_run(store: Path) -> bool:
    return len(list(store.glob("artifacts/*"))) >= 4


def kill_once(process: subprocess.Popen[str], reached: Callable[[], bool], delay: float) -> None:
    """SIGKILL to the run and its children, a moment after it got so far."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_runs_end_with_the_hashes_of_an_undisturbed_one(trained: Path) -> None:
    folder, store = trained.parent, trained.parent / "stormy"
    finish(start(trained, "calm", "calm-out"))
    draw = random.Random(0)
    for turn in range(3):
        before = checkpoint_time(store)
        # Twice in training, the second time after it went on from its checkpoint; once when the stages after it are at work.
        reached = partial(stages_run, store) if turn == 2 else lambda before=before: checkpoint_time(store) > before
        kill_once(start(trained, "stormy", "stormy-out"), reached, draw.uniform(0, 0.2))
        assert ArtifactStore(store).verify() == []
        assert not (folder / "stormy-out").exists()
    finish(start(trained, "stormy", "stormy-out"))
    assert steps(folder / "calm-out") == steps(folder / "stormy-out")
    assert ArtifactStore(store).verify() == []
    assert list(store.glob("work/*/*")) == []
    assert not list(folder.glob(".stormy-out-*")), "drafts of the killed runs are left"


def test_two_runs_on_one_store_make_every_stage_once(trained: Path) -> None:
    folder = trained.parent
    both = [start(trained, "store", "one"), start(trained, "store", "two")]
    for process in both:
        finish(process)
    assert steps(folder / "one") == steps(folder / "two")
    assert ArtifactStore(folder / "store").verify() == []
    assert len(list((folder / "store" / "artifacts").glob("*"))) == len(ArtifactStore(folder / "store").artifacts())
