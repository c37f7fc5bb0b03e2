"""`method: auto` beside other tools, each at its own best documented settings, measured alike in one run.

    python benchmarks/quantize.py --assets DIR [--peers DIR] [--work DIR] [--parts peers planted base failed] [--quick]

DIR holds models/sst2-minilm-l6 and sst2/{train,dev}.tsv. The parts:

- peers: the raw libraries (ONNX Runtime dynamic and static, NNCF on OpenVINO, neural-compressor), optimum, Olive,
  sentence-transformers and edgebert on 1 thread and on all, one text a query and 8: accuracy on all dev sentences at that
  batch, and latency in fresh processes that take turns. Each ONNX file runs in ONNX Runtime with its own defaults, NNCF's
  model as OpenVINO's documentation has it: compiled once, for all lengths. What edgebert selected runs as its bundle says.
- planted: the teacher with outliers planted in its value channels, which answers as before in FP32;
- base: BERT-base's size, random weights, texts of exactly 128 tokens, 1 thread: speed alone;
- failed: a gate that nobody passes.

`--peers` is a folder of virtual environments for the tools whose pins exclude edgebert's, made with pip where missing. A
quick run makes none and leaves those tools out, takes the first two layers of the teacher, one setting and ONNX Runtime as
edgebert's only target, and works at two parts at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
from figures import Figures, options, print_table
from peers.contest import Contender, Result, Texts, hold, served
from peers.tools import TOOLS, Raw
from runs import Compressed, compress, recipe

from edgebert.core.packages import quiet_libraries

STAGES = [{"quantize": {"method": "auto"}}]
BOTH: tuple[Literal["onnxruntime", "openvino"], ...] = ("onnxruntime", "openvino")
KEPT, AHEAD, FASTER, FASTER_BASE, COVERED = 0.99, 1.15, 2.5, 3.3, 0.95
SPREAD = 1.05
"""How far p90/p50 may exceed FP32's: it varies that much from run to run."""
QUICK_LAYERS = 2
NOBODY_PASSES = [{"metric": "accuracy", "min": 1.01}]
"""Gates that no model passes: more right answers than texts. A quick run searches with these alone, and so only once."""
FP32 = {"onnxruntime": "ONNX Runtime FP32", "openvino": "OpenVINO FP32"}
RAW: tuple[tuple[str, str, Literal["onnxruntime", "openvino"]], ...] = (
    ("ONNX Runtime dynamic", "dynamic.onnx", "onnxruntime"),
    ("ONNX Runtime static", "static.onnx", "onnxruntime"),
    ("ONNX Runtime static, products", "static_products.onnx", "onnxruntime"),
    ("NNCF on OpenVINO", "nncf.xml", "openvino"),
    ("neural-compressor", "neural_compressor.onnx", "onnxruntime"),
)
OUTLIER, CHANNELS = 200.0, 2
"""Factor of the planted value channels, and their number in each head."""


@dataclass(frozen=True)
class Bench:
    """Folders and options of a run of the benchmark."""

    assets: Path
    peers: Path
    work: Path
    store: Path
    quick: bool

    @property
    def teacher(self) -> Path:
        """The model folder."""
        return self.work / "shallow" if self.quick else self.assets / "models" / "sst2-minilm-l6"

    @property
    def runtimes(self) -> tuple[Literal["onnxruntime", "openvino"], ...]:
        """The runtimes that edgebert chooses from."""
        return BOTH[:1] if self.quick else BOTH

    @property
    def samples(self) -> int:
        """Number of calibration texts, the same for every tool."""
        return 16 if self.quick else 128

    @property
    def max_length(self) -> int:
        """128 tokens, or what the teacher's positions allow."""
        return min(128, int(json.loads((self.teacher / "config.json").read_text())["max_position_embeddings"]))

    def texts(self) -> Texts:
        """The dev sentences."""
        titles, *lines = (self.assets / "sst2" / "dev.tsv").read_text(encoding="utf-8").splitlines()
        names = ["text" if title == "content" else title for title in titles.split("\t")]
        rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
        return Texts(rows[: 48 if self.quick else None], self.teacher / "tokenizer.json", self.max_length)

    def raw(self, model: Path, name: str) -> Raw:
        """The raw libraries on a model."""
        return Raw(model, self.assets / "sst2" / "train.tsv", self.samples, self.max_length, self.work / name)

    def data(self) -> dict[str, Any]:
        """The `data` section of a recipe: SST-2."""
        return {
            "eval": {
                "path": str(self.assets / "sst2" / "dev.tsv"),
                "columns": {"text": "content"},
                **({"limit": 48} if self.quick else {}),
            },
            "calibration": {
                "path": str(self.assets / "sst2" / "train.tsv"),
                "columns": {"text": "sentence"},
                "samples": self.samples,
            },
        }

    def compress(self, name: str, model: Path, targets: Sequence[Mapping[str, Any]], **changes: Any) -> Compressed:
        """Runs `quantize: {method: auto}` on a model."""
        said = {
            "stages": STAGES,
            "data": self.data(),
            "gates": [{"metric": "accuracy", "min_ratio": KEPT}],
            "measure": {"rounds": 1, "queries": 24, "warmup": 2} if self.quick else {"rounds": 4, "queries": 100},
            "max_length": self.max_length,
        }
        made = recipe(model, targets=targets, **{**said, **changes})
        return compress(made, self.work, self.store, name)


