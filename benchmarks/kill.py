"""Kills a quickstart with SIGKILL at seeded moments: the run that follows must end as if nothing had happened.

    python benchmarks/kill.py --assets DIR [--kills 10] [--seed 0] [--quick]

First an undisturbed run on a store of its own. Then, on one other store, runs that are killed at moments drawn from the
first third of what a whole run takes; after every kill the store must verify. A run that ends before its moment empties
the store, so that every kill hits work. At the end a run finishes, and its artifacts must have the hashes of the undisturbed
one. `--quick` kills twice, on the model of the assets; the whole benchmark needs no assets, the option is there because every
benchmark has it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figures, options, print_table
from ptq import max_length


def overrides(assets: Path, quick: bool) -> list[str]:
    """Changes to the quickstart: checkpoints often enough to matter, and for a quick run a small model and little data."""
    found = ["stages.finetune.checkpoint_seconds=5"]
    if quick:
        found += [f"model={assets}/models/sst2-minilm-l6", f"task.max_length={max_length(assets)}", "data.train.limit=64"]
        found += ["data.eval.limit=24", "measure={rounds: 1, queries: 16, warmup: 1}"]
        found += ["stages.quantize.method=dynamic", "targets=[{runtime: onnxruntime}]"]
    return [word for override in found for word in ("--set", override)]


def edgebert(work: Path, *words: str) -> list[str]:
    """A command on the store of a work folder."""
    return [sys.executable, "-m", "edgebert", *words, "--store", str(work / "store")]


def compress(work: Path, settings: list[str], seconds: float | None = None) -> int | None:
    """Runs the quickstart; kills it and its children after `seconds`. Returns its exit code, None when killed."""
    command = edgebert(work, "compress", "quickstart", "--out", str(work / "out"), "--quiet", *settings)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def store_verifies(work: Path) -> bool:
    """`edgebert store verify`; a run that was killed before it made a store has nothing to verify."""
    if not (work / "store" / "artifacts").is_dir():
        return True
    return subprocess.run(edgebert(work, "store", "verify"), capture_output=True, check=False).returncode == 0


def hashes(work: Path) -> dict[str, str]:
    """Step -> sha256 of its artifact."""
    return {step["step"]: step["sha256"] for step in json.loads((work / "out" / "run.json").read_text())["steps"]}


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "", store=False)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kills = 2 if given.quick else given.kills
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), kills, random.Random(given.seed), overrides(given.assets.resolve(), given.quick))


def run(folder: Path, kills: int, draw: random.Random, settings: list[str]) -> None:
    """Reference, kills, last run, comparison."""
    calm, stormy = folder / "calm", folder / "stormy"
    started = time.monotonic()
    compress(calm, settings)
    whole = time.monotonic() - started
    rows, verified, done = [], 0, 0
    while done < kills:
        moment = draw.uniform(1.0, max(whole / 3, 1.0))
        if compress(stormy, settings, moment) is not None:
            shutil.rmtree(stormy)
            continue
        done += 1
        intact = store_verifies(stormy)
        verified += intact
        finished = sorted(path.name[:8] for path in (stormy / "store" / "artifacts").glob("*"))
        rows.append([str(done), f"{moment:.1f}", str(len(finished)), "yes" if intact else "NO"])
    compress(stormy, settings)
    same = hashes(calm) == hashes(stormy)
    print_table(["kill", "after s", "artifacts", "store verifies"], rows)
    print("hashes: " + ", ".join(f"{step} {sha[:12]}" for step, sha in hashes(stormy).items()))
    figures = Figures(quick=False)  # what a kill leaves does not depend on how much data there is
    figures.at_least("kills survived", verified, kills)
    figures.at_least("same hashes as undisturbed", float(same), 1)
    figures.finish()


if __name__ == "__main__":
    main()
