"""The process on a device beside those of other tools: time to the first answer, memory, and size of the installation.

    python benchmarks/device_start.py --assets DIR [--peers DIR] [--work DIR] [--quick]

DIR holds models/sst2-minilm-l6 and sst2/{train,dev}.tsv. edgebert, installed without extras into a fresh virtual
environment, optimum-onnx's pipeline and sentence-transformers' ONNX back end open the same INT8 file, with the same
tokenizer, and answer one text. Every answer is that of a fresh process; the contenders take turns. edgebert checks every
file's hash and the signature each time: `first load` has no receipt of an earlier check and imports what verifies
signatures, `later loads` have one.

`--peers` is a folder of virtual environments, made with pip where missing. A quick run makes none: edgebert runs in this
environment, and the tools whose environment is not there are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figures, options, print_table
from peers.tools import HERE, QUIET, TOOLS
from runs import compress, recipe

TEXT = "The soup was cold, the service slow, and yet we would come again for the view alone."
SOONER, LEANER, SAME = 5.0, 1 / 3, 1e-4
"""Bounds: times as soon, share of the memory, and distance between the probabilities of the same graph."""
LATER, FIRST = "edgebert, later loads", "edgebert, first load"
PEERS = {
    "optimum": ("optimum-onnx pipeline", "answer_optimum.py"),
    "st": ("sentence-transformers ONNX", "answer_sentence_transformers.py"),
}
"""Folder of the environment -> the contender's name and its program."""
LARGEST = 8


@dataclass(frozen=True)
class Contender:
    """A program that answers one text in a fresh process."""

    name: str
    python: Path
    program: str
    arguments: tuple[str, ...]
    without_receipt: bool = False


@dataclass(frozen=True)
class Started:
    """Time, memory and answer of one process."""

    seconds: float
    peak_mb: float
    score: float


@dataclass(frozen=True)
class Bench:
    """Folders and options of a run of the benchmark."""

    assets: Path
    peers: Path
    work: Path
    store: Path
    quick: bool

    @property
    def cache(self) -> Path:
        """The folder of edgebert's receipts."""
        return self.work / "cache"

    def bundle(self) -> Path:
        """The teacher in INT8, signed with a key of this benchmark's own."""
        limit = {"limit": 24} if self.quick else {"limit": 200}
        made = recipe(
            self.assets / "models" / "sst2-minilm-l6",
            stages=[{"quantize": {"method": ["dynamic"]}}],
            targets=[{"runtime": "onnxruntime", "threads": 1}],
            data={"eval": {"path": str(self.assets / "sst2" / "dev.tsv"), "columns": {"text": "content"}, **limit}},
            gates=[{"metric": "accuracy", "min": 0.0}],
            measure={"rounds": 1, "queries": 16, "warmup": 1},
            max_length=min(128, positions(self.assets / "models" / "sst2-minilm-l6")),
        )
        return compress(made, self.work, self.store, "device").folder / "bundle"


def positions(model: Path) -> int:
    """Number of tokens that the model can take."""
    return int(json.loads((model / "config.json").read_text())["max_position_embeddings"])