def peers(bench: Bench, figures: Figures) -> None:
    """Compares all tools in four settings."""
    raw = bench.raw(bench.teacher, "raw")
    for library in ("onnxruntime", "nncf", "neural-compressor"):
        raw.run(library)
    made, absent = tool_files(bench)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    settings = list(product(dict.fromkeys((1, cores)), (1, 8)))
    for threads, batch in settings[:1] if bench.quick else settings:
        service = {"threads": threads, "batch": batch}
        gates = {"gates": NOBODY_PASSES} if bench.quick else {}
        targets = [{"runtime": name, **service} for name in bench.runtimes]
        run = bench.compress(f"t{threads}-b{batch}", bench.teacher, targets, **gates)
        contenders = [
            Contender(FP32["onnxruntime"], raw.out / "model.onnx", served("onnxruntime", threads, batch)),
            Contender(FP32["openvino"], raw.out / "openvino_model.xml", served("openvino", threads, batch)),
            *(raw_contender(raw.out / file, name, runtime, threads, batch) for name, file, runtime in RAW),
            *(Contender(name, file, served("onnxruntime", threads, batch)) for name, file in made.items()),
            run.chosen,
        ]
        rounds, queries = (1, 24) if bench.quick else (4, 200 if batch == 1 else 60)
        results = hold(contenders, bench.texts(), rounds=rounds, queries=queries)
        print_contest(f"{threads} thread{'s' * (threads > 1)}, batch {batch}", results, absent)
        print(f"{run.choice}\n", flush=True)
        peers_figures(f"t{threads} b{batch}", run, results, figures, alone=threads == batch == 1)


def tool_files(bench: Bench) -> tuple[dict[str, Path], list[str]]:
    """Tool -> its INT8 file, and the tools that a quick run leaves out."""
    absent = [tool.name for tool in TOOLS if bench.quick and not tool.environment(bench.peers).is_dir()]
    found = {}
    for tool in TOOLS:
        if tool.name not in absent:
            tool.install(bench.peers)
            print(f"{tool.name}: quantises", file=sys.stderr, flush=True)
            found[tool.name] = tool.make(bench.peers, bench.teacher, bench.work / tool.name)
    return found, absent


def raw_contender(file: Path, name: str, runtime: Literal["onnxruntime", "openvino"], threads: int, batch: int) -> Contender:
    """The file of a raw library. OpenVINO takes any length there, so a batch is padded to its longest text only."""
    if runtime == "openvino":
        return Contender(name, file, served(runtime, threads, batch, length_bucket=1), one_graph=True)
    return Contender(name, file, served(runtime, threads, batch))


def print_contest(title: str, results: Mapping[str, Result], absent: Sequence[str]) -> None:
    """Prints the table of a setting."""
    base = results[FP32["onnxruntime"]]
    rows = [
        [
            name,
            f"{result.accuracy:.4f}",
            f"{result.accuracy / base.accuracy:.2%}",
            f"{result.percentile(50):.3f}",
            f"{result.percentile(90):.3f}",
            f"{result.spread:.2f}",
            f"{base.percentile(50) / result.percentile(50):.2f}x",
        ]
        for name, result in results.items()
    ]
    rows += [[f"{name}: left out, no environment", *[""] * 6] for name in absent]
    print_table([title, "dev acc", "of FP32", "p50 ms", "p90 ms", "p90/p50", "faster"], rows)


