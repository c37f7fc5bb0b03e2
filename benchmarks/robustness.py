"""Kills, cuts, mutated inputs and exchanged folders, by a seed: nothing is lost, nothing hangs, nothing unsigned answers.

    python benchmarks/robustness.py --assets DIR [--kills 1000] [--inputs 500] [--loads 1000] [--seed 0] [--quick]

Three parts on a tiny model that is made here; the option --assets is there because every benchmark has it.

- kills: `edgebert compress`, installations on a device and switches are broken off, at seeded moments and before seeded
  changes of files, by SIGKILL, by a full disk, and by what a power cut does to files that were not synced; in the store, bits
  of finished artifacts are flipped besides. Artifacts must be those of an undisturbed run, and the device must serve one whole
  bundle.
- inputs: mutated model folders, data files, recipes, reports and bundles, each read by the verbs that read it: no traceback,
  no 10 s, no 2 GB, and nothing loads that must not.
- loads: while another process exchanges the bundle, a folder or a graph of it for an unsigned one, no answer is an unsigned
  model's.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from figures import Figures, options, print_table
from robust.bounded import bounded
from robust.exchanges import loads_during_exchanges
from robust.kills import Tally, compress_killed, installs_killed
from robust.mutations import Counts, kinds, mutate
from robust.tiny import QUICK_MEASURE, command, make_model, make_workspace

WARM = (
    *("onnx", "onnxruntime", "safetensors.torch", "torch", "transformers", "edgebert.bundle.predictor", "edgebert.cli.main"),
    *("edgebert.compress.run", "edgebert.devices.agent.install"),
)
"""Modules that the forks share."""
PARTS = ("kills", "inputs", "loads")
SHOWN = 5
"""How many faults of a kind are printed."""


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "", store=False)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--loads", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    if given.quick:
        given.kills, given.inputs, given.loads = 12, 50, 20
    with tempfile.TemporaryDirectory() as name:
        os.environ.update(
            XDG_CONFIG_HOME=f"{name}/config",
            XDG_CACHE_HOME=f"{name}/cache",
            OMP_NUM_THREADS="1",
            HF_HUB_OFFLINE="1",
            TOKENIZERS_PARALLELISM="false",
        )
        warm_up()
        folder = Path(name)
        figures = Figures(quick=False)  # nothing of it depends on how much data there is, or on a clock
        workspace, bundles = prepared(folder)
        if "kills" in given.parts:
            killed(workspace, bundles, given.kills, random.Random(given.seed), figures)
        if "inputs" in given.parts:
            mutated(workspace, bundles[0], given.inputs, random.Random(given.seed), figures)
        if "loads" in given.parts:
            exchanged(folder, bundles, given.loads, given.seed, figures)
        figures.finish()


def warm_up() -> None:
    """Imports what the forks need, once. Nothing here starts a thread, which a fork would lack."""
    from edgebert.core.packages import quiet_libraries

    with quiet_libraries():
        for module in WARM:
            importlib.import_module(module)


def prepared(folder: Path) -> tuple[Path, list[Path]]:
    """The workspace, and two signed bundles of different models."""
    workspace = make_workspace(folder / "workspace")
    bundles = []
    for number in range(2):
        made = folder / f"made-{number}"
        make_model(made / "model", seed=number)
        settings = ["stages=[export, {quantize: {method: dynamic}}]", f"measure={QUICK_MEASURE}", f"model={made / 'model'}"]
        words = [
            "compress",
            str(workspace / "recipe.yaml"),
            "--out",
            str(made / "out"),
            "--store",
            str(made / "store"),
            "--quiet",
        ]
        done = bounded(command(*words, *[word for item in settings for word in ("--set", item)]), folder, limit=600)
        if done.code != 0:
            raise SystemExit(f"the bundle could not be made: {done.err}")
        bundles.append(made / "out" / "bundle")
    return workspace, bundles


def killed(workspace: Path, bundles: list[Path], count: int, draw: random.Random, figures: Figures) -> None:
    """Part one."""
    compressions = compress_killed(workspace, count * 3 // 20, draw)
    rest = count - compressions.all
    installs, switches = installs_killed(workspace.parent / "devices", bundles, (rest + 1) // 2, draw)
    tallies = {"compress": compressions, "install": installs, "switch": switches}
    print_table(
        ["broken off", "kills", "power cuts", "bit rot", "full disks", "ends compared", "lost or different"],
        [[name, *map(str, _numbers(tally)), str(len(tally.wrong))] for name, tally in tallies.items()],
    )
    show({name: tally.wrong for name, tally in tallies.items()})
    figures.at_least("broken off", sum(tally.all for tally in tallies.values()), count)
    figures.at_most("lost or different", sum(len(tally.wrong) for tally in tallies.values()), 0)


def _numbers(tally: Tally) -> Sequence[int]:
    return tally.kills, tally.cuts, tally.rot, tally.full, tally.ends


def mutated(workspace: Path, bundle: Path, count: int, draw: random.Random, figures: Figures) -> None:
    """Part two."""
    report = bundle.parent / "report" / "report.json"
    report.parent.mkdir()
    report.write_bytes((bundle.parent / "report.json").read_bytes())
    tables = kinds(workspace, bundle, report)
    found: dict[str, Counts] = {kind.name: mutate(kind, count // len(tables), draw) for kind in tables}
    print_table(
        ["mutated", "inputs", "refused by a reader", "tracebacks", "over 10 s", "over 2 GB", "loaded in error"],
        [[name, *(str(number) for number in _counts(counts))] for name, counts in found.items()],
    )
    show({f"{name}, {title}": getattr(counts, title) for name, counts in found.items() for title in FAULTS})
    figures.at_least("mutated inputs", sum(counts.inputs for counts in found.values()), count)
    for title in FAULTS:
        figures.at_most(FAULTS[title], sum(len(getattr(counts, title)) for counts in found.values()), 0)


FAULTS = {"traced": "tracebacks", "hung": "over 10 s", "large": "over 2 GB", "loaded": "loaded in error"}
"""Field of Counts -> title of its figure."""


def _counts(counts: Counts) -> Sequence[int]:
    return counts.inputs, counts.refused, *(len(getattr(counts, title)) for title in FAULTS)


def exchanged(folder: Path, bundles: list[Path], count: int, seed: int, figures: Figures) -> None:
    """Part three."""
    seen = loads_during_exchanges(bundles[0], bundles[1], count, seed)
    print_table(
        ["loads during exchanges", "signed", "refused", "unsigned"],
        [[str(count), *(str(seen[name]) for name in ("signed", "refused", "unsigned"))]],
    )
    figures.at_most("unsigned answers", seen["unsigned"], 0)


def show(faults: dict[str, list[str]]) -> None:
    """Prints the first faults of each kind."""
    for name, items in faults.items():
        for item in items[:SHOWN]:
            print(f"  {name}: {item}", file=sys.stderr)


if __name__ == "__main__":
    main()