def device_python(bench: Bench) -> Path:
    """Python of a fresh environment with `pip install .`; in a quick run, of this environment."""
    if bench.quick:
        return Path(sys.executable)
    folder = bench.work / "device-side"
    print(f"edgebert: installing into {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", str(HERE.parent.parent)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pip install . ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return folder / "bin" / "python"


def contenders(bench: Bench, bundle: Path, python: Path) -> tuple[list[Contender], list[str]]:
    """The contenders, and the names of those that a quick run leaves out."""
    manifest = json.loads((bundle / "edgebert.json").read_text())
    file = next(Path(one["file"]).name for one in manifest["variants"] if one["name"] == manifest["selected"])
    ours = "answer_edgebert.py", (str(bundle), TEXT)
    found, absent = [Contender(LATER, python, *ours), Contender(FIRST, python, *ours, without_receipt=True)], []
    for tool in TOOLS:
        if tool.name not in PEERS:
            continue
        name, program = PEERS[tool.name]
        if bench.quick and not tool.environment(bench.peers).is_dir():
            absent.append(name)
            continue
        tool.install(bench.peers)
        found.append(Contender(name, tool.environment(bench.peers) / "python", program, (str(bundle), TEXT, file)))
    return found, absent


def start(bench: Bench, contender: Contender) -> Started:
    """Runs a contender in a fresh process. Ends the benchmark when it fails."""
    if contender.without_receipt:
        shutil.rmtree(bench.cache, ignore_errors=True)
    command = [str(contender.python), str(HERE / contender.program), *contender.arguments]
    began = time.monotonic_ns()
    done = subprocess.run(command, env=environment(bench), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{contender.name} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    told: Mapping[str, float] = json.loads(done.stdout)
    return Started((told["answered_ns"] - began) / 1e9, told["peak_mb"], told["score"])


def environment(bench: Bench) -> dict[str, str]:
    """Environment variables of every process: no network, and keys and receipts of this benchmark's own."""
    return {**os.environ, **QUIET, "XDG_CACHE_HOME": str(bench.cache)}


def race(bench: Bench, entered: Sequence[Contender], rounds: int) -> dict[str, list[Started]]:
    """Runs fresh processes that take turns. The first round reads from the disk and is not counted."""
    found: dict[str, list[Started]] = {contender.name: [] for contender in entered}
    for turn in range(rounds + 1):
        for contender in (*entered[turn % len(entered) :], *entered[: turn % len(entered)]):
            if not contender.without_receipt and not bench.cache.is_dir():
                start(bench, contender)  # leaves the receipt that the turn before took away
            started = start(bench, contender)
            if turn:
                found[contender.name].append(started)
    return found


def median(found: Sequence[Started], what: str) -> float:
    """The median of a figure over the processes."""
    return statistics.median(getattr(one, what) for one in found)


def print_race(found: Mapping[str, Sequence[Started]], absent: Sequence[str]) -> None:
    """Prints time and memory of every contender."""
    ours = found[LATER]
    rows = [
        [
            name,
            f"{median(started, 'seconds'):.3f}",
            f"{min(one.seconds for one in started):.3f}-{max(one.seconds for one in started):.3f}",
            f"{median(started, 'seconds') / median(ours, 'seconds'):.2f}x",
            f"{median(started, 'peak_mb'):.0f}",
            f"{median(started, 'peak_mb') / median(ours, 'peak_mb'):.2f}x",
            f"{median(started, 'score'):.5f}",
        ]
        for name, started in found.items()
    ]
    rows += [[f"{name}: left out, no environment", *[""] * 6] for name in absent]
    print_table(["first answer", "s", "fastest-slowest", "over ours", "peak MB", "over ours", "P(positive)"], rows)
    print(flush=True)


def hold(found: Mapping[str, Sequence[Started]], figures: Figures) -> None:
    """Notes the figures against each peer: how much sooner, share of its memory, and the distance of the answers."""
    ours, first = found[LATER], found[FIRST]
    for name, started in found.items():
        if name in (LATER, FIRST):
            continue
        figures.at_least(f"{name}: times as soon", median(started, "seconds") / median(ours, "seconds"), SOONER)
        figures.at_most(f"{name}: share of its memory", median(ours, "peak_mb") / median(started, "peak_mb"), LEANER)
        figures.note(f"{name}: times as soon, first load", median(started, "seconds") / median(first, "seconds"))
        figures.note(f"{name}: share of its memory, first load", median(first, "peak_mb") / median(started, "peak_mb"))
        figures.at_most(f"{name}: answers apart", abs(median(started, "score") - median(ours, "score")), SAME)


def print_installed(entered: Sequence[Contender], figures: Figures) -> None:
    """Prints the size of each environment in megabytes, and the largest packages of ours."""
    sizes = {one.name: sizes_of(one.python) for one in entered if not one.without_receipt}
    ours = sorted(sizes[LATER].items(), key=lambda item: -item[1])
    rows = [[name, f"{size / 1e6:.1f}"] for name, size in ours[:LARGEST]]
    rows.append([f"{len(ours) - LARGEST} others", f"{sum(size for _, size in ours[LARGEST:]) / 1e6:.1f}"])
    print_table(["installed with edgebert", "MB"], [*rows, ["together", f"{sum(sizes[LATER].values()) / 1e6:.1f}"]])
    print()
    for name, found in sizes.items():
        figures.note(f"installed MB, {name.split(',')[0]}", sum(found.values()) / 1e6)


def sizes_of(python: Path) -> dict[str, int]:
    """Sizes of the packages of an environment: distribution -> bytes."""
    done = subprocess.run([str(python), str(HERE / "installed.py")], capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def print_commands(bench: Bench, python: Path, bundle: Path, rounds: int, figures: Figures) -> None:
    """Prints the seconds that whole commands take."""
    command = [str(python), "-m", "edgebert"]
    asked: dict[str, list[str]] = {
        "import edgebert": [str(python), "-c", "import edgebert"],
        "edgebert --help": [*command, "--help"],
        "edgebert run": [*command, "run", str(bundle), TEXT],
        "python -c pass": [str(python), "-c", "pass"],
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(rounds):
        for name, words in asked.items():
            began = time.monotonic()
            subprocess.run(words, env=environment(bench), capture_output=True, check=True)
            times[name].append(time.monotonic() - began)
    print_table(["command", "s"], [[name, f"{statistics.median(found):.3f}"] for name, found in times.items()])
    print(flush=True)
    for name, found in times.items():
        figures.note(f"{name} s", statistics.median(found))


def run(bench: Bench) -> None:
    """Runs all parts and prints the line of figures."""
    figures, rounds = Figures(bench.quick), 2 if bench.quick else 9
    bundle, python = bench.bundle(), device_python(bench)
    entered, absent = contenders(bench, bundle, python)
    found = race(bench, entered, rounds)
    print_race(found, absent)
    print_installed(entered, figures)
    print_commands(bench, python, bundle, rounds, figures)
    figures.note("first answer s", median(found[LATER], "seconds"))
    figures.note("peak MB", median(found[LATER], "peak_mb"))
    figures.note("first load s", median(found[FIRST], "seconds"))
    figures.note("first load peak MB", median(found[FIRST], "peak_mb"))
    hold(found, figures)
    figures.finish()


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "edgebert-peers")
    parser.add_argument("--work", type=Path, help="a new folder that keeps what is made; by default a temporary one")
    given: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CONFIG_HOME"] = str(work / "config")  # a key of its own, never the user's
        store = (given.store or work / "store").resolve()
        run(Bench(given.assets.resolve(), given.peers.resolve(), work, store, given.quick))


if __name__ == "__main__":
    main()
