"""Structured compression of an SST-2 teacher: accuracy and speed of the shipped recipes, and the worth of each idea.

    python benchmarks/prune_distill.py --assets DIR [--work DIR] [--seeds 0 1 2] [--jobs 1] [--parts cuts free ...] [--quick]

DIR holds models/sst2-minilm-l6 and sst2/{train,dev}.tsv. Every model is made by `edgebert compress`, on one store. The parts:

- cuts: the recipes sst2-3x, sst2-5x and sst2-8x, once for each seed: dev accuracy after each step, and the minutes that prune
  and distill took, the teacher's run included where it was not in the store yet;
- free: half of the multiply-accumulates, without any training;
- importance: Fisher against magnitude and random at equal multiply-accumulates and with as many layers, without training;
- budget: sizes chosen under measured latency against sizes chosen under multiply-accumulates, without training: accuracy at
  equal measured latency, where the latter's is read off the line between its neighbours;

and at the end one run of latency: every INT8 model of the first seed against FP32, both in ONNX Runtime at 1 thread, on dev
sentences, in alternating fresh processes. With `--work` everything made stays there, and a run that was stopped goes on.
`--jobs 2` trains two models side by side, each with a share of the cores; the latency run is always alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures, options, print_table

from edgebert.compress.compression import Compression
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.progress import Silent, progress_for
from edgebert.core.store import ArtifactStore
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import measure_rounds, query_order, write_rows
from edgebert.measure.machine.environment import read_environment
from edgebert.models.load import load_model, save_model
from edgebert.models.surgery import shape_of
from edgebert.report.file import read_report
from edgebert.report.report import Report
from edgebert.runtimes.target import Target
from edgebert.stages.examples import Examples
from edgebert.stages.export import export_onnx
from edgebert.stages.prune import Prune
from edgebert.stages.prune.budget import Budget, score
from edgebert.stages.prune.cut import PruneSamples, choose, draw, measured_importance, repaired
from edgebert.stages.prune.importance import Importance
from edgebert.stages.prune.latency.latency_table import LatencyCosts
from edgebert.stages.prune.latency.layer_latency import measure_table
from edgebert.stages.prune.settings import Goal
from edgebert.stages.prune.size_search import Costs
from edgebert.stages.quantize.dynamic import Dynamic
from edgebert.stages.quantize.settings import Settings

PARTS = ("cuts", "free", "importance", "budget")
CUTS = {3: (0.995, 5.0), 5: (0.99, 7.5), 8: (0.98, 10.0)}
"""Cut of the MACs -> share of the teacher's accuracy that must stay, and speed-up of INT8 over FP32."""
SMALL = ["stages.prune.block=8", "stages.distill.epochs=0.5"]
QUICK_STAGES = {
    3: SMALL,
    8: [
        "stages=[{prune: {to: {macs: 0.3333}, block: 8}}, {distill: {epochs: 0.2}}, {prune: {to: {macs: 0.375}, block: 8}}, "
        "{distill: {epochs: 0.5}}, export, quantize]"
    ],
}
"""For a tiny model: small blocks, and little training."""
MINUTES, FREE_MINUTES, FREE_SHARE = 45, 4, 0.97
METHODS = ("fisher", "magnitude", "random")
EQUAL_CUTS = (2, 3, 5)
MAC_SHARES = (0.5, 0.333, 0.2, 0.125, 0.09)
SPEEDUPS = (2, 3, 4)
"""Speed-ups of a pruned INT8 model over the whole INT8 model."""
WHOLE = "whole"
"""Name of the INT8 graph without pruning."""
TUNED = ("SkipLayerNormFusion", "BiasGeluFusion")


