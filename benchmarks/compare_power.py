"""The verdicts of `edgebert compare` on real measurements whose truth is known: the same model again, and planted slowdowns.

    python benchmarks/compare_power.py --assets DIR [--quick] [--keep DIR]

DIR holds models/sst2-minilm-l6 and sst2/{train,dev}.tsv. The teacher's INT8 model is measured with 20 seeds of queries, each
time in two runs: one alone, then one in which five take turns in fresh processes: the model, the model again, and the model
made slower by 3, 5 and 10 %. So every truth is compared twice: with a report that was measured apart, and within one run. A
slowdown is found when p50 is `slower`; false are verdicts on latency and throughput where nothing was changed. The level of a
process is constant and differs from the next one's, so processes count and not queries: there are many of few. Measured apart
it is told how many slowdowns are found, and held that none is made up. `--keep` keeps the reports in a folder, and those that
are there already are compared and not measured again. At last 10^7 samples a side are compared. On a machine
on which others work, almost everything is `inconclusive`, and slowdowns are not found.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figures import Figures, options, print_table
from ptq import LABELS, max_length, read_tsv

from edgebert.compress.compression import Compression
from edgebert.compress.recipe_file import load_recipe
from edgebert.compress.resolve import resolve_recipe
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore, hash_file, hash_json
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import measure_rounds, query_order, write_rows
from edgebert.measure.machine.cores import choose_cores
from edgebert.measure.machine.environment import read_environment
from edgebert.report.compare.comparison import compare, compare_within
from edgebert.report.compare.findings import Comparison
from edgebert.report.entry import Entry
from edgebert.report.file import read_report, write_report
from edgebert.report.report import Report
from edgebert.report.rounds import Round, Setting
from edgebert.report.samples import Samples
from edgebert.runtimes.target import Target
from edgebert.tasks.base import Row

SLOWDOWNS = {False: (0.0, 0.03, 0.05, 0.10), True: (0.0, 0.10)}
TIMES = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "end_to_end_ms", "throughput", "tokenise_ms", "cold_start_ms", "load_ms")
LATENCY = TIMES[:6]
"""Metrics that a planted slowdown makes worse."""
FOUND_BY = "p50_ms"
SEEDS = {False: 20, True: 1}
PROCESSES = {False: 16, True: 4}
QUERIES = {False: 40, True: 32}
SAMPLES = {False: 10_000_000, True: 400_000}
WARMUP = 20

RECIPE = """\
model: {assets}/models/sst2-minilm-l6
task: {{name: text-classification, labels: [negative, positive], max_length: {length}}}
data:
  eval: {{path: {assets}/sst2/dev.tsv, columns: {{text: content}}}}
stages: [export, {{quantize: {{method: dynamic}}}}]
targets: [{{runtime: onnxruntime}}]
"""


@dataclass(frozen=True)
class Bench:
    """The model and how it is measured."""

    assets: Path
    work: Path
    model: Path
    reports: Path
    """Folder of the reports."""
    quick: bool

    def measure(self, name: str, slowdowns: Sequence[float], seed: int) -> list[Report]:
        """Measures the model and slowed copies of it in turns. Returns a report for each slowdown, read from its file."""
        files = [self.reports / f"{name}-{seed}-{index}.json" for index in range(len(slowdowns))]
        if all(file.exists() for file in files):
            return [read_report(file) for file in files]
        rows = read_tsv(self.assets / "sst2" / "dev.tsv")
        chosen: list[Row] = [{"text": rows[at]["text"]} for at in query_order(len(rows), WARMUP + QUERIES[self.quick], seed)]
        write_rows(self.work / "rows.json", chosen)
        jobs = [self._job(share) for share in slowdowns]
        environment = read_environment()
        measured = measure_rounds(jobs, PROCESSES[self.quick], Silent())
        setting = Setting(queries=hash_json({"rows": chosen[WARMUP:]}))
        for file, rounds in zip(files, measured, strict=True):
            write_report(file, self._report(rounds, setting).model_copy(update={"environment": environment}))
        return [read_report(file) for file in files]

    def _job(self, slowdown: float) -> RoundJob:
        return RoundJob(
            round=0,
            model=str(self.model),
            target=Target(runtime="onnxruntime"),
            task="text-classification",
            labels=LABELS,
            max_length=max_length(self.assets),
            pad_id=0,
            tokenizer=str(self.assets / "models" / "sst2-minilm-l6" / "tokenizer.json"),
            rows=str(self.work / "rows.json"),
            warmup=WARMUP,
            settle=True,
            end_to_end=True,
            pin=choose_cores(1, 1),
            slowdown=slowdown,
        )

    def _report(self, rounds: Sequence[Round], setting: Setting) -> Report:
        entry = Entry(
            name="int8-dynamic",
            role="candidate",
            stage="int8-dynamic",
            artifact=hash_file(self.model),
            target=Target(runtime="onnxruntime"),
            size_bytes=self.model.stat().st_size,
            rounds=tuple(rounds),
            setting=setting,
        )
        return Report(
            recipe="compare-power",
            task="text-classification",
            labels=LABELS,
            eval_data=None,
            environment=read_environment(),
            gates=(),
            entries=(entry,),
        )


def quantised(assets: Path, work: Path, store: ArtifactStore) -> Path:
    """The teacher exported and quantised dynamically, by edgebert's stages."""
    recipe = work / "power.yaml"
    recipe.write_text(RECIPE.format(assets=assets, length=max_length(assets)))
    store.prepare()
    run = Compression(resolve_recipe(load_recipe(str(recipe))), store, Silent())
    run.run_stages()
    artifact = next(found for found in run.made.values() if found.manifest.made_by.name == "quantize")
    return next(artifact.path / name for name in artifact.manifest.files if name.endswith(".onnx"))