def peers_figures(setting: str, run: Compressed, results: Mapping[str, Result], figures: Figures, *, alone: bool) -> None:
    """Notes the figures of edgebert in a setting, with their bounds. `alone`: 1 thread, one text a query."""
    ours, base = results["edgebert"], results[FP32["onnxruntime"]]
    same = results[FP32[run.chosen.target.runtime]]
    rivals = [one for name, one in results.items() if name != "edgebert" and one.accuracy >= KEPT * base.accuracy]
    next_best = {percent: min(one.percentile(percent) for one in rivals) for percent in (50, 90)}
    figures.at_least(f"{setting} accuracy of FP32", ours.accuracy / base.accuracy, KEPT)
    figures.at_least(f"{setting} p50 ahead of the next", next_best[50] / ours.percentile(50), AHEAD)
    figures.at_least(f"{setting} p90 ahead of the next", next_best[90] / ours.percentile(90), 1.0)
    figures.at_most(f"{setting} p90/p50 over FP32's", ours.spread / same.spread, SPREAD)
    figures.at_least(f"{setting} int8_coverage", run.coverage, COVERED)
    if alone:
        figures.at_least(f"{setting} speed over FP32", same.percentile(50) / ours.percentile(50), FASTER)


def planted(bench: Bench, figures: Figures) -> None:
    """Quantises a model that plain quantisation breaks."""
    model = plant(bench.teacher, bench.work / "planted-model")
    raw = bench.raw(model, "planted-raw")
    raw.run("onnxruntime")
    run = bench.compress("planted", model, [{"runtime": name} for name in bench.runtimes])
    contenders = [
        Contender(FP32["onnxruntime"], raw.out / "model.onnx", served("onnxruntime")),
        *(raw_contender(raw.out / file, name, runtime, 1, 1) for name, file, runtime in RAW[:3]),
        run.chosen,
    ]
    results = hold(contenders, bench.texts(), rounds=0, queries=0)
    base = results[FP32["onnxruntime"]].accuracy
    rows = [[name, f"{one.accuracy:.4f}", f"{one.accuracy / base:.2%}"] for name, one in results.items()]
    print_table(["planted outliers", "dev acc", "of FP32"], rows)
    print(f"{run.choice}\n", flush=True)
    broken = max(results[name].accuracy for name, _, _ in RAW[1:3])
    figures.at_most("planted: plain static's accuracy of FP32", broken / base, KEPT)
    figures.at_least("planted: edgebert's accuracy of FP32", results["edgebert"].accuracy / base, KEPT)


def plant(source: Path, target: Path) -> Path:
    """A copy whose value channels are scaled up and the columns of the output matrix that read them scaled down.

    The attention's answer is linear in its values, so FP32 answers as before; an INT8 range that all channels share is
    filled by the scaled ones.
    """
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, target)
    config = json.loads((source / "config.json").read_text())
    width = config["hidden_size"] // config["num_attention_heads"]
    places = [head * width + index for head in range(config["num_attention_heads"]) for index in range(CHANNELS)]
    weights = {name: value.astype(np.float32) for name, value in load_file(source / "model.safetensors").items()}
    for layer in range(config["num_hidden_layers"]):
        attention = f"bert.encoder.layer.{layer}.attention"
        weights[f"{attention}.self.value.weight"][places] *= OUTLIER
        weights[f"{attention}.self.value.bias"][places] *= OUTLIER
        weights[f"{attention}.output.dense.weight"][:, places] /= OUTLIER
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def base(bench: Bench, figures: Figures) -> None:
    """Measures speed at BERT-base's size."""
    model = random_model(bench)
    length = bench.max_length
    texts = long_texts(bench, length, 12 if bench.quick else 64)
    file = bench.work / "long.tsv"
    file.write_text("\n".join(["label\ttext", *(f"{row['label']}\t{row['text']}" for row in texts.rows)]) + "\n")
    data = {"eval": {"path": str(file)}, "calibration": {"path": str(file), "samples": 8 if bench.quick else 32}}
    measure = {"rounds": 1, "queries": 16, "warmup": 2} if bench.quick else {"rounds": 2, "queries": 40, "warmup": 5}
    gates = [{"metric": "accuracy", "min": 0.0}]  # what random weights answer says nothing
    said = {"data": data, "measure": measure, "gates": gates}
    run = bench.compress("base", model, [{"runtime": name} for name in bench.runtimes], **said)
    contenders = [*(run.baseline(name, FP32[name]) for name in bench.runtimes), run.chosen]
    rounds, queries = (1, 8) if bench.quick else (4, 25)
    results = hold(contenders, texts, rounds=rounds, queries=queries, warmup=3)
    rows = [
        [name, f"{one.percentile(50):.2f}", f"{one.percentile(90):.2f}", f"{slow.percentile(50) / one.percentile(50):.2f}x"]
        for slow in [results[FP32["onnxruntime"]]]
        for name, one in results.items()
    ]
    size = "two narrow layers" if bench.quick else "BERT-base's size"
    print_table([f"{size}, random weights, {length} tokens", "p50 ms", "p90 ms", "faster"], rows)
    print(f"{run.choice}\n", flush=True)
    same = results[FP32[run.chosen.target.runtime]]
    figures.at_least("base: speed over FP32", same.percentile(50) / results["edgebert"].percentile(50), FASTER_BASE)