@dataclass(frozen=True)
class Setting:
    """Folders and options of a run of the benchmark."""

    assets: Path
    work: Path
    store: Path
    quick: bool
    jobs: int

    @property
    def cuts(self) -> list[int]:
        """The cuts whose recipes are run. 5x is 3x with another number, and a quick run leaves it out."""
        return [cut for cut in CUTS if cut != 5 or not self.quick]

    @property
    def teacher(self) -> Path:
        """The model folder."""
        return self.assets / "models" / "sst2-minilm-l6"

    @property
    def max_length(self) -> int:
        """128 tokens, or what the teacher's positions allow."""
        return min(128, int(json.loads((self.teacher / "config.json").read_text())["max_position_embeddings"]))

    def overrides(self) -> list[str]:
        """Local files in place of the Hub's, few timed queries, and for a quick run little data."""
        found = [
            f"model={self.teacher}",
            f"task.max_length={self.max_length}",
            f"data.train={{path: {self.assets}/sst2/train.tsv, columns: {{text: sentence}}}}",
            f"data.eval={{path: {self.assets}/sst2/dev.tsv, columns: {{text: content}}}}",
            "measure={rounds: 1, queries: 16, warmup: 2}",
        ]
        less = ["data.train.limit=96", "data.eval.limit=48"]
        return found + (less if self.quick else [])


@dataclass(frozen=True)
class Made:
    """The folder of one run of `edgebert compress`."""

    name: str
    folder: Path

    @cached_property
    def report(self) -> Report:
        """report.json."""
        return read_report(self.folder / "report.json")

    def accuracy(self, kind: str) -> float:
        """Dev accuracy of the last entry of a kind: fp32, prune, distill or int8."""
        entry = [entry for entry in self.report.entries if entry.name.partition("/")[2].startswith(kind)][-1]
        return entry.score("accuracy") or 0.0

    @property
    def macs_cut(self) -> float:
        """Encoder MACs of FP32 over those of the smallest model."""
        macs = [entry.macs for entry in self.report.entries if entry.macs]
        return max(macs) / min(macs)

    def minutes(self, *steps: str) -> float:
        """Minutes that the steps took whose names begin with these words."""
        record = json.loads((self.folder / "run.json").read_text())["steps"]
        return sum(step["seconds"] for step in record if step["step"].startswith(steps)) / 60

    @property
    def int8(self) -> Path:
        """The INT8 graph."""
        return self.folder / "bundle" / "onnx" / "model_quantized.onnx"

    @property
    def fp32(self) -> Path:
        """The teacher's FP32 graph."""
        return self.folder / "bundle" / "onnx" / "model.onnx"