def in_one_run(ref: Report, changed: Report) -> Comparison:
    """Two reports of one run, compared as entries of one report are: round by round."""
    second = changed.entries[0].model_copy(update={"role": "candidate"})
    both = ref.model_copy(update={"entries": (ref.entries[0].model_copy(update={"role": "baseline"}), second)})
    return compare_within(both)


class Counts:
    """Numbers of verdicts by planted slowdown, way of measuring and metric."""

    def __init__(self) -> None:
        self.verdicts: dict[tuple[str, float], dict[str, Counter[str]]] = {}

    def add(self, way: str, slowdown: float, comparison: Comparison) -> None:
        """Counts the verdicts of one comparison."""
        found = self.verdicts.setdefault((way, slowdown), {metric: Counter() for metric in TIMES})
        for finding in comparison.pairs[0].findings:
            if finding.metric in found:
                found[finding.metric][finding.verdict] += 1

    def of(self, way: str, slowdown: float, verdict: str, metrics: Sequence[str] = TIMES) -> int:
        """The number of comparisons with this verdict, over all the metrics."""
        return sum(self.verdicts[way, slowdown][metric][verdict] for metric in metrics)

    def print(self) -> None:
        """Prints a row for each planted slowdown, a column for each metric: faster / slower / equivalent / inconclusive."""
        words = ("faster", "slower", "equivalent", "inconclusive")
        rows = [
            [f"{way}, {slowdown:.0%} slower", *("/".join(str(found[metric][word]) for word in words) for metric in TIMES)]
            for (way, slowdown), found in self.verdicts.items()
        ]
        print_table([" / ".join(words), *TIMES], rows)


def many_samples(assets: Path, work: Path, count: int) -> float:
    """Seconds that the command takes to read and compare two reports with this number of samples each."""
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        rounds = []
        for number in range(10):
            times = generator.lognormal(0, 0.3, count // 10) * 1e6 * generator.normal(1, 0.01)
            latencies = Samples(times.astype(np.int64))
            scalars = {"load_ns": 10**8, "peak_rss_bytes": 10**8, "tokenise_ns": (), "lengths": ()}
            wall = {"wall_ns": int(times.sum()), "examples": len(times), "reference_workload_ns": Samples([2_600_000] * 8)}
            rounds.append(Round(round=number, latencies_ns=latencies, end_to_end_ns=latencies, **scalars, **wall))
        report = Bench(assets, work, Path(__file__), work, quick=False)._report(rounds, Setting(queries="q"))
        write_report(work / f"{name}.json", report)
    started = time.perf_counter()
    command = [sys.executable, "-m", "edgebert", "compare", str(work / "a.json"), str(work / "b.json"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    samples = json.loads(done.stdout)["comparisons"][0]["pairs"][0]["findings"][0]["samples"]
    print(f"{samples[0]:,} and {samples[1]:,} samples compared in {seconds:.1f} s")
    return seconds


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="for the reports; what is there already is not measured again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        assets, work = given.assets.resolve(), Path(folder)
        model = quantised(assets, work, ArtifactStore((given.store or work / "store").resolve()))
        power(Bench(assets, work, model, (given.keep or work).resolve(), given.quick))


def power(bench: Bench) -> None:
    """All seeds, measured, compared and printed."""
    quick = bench.quick
    counts, seeds, slowdowns = Counts(), SEEDS[quick], SLOWDOWNS[quick]
    for seed in range(seeds):
        (apart,) = bench.measure("apart", slowdowns[:1], seed)
        plain, *others = bench.measure("turns", (0.0, *slowdowns), seed)
        for slowdown, report in zip(slowdowns, others, strict=True):
            counts.add("apart", slowdown, compare(apart, report))
            counts.add("one run", slowdown, in_one_run(plain, report))
        print(f"seed {seed + 1} of {seeds}", file=sys.stderr, flush=True)
    counts.print()
    figures = Figures(quick)
    for way in ("apart", "one run"):
        false = counts.of(way, 0.0, "faster", LATENCY) + counts.of(way, 0.0, "slower", LATENCY)
        figures.at_most(f"{way}: false verdicts", false, 1)
        figures.at_most(f"{way}: wrong signs", sum(counts.of(way, share, "faster", LATENCY) for share in slowdowns[1:]), 0)
        for share in slowdowns[1:]:
            found = counts.of(way, share, "slower", [FOUND_BY])
            if share >= 0.05 and way == "one run":
                figures.at_least(f"{way}: {share:.0%} found", found, seeds * 19 // 20)
            else:
                figures.note(f"{way}: {share:.0%} found", found)
    figures.at_most(f"{SAMPLES[quick]:.0e} samples: seconds", many_samples(bench.assets, bench.work, SAMPLES[quick]), 10)
    figures.finish()


if __name__ == "__main__":
    main()