def random_model(bench: Bench) -> Path:
    """A model with random weights and the teacher's vocabulary; for a quick run it has two narrow layers.

    The bias of its head makes every answer the second label, whatever is quantised: there is no accuracy to lose.
    """
    with quiet_libraries():
        import torch
        from transformers import BertConfig, BertForSequenceClassification

    target = bench.work / "base-model"
    teacher = json.loads((bench.teacher / "config.json").read_text())
    narrow = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=teacher["vocab_size"], num_labels=2, **(narrow if bench.quick else {}))
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([0.0, 10.0]))
    with quiet_libraries():
        model.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (bench.teacher / name).is_file():
            shutil.copyfile(bench.teacher / name, target / name)
    return target


def long_texts(bench: Bench, length: int, count: int) -> Texts:
    """Dev sentences joined until they fill `length` tokens; the tokenizer cuts the rest."""
    texts = bench.texts()
    order = np.random.default_rng(0).integers(0, len(texts.rows), (count, length))
    joined = [" ".join(texts.rows[index]["text"] for index in places) for places in order]
    # A text of `length` words has at least as many tokens.
    rows = [{"label": str(index % 2), "text": " ".join(text.split()[:length])} for index, text in enumerate(joined)]
    return replace(texts, rows=rows, max_length=length)


def failed(bench: Bench, figures: Figures) -> None:
    """Runs with a gate that no model passes."""
    run = bench.compress("failed", bench.teacher, [{"runtime": "onnxruntime"}], gates=NOBODY_PASSES)
    told = run.output[run.output.index("FAILED:") :]
    print(f"exit code {run.code}\n{told}", flush=True)
    named = re.search(r"most sensitive to INT8: (.+)", told)
    figures.at_least("failed: exit code 1, best kept, FAILED", run.code == 1 and run.manifest.verdict == "FAILED", 1)
    figures.at_least("failed: sensitive layers named", len(named[1].split(", ")) if named else 0, 3)
    figures.at_least("failed: what to try", "what to try next:" in told, 1)


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "edgebert-peers")
    parser.add_argument("--work", type=Path, help="a new folder that keeps what is made; by default a temporary one")
    parser.add_argument("--parts", nargs="+", choices=WORK, default=list(WORK))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        store = (given.store or work / "store").resolve()
        run(Bench(given.assets.resolve(), given.peers.resolve(), work, store, given.quick), given.parts)


def run(bench: Bench, names: Sequence[str]) -> None:
    """Runs the parts in order, then prints the line of figures."""
    figures = Figures(bench.quick)
    if bench.quick:
        shallow(bench.assets / "models" / "sst2-minilm-l6", bench.teacher)
        with ProcessPoolExecutor(2) as pool:
            for printed, found in pool.map(quietly, names, repeat(bench)):
                print(printed, end="")
                figures.said += found.said
                figures.short += found.short
    else:
        for name in names:
            WORK[name](bench, figures)
    figures.finish()


def quietly(name: str, bench: Bench) -> tuple[str, Figures]:
    """Runs a part. Returns what it would have printed, and its figures."""
    figures, printed = Figures(bench.quick), io.StringIO()
    with contextlib.redirect_stdout(printed):
        WORK[name](bench, figures)
    return printed.getvalue(), figures


def shallow(source: Path, target: Path) -> None:
    """A copy of a classifier that has only its first layers."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(source, target)
    config = json.loads((source / "config.json").read_text())
    if config["num_hidden_layers"] <= QUICK_LAYERS:
        return
    (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": QUICK_LAYERS}))
    layer = re.compile(r"encoder\.layer\.(\d+)\.")
    weights = load_file(source / "model.safetensors")
    kept = [name for name in weights if not (found := layer.search(name)) or int(found[1]) < QUICK_LAYERS]
    save_file({name: weights[name] for name in kept}, target / "model.safetensors", metadata={"format": "pt"})


WORK = {"peers": peers, "planted": planted, "base": base, "failed": failed}

if __name__ == "__main__":
    main()