def compress(setting: Setting, recipe: str, name: str, settings: Sequence[str]) -> Made:
    """Runs `edgebert compress`; a gate that fails is a result as well."""
    made = Made(name, setting.work / "runs" / name)
    command = [sys.executable, "-m", "edgebert", "compress", recipe, "--store", str(setting.store)]
    command += ["--out", str(made.folder), "--quiet"]
    command += [word for override in [*setting.overrides(), *settings] for word in ("--set", override)]
    threads = str(max(1, (os.cpu_count() or 1) // setting.jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{name}: edgebert ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    print(f"{name}: made", file=sys.stderr, flush=True)
    return made


def all_made(setting: Setting, wanted: Sequence[tuple[str, str, list[str]]]) -> list[Made]:
    """Several runs, `--jobs` at a time. Returns them in order."""
    with ThreadPoolExecutor(setting.jobs) as pool:
        return list(pool.map(lambda entry: compress(setting, *entry), wanted))


def pruning(setting: Setting, name: str, **prune: Any) -> tuple[str, str, list[str]]:
    """Arguments of a run that prunes without training, and quantises."""
    block = {"block": 8} if setting.quick else {}
    recipe = {
        "model": "set by --set",
        "task": {"name": "text-classification", "labels": ["negative", "positive"]},
        "data": {"eval": "set by --set"},
        "stages": [{"prune": {**prune, **block}}, "export", "quantize"],
        "targets": [{"runtime": "onnxruntime", "disabled_optimizers": list(TUNED)}],
    }
    file = setting.work / f"{name}.yaml"
    file.write_text(json.dumps(recipe))  # JSON is YAML
    return str(file), name, []


def cuts(setting: Setting, seeds: Sequence[int], figures: Figures) -> list[Made]:
    """Runs the shipped recipes. Returns the models of the first seed."""
    less = {cut: QUICK_STAGES[cut] if setting.quick else [] for cut in setting.cuts}
    names = [(cut, seed) for seed in seeds for cut in setting.cuts]
    made = all_made(setting, [(f"sst2-{cut}x", f"{cut}x-seed{seed}", [f"seed={seed}", *less[cut]]) for cut, seed in names])
    rows = []
    for run in made:
        teacher, steps = run.accuracy("fp32"), [run.accuracy(step) for step in ("prune", "distill", "int8")]
        shares = [f"{value:.4f}" for value in steps] + [f"{steps[1] / teacher:.2%}", f"{steps[2] / teacher:.2%}"]
        rows.append([run.name, f"{run.macs_cut:.2f}x", f"{teacher:.4f}", *shares, f"{run.minutes('prune', 'distill'):.1f}"])
    print_table(["run", "MACs cut", "teacher", "pruned", "distilled", "INT8", "distilled/T", "INT8/T", "minutes"], rows)
    for cut in setting.cuts:
        own = [run for (which, _), run in zip(names, made, strict=True) if which == cut]
        kept = float(np.mean([run.accuracy("distill") / run.accuracy("fp32") for run in own]))
        figures.at_least(f"{cut}x MACs cut", min(run.macs_cut for run in own), cut * 0.999)
        figures.at_least(f"{cut}x accuracy of the teacher, mean of the seeds", kept, CUTS[cut][0])
        figures.at_most(f"{cut}x minutes", max(run.minutes("prune", "distill") for run in own), MINUTES)
    return made[: len(setting.cuts)]


def free(setting: Setting, figures: Figures) -> None:
    """Cuts half of the MACs without training."""
    (run,) = all_made(setting, [pruning(setting, "free-2x", to={"macs": 0.5})])
    share = run.accuracy("prune") / run.accuracy("fp32")
    row = [run.name, f"{run.macs_cut:.2f}x", f"{run.accuracy('prune'):.4f}", f"{share:.2%}", f"{run.minutes('prune'):.1f}"]
    print_table(["without training", "MACs cut", "accuracy", "of the teacher", "minutes"], [row])
    figures.at_least("2x without training, accuracy of the teacher", share, FREE_SHARE)
    figures.at_most("2x without training, minutes", run.minutes("prune"), FREE_MINUTES)


@dataclass(frozen=True)
class Laboratory:
    """The teacher, its samples and importances, for pruning outside of a recipe: many cuts share one weighing."""

    setting: Setting

    @cached_property
    def run(self) -> Compression:
        """The inputs of a recipe; none of its stages is run."""
        file, _, _ = pruning(self.setting, "laboratory", to={"macs": 0.5})
        store = ArtifactStore(self.setting.store)
        return Compression(resolve_recipe(load_recipe(file, self.setting.overrides())), store, Silent())

    @cached_property
    def teacher(self) -> Any:
        """The torch module."""
        return load_model(self.run.base.path, self.run.inputs.task)

    @cached_property
    def samples(self) -> PruneSamples:
        """Samples drawn as the prune stage draws them."""
        return draw(self.run.examples(self.run.base), self.teacher, 96 if self.setting.quick else 2048, seed=0)

    @cached_property
    def lengths(self) -> list[int]:
        """Numbers of tokens of the dev sentences."""
        return Examples((self.run.data["eval"],), self.run.serving(self.run.base)).lengths

    def stage(self, **fields: Any) -> Prune:
        """A prune stage."""
        return Prune(to=Goal(macs=0.5), block=8 if self.setting.quick else 32, **fields)

    @cached_property
    def weights(self) -> dict[str, Importance]:
        """Method -> the importance of every unit."""
        return {
            method: measured_importance(self.stage(importance=method), self.teacher, self.samples, 0, Silent())
            for method in METHODS
        }

    def pruned(self, method: str, costs: Costs, limit: float, *, repair: bool, whole_layers: bool = False) -> Any:
        """The model that a method leaves under a budget.

        Args:
            whole_layers: whether a layer may go as a whole. Only Fisher's weighing says what that costs.
        """
        stage, found = self.stage(importance=method, reconstruct=repair), self.weights[method]
        found = found if whole_layers else dataclasses.replace(found, layers=())
        return repaired(stage, self.teacher, choose(stage, found, costs, limit), found, self.samples, Silent())

    def accuracy(self, model: Any) -> float:
        """Accuracy of a model on the dev set."""
        return score(model, self.run.data["eval"], self.run.serving(self.run.base))

    def int8(self, model: Any, name: str) -> Path:
        """The dynamic INT8 graph of a model."""
        folder = self.setting.work / "graphs" / name
        folder.mkdir(parents=True, exist_ok=True)
        save_model(model, folder)
        export_onnx(folder, self.run.inputs.task, folder / "model.onnx")
        (folder / "int8").mkdir(exist_ok=True)
        Dynamic().quantize(folder / "model.onnx", folder / "int8", Settings())
        return folder / "int8" / "model.onnx"


def importance(laboratory: Laboratory, figures: Figures) -> None:
    """Compares Fisher with magnitude and random importance."""
    shape = shape_of(laboratory.teacher)
    rows, margins = [], []
    for repair, cut in product((False, True), EQUAL_CUTS[:1] if laboratory.setting.quick else EQUAL_CUTS):
        budget = Budget.of_macs(shape, laboratory.lengths, share=1 / cut)
        models = [laboratory.pruned(method, budget.costs, budget.limit, repair=repair) for method in METHODS]
        found = [laboratory.accuracy(model) for model in models]
        rows.append([f"{cut}x, {'repaired' if repair else 'as cut'}", *(f"{value:.4f}" for value in found)])
        margins.append(found[0] - max(found[1:]))
    print_table(["MACs cut", *METHODS], rows)
    figures.at_least("Fisher over magnitude and random, least margin", min(margins), 0.0)


def budget_models(laboratory: Laboratory) -> tuple[dict[str, Path], dict[str, float]]:
    """Pruned models under both kinds of budget: name -> INT8 graph, and name -> dev accuracy before quantisation."""
    setting, shape = laboratory.setting, shape_of(laboratory.teacher)
    table = measure_table(
        shape,
        target=Target(runtime="onnxruntime", disabled_optimizers=TUNED),
        precision="int8",
        lengths=laboratory.lengths,
        store=laboratory.run.store,
        progress=progress_for(),
        environment=read_environment(),
    )
    costs = LatencyCosts(table, laboratory.lengths)
    wanted: list[tuple[str, Costs, float]] = []
    for share in MAC_SHARES[:2] if setting.quick else MAC_SHARES:
        budget = Budget.of_macs(shape, laboratory.lengths, share=share)
        wanted.append((f"macs-{share:g}", budget.costs, budget.limit))
    speedups = SPEEDUPS[:1] if setting.quick else SPEEDUPS
    wanted += [(f"latency-{speedup:g}x", costs, costs.whole / speedup - costs.rest) for speedup in speedups]
    graphs = {WHOLE: laboratory.int8(laboratory.teacher, WHOLE)}
    scores = {WHOLE: laboratory.accuracy(laboratory.teacher)}
    for name, unit, limit in wanted:
        model = laboratory.pruned("fisher", unit, limit, repair=True, whole_layers=True)
        graphs[name], scores[name] = laboratory.int8(model, name), laboratory.accuracy(model)
        print(f"{name}: {list(shape_of(model).heads)} {list(shape_of(model).intermediate_sizes)}", file=sys.stderr)
    return graphs, scores


def budget(latency: dict[str, float], scores: dict[str, float]) -> None:
    """Compares latency budgets with MAC budgets at equal measured latency. `latency`: name -> p50 in ms of its INT8 graph."""
    by_macs = sorted((latency[name], scores[name]) for name in scores if name.startswith("macs-"))
    rows, verdicts = [], []
    for name, found in scores.items():
        row = [name, f"{latency[name]:.3f}", f"{latency[WHOLE] / latency[name]:.2f}x", f"{found:.4f}", "", ""]
        if name.startswith("latency-"):
            reached = float(np.interp(latency[name], [ms for ms, _ in by_macs], [value for _, value in by_macs]))
            verdicts.append(found >= reached)
            row[-2:] = [f"{reached:.4f}", "yes" if verdicts[-1] else "no"]
        rows.append(row)
    print_table(["budget", "INT8 p50 ms", "faster", "accuracy", "MAC budget at that p50", "better"], rows)
    wins = f"{sum(verdicts)} of {len(verdicts)}"
    print(f"a latency budget is better than, or equal to, a MAC budget at equal measured latency in {wins}")


def latencies(setting: Setting, teacher: Path, models: dict[str, Path]) -> dict[str, float]:
    """p50 in ms of FP32 (as `fp32`) and every INT8 graph, in one run."""
    lines = (setting.assets / "sst2" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("content")
    rows = [{"text": line.split("\t")[column]} for line in lines[1:]]
    warmup, queries, rounds = (4, 32, 1) if setting.quick else (20, 250, 6)
    write_rows(setting.work / "rows.json", [rows[index] for index in query_order(len(rows), warmup + queries, seed=0)])
    jobs = [
        RoundJob(
            round=0,
            model=str(file),
            target=Target(runtime="onnxruntime", disabled_optimizers=() if name == "fp32" else TUNED),
            task="text-classification",
            labels=("negative", "positive"),
            max_length=setting.max_length,
            pad_id=0,
            tokenizer=str(setting.teacher / "tokenizer.json"),
            rows=str(setting.work / "rows.json"),
            warmup=warmup,
        )
        for name, file in {"fp32": teacher, **models}.items()
    ]
    found = measure_rounds(jobs, rounds, progress_for())
    medians = [float(np.median([ns for item in job for ns in item.latencies_ns])) / 1e6 for job in found]
    return dict(zip(["fp32", *models], medians, strict=True))


def speed_figures(latency: dict[str, float], figures: Figures) -> None:
    """Prints and notes the speed of INT8 over FP32."""
    names = [name for name in latency if name == "fp32" or "x-seed" in name]
    rows = [[name, f"{latency[name]:.3f}", f"{latency['fp32'] / latency[name]:.2f}x"] for name in names]
    print_table(["1 thread, dev sentences", "p50 ms", "faster than FP32"], rows)
    for cut, (_, speedup) in CUTS.items():
        name = next((name for name in names if name.startswith(f"{cut}x-")), None)
        if name:
            figures.at_least(f"{cut}x INT8 speed over FP32", latency["fp32"] / latency[name], speedup)


def run(setting: Setting, seeds: Sequence[int], parts: Sequence[str]) -> None:
    """Runs the parts in order, then measures latency and prints the line of figures."""
    figures, laboratory = Figures(setting.quick), Laboratory(setting)
    laboratory.run.store.prepare()
    (setting.work / "runs").mkdir(exist_ok=True)
    made = cuts(setting, seeds, figures) if "cuts" in parts else []
    if "free" in parts:
        free(setting, figures)
    if "importance" in parts:
        importance(laboratory, figures)
    graphs, scores = budget_models(laboratory) if "budget" in parts else ({}, {})
    if made or graphs:
        fp32 = made[0].fp32 if made else laboratory.int8(laboratory.teacher, "teacher").parent.parent / "model.onnx"
        latency = latencies(setting, fp32, {run.name: run.int8 for run in made} | graphs)
        speed_figures(latency, figures)
        if graphs:
            budget(latency, scores)
    figures.finish()


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "")
    parser.add_argument("--work", type=Path, help="folder that keeps what is made; by default a temporary one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="models that are made side by side")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    seeds = given.seeds[:1] if given.quick else given.seeds
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        store = (given.store or work / "store").resolve()
        run(Setting(given.assets.resolve(), work, store, given.quick, given.jobs), seeds, given.parts)


if __name__ == "__main__":
    main()
