"""Post-training quantisation of an SST-2 teacher: edgebert beside the same done by hand with the raw libraries.

    python benchmarks/ptq.py --assets DIR [--quick]

DIR holds models/sst2-minilm-l6 and sst2/{train,dev}.tsv. Everything is measured in one run at 1 thread: accuracy on the
dev set, latency in alternating fresh processes, and the wall time of export and quantisation, each side three times
in processes of its own. "By hand" is what a user of the libraries writes: `from_pretrained`, `torch.onnx.export`,
`quantize_dynamic`, `quantize_static`, `openvino.convert_model`, `nncf.quantize`. Both sides' files run in the same sessions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from figures import Figures, options, print_table

from edgebert.core.packages import quiet_libraries
from edgebert.core.progress import progress_for
from edgebert.measure.latency.job import RoundJob
from edgebert.measure.latency.latency import measure_rounds, query_order, write_rows
from edgebert.measure.predictions import predict_rows
from edgebert.report.rounds import Round
from edgebert.runtimes import get_runtime
from edgebert.runtimes.serving import Serving
from edgebert.runtimes.target import Target
from edgebert.tasks import get_task

METHODS = {"dynamic": "onnxruntime", "static": "onnxruntime", "nncf": "openvino"}
LABELS = ("negative", "positive")
LONGEST = 128
CALIBRATION = {False: 128, True: 16}
REPEATS = {False: 3, True: 1}

RECIPE = """\
model: {assets}/models/sst2-minilm-l6
task: {{name: text-classification, labels: [negative, positive], max_length: {length}}}
data:
  eval: {{path: {assets}/sst2/dev.tsv, columns: {{text: content}}}}
  calibration: {{path: {assets}/sst2/train.tsv, columns: {{text: sentence}}, samples: {samples}}}
stages:
  - export
  - quantize: {{method: [dynamic, static, nncf]}}
targets: [{{runtime: onnxruntime}}, {{runtime: openvino}}]
"""


@dataclass(frozen=True)
class Model:
    """A graph to measure."""

    name: str
    file: Path
    runtime: str
    side: str

    @property
    def size(self) -> int:
        """Bytes of the graph, weights included."""
        return sum(path.stat().st_size for path in self.file.parent.iterdir() if path.stem == self.file.stem)


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Rows of a tab-separated file as `text` and `label`."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [{"label": label, "text": text} for label, text in (line.split("\t") for line in lines)]


def max_length(assets: Path) -> int:
    """128 tokens, or what the teacher's positions allow."""
    config = json.loads((assets / "models" / "sst2-minilm-l6" / "config.json").read_text())
    return min(LONGEST, int(config["max_position_embeddings"]))


def by_hand(assets: Path, work: Path, samples: int) -> float:
    """Exports and quantises with the raw libraries; returns the seconds that it took."""
    from tokenizers import Tokenizer

    folder = assets / "models" / "sst2-minilm-l6"
    rows = read_tsv(assets / "sst2" / "train.tsv")[:samples]
    started = time.perf_counter()
    with quiet_libraries():
        import nncf
        import openvino as ov
        import torch
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
        from transformers import AutoModelForSequenceClassification

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(max_length(assets))
        tokenizer.no_padding()
        feeds = []
        for row in rows:
            ids = np.array([tokenizer.encode(row["text"]).ids], dtype=np.int64)
            feeds.append({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        ids = torch.arange(16, dtype=torch.int64).reshape(2, 8)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        torch.onnx.export(
            model,
            (),
            str(work / "model.onnx"),
            kwargs=inputs,
            dynamo=True,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in inputs},
            external_data=False,
        )

        class Reader(CalibrationDataReader):
            def __init__(self):
                self.queue = iter(feeds)

            def get_next(self):
                return next(self.queue, None)

        operators = ["MatMul", "Gemm", "Gather"]
        quantize_dynamic(
            work / "model.onnx",
            work / "dynamic.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=operators,
        )
        quantize_static(
            work / "model.onnx",
            work / "static.onnx",
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=operators,
        )
        graph = ov.convert_model(str(work / "model.onnx"))
        ov.save_model(graph, work / "openvino_model.xml", compress_to_fp16=False)
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=samples,
        )
        ov.save_model(quantized, work / "nncf.xml", compress_to_fp16=False)
    return time.perf_counter() - started


def with_edgebert(assets: Path, work: Path, samples: int) -> float:
    """Runs edgebert's export and quantise stages on an empty store; returns their seconds, hashing and store included."""
    from edgebert.compress.compression import Compression
    from edgebert.compress.recipe_file import load_recipe
    from edgebert.compress.resolve import resolve_recipe
    from edgebert.core.progress import Silent
    from edgebert.core.store import ArtifactStore

    recipe = work / "ptq.yaml"
    recipe.write_text(RECIPE.format(assets=assets, samples=samples, length=max_length(assets)))
    store = ArtifactStore(work / "store")
    store.prepare()
    run = Compression(resolve_recipe(load_recipe(str(recipe))), store, Silent())
    _ = run.base, run.data, run.labels  # reading the model and the data is not part of the stages
    started = time.perf_counter()
    run.run_stages()
    seconds = time.perf_counter() - started
    for artifact in run.made.values():
        for name in artifact.manifest.files:
            stem = {"export": Path(name).stem, "quantize": "".join(artifact.manifest.made_by.parameters.get("method", []))}
            target = work / f"{stem[artifact.manifest.made_by.name]}{Path(name).suffix}"
            target.hardlink_to(artifact.path / name)
    return seconds


def in_process(side: str, assets: Path, work: Path, samples: int) -> float:
    """One side in a fresh process."""
    work.mkdir(parents=True)
    command = [
        sys.executable,
        __file__,
        "--assets",
        str(assets),
        "--side",
        side,
        "--work",
        str(work),
        "--samples",
        str(samples),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def models_of(side: str, work: Path) -> list[Model]:
    """The FP32 and INT8 graphs of a side."""
    found = [
        Model("fp32", work / "model.onnx", "onnxruntime", side),
        Model("fp32", work / "openvino_model.xml", "openvino", side),
    ]
    endings = {"onnxruntime": "onnx", "openvino": "xml"}
    return found + [
        Model(f"int8-{method}", work / f"{method}.{endings[runtime]}", runtime, side) for method, runtime in METHODS.items()
    ]


def accuracy(model: Model, serving: Serving, rows: list[dict[str, str]]) -> float:
    """Share of dev sentences that a model answers right, at batch 1."""
    target = Target(runtime=model.runtime)
    session = get_runtime(model.runtime).open(model.file, target)
    found = predict_rows(session.predict, serving, [rows], target, name=model.name)
    return float(np.mean([label == serving.labels[int(row["label"])] for label, row in zip(found, rows, strict=True)]))


def latencies(
    models: list[Model], serving: Serving, rows: list[dict[str, str]], *, rounds: int, queries: int, work: Path
) -> list[list[Round]]:
    """Single-stream rounds of every model, taking turns."""
    order = query_order(len(rows), queries + 20, seed=0)
    write_rows(work / "rows.json", [rows[index] for index in order])
    jobs = [
        RoundJob(
            round=0,
            model=str(model.file),
            target=Target(runtime=model.runtime),
            task=serving.task.name,
            labels=serving.labels,
            max_length=serving.max_length,
            pad_id=0,
            tokenizer=str(serving.tokenizer),
            rows=str(work / "rows.json"),
            warmup=20,
        )
        for model in models
    ]
    return measure_rounds(jobs, rounds, progress_for())


def percentile(rounds: list[Round], percent: int) -> float:
    """A percentile of all timed queries, in milliseconds."""
    return float(np.percentile([ns for item in rounds for ns in item.latencies_ns], percent)) / 1e6


def main() -> None:
    """Runs the benchmark."""
    parser = options(__doc__ or "", store=False)
    parser.add_argument("--side", choices=["hand", "edgebert"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--samples", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    assets = given.assets.resolve()
    if given.side:
        print(json.dumps({"hand": by_hand, "edgebert": with_edgebert}[given.side](assets, given.work, given.samples)))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(assets, Path(folder), quick=given.quick)


def compare(assets: Path, work: Path, *, quick: bool) -> None:
    """Measures both sides and prints the figures."""
    seconds: dict[str, list[float]] = {"hand": [], "edgebert": []}
    for turn in range(REPEATS[quick]):
        for side in ("hand", "edgebert") if turn % 2 == 0 else ("edgebert", "hand"):
            seconds[side].append(in_process(side, assets, work / f"{side}{turn}", CALIBRATION[quick]))
            print(f"{side}: export and quantise in {seconds[side][-1]:.1f} s", file=sys.stderr)
    models = [model for side in ("edgebert", "hand") for model in models_of(side, work / f"{side}0")]
    rows = read_tsv(assets / "sst2" / "dev.tsv")[: 96 if quick else None]
    tokenizer = assets / "models" / "sst2-minilm-l6" / "tokenizer.json"
    serving = Serving(get_task("text-classification"), LABELS, max_length(assets), 0, tokenizer)
    right = [accuracy(model, serving, rows) for model in models]
    rounds = latencies(models, serving, rows, rounds=1 if quick else 6, queries=48 if quick else 250, work=work)
    report(models, right, rounds, seconds, Figures(quick))


def report(
    models: list[Model], right: list[float], rounds: list[list[Round]], seconds: dict[str, list[float]], figures: Figures
) -> None:
    """Prints the table and the line of figures, and exits."""
    p50 = {(model.side, model.runtime, model.name): percentile(found, 50) for model, found in zip(models, rounds, strict=True)}
    sizes = {(model.side, model.runtime, model.name): model.size for model in models}
    score = {(model.side, model.runtime, model.name): value for model, value in zip(models, right, strict=True)}
    table = []
    for model, found in zip(models, rounds, strict=True):
        key, base = (model.side, model.runtime, model.name), ("edgebert", model.runtime, "fp32")
        cells = [f"{score[key]:.4f}", f"{p50[key]:.2f}", f"{percentile(found, 90):.2f}", f"{p50[base] / p50[key]:.2f}x"]
        table.append(
            [
                f"{model.side}: {model.runtime}/{model.name}",
                *cells,
                f"{sizes[key] / 1e6:.1f}",
                f"{sizes[key] / sizes[base]:.1%}",
            ]
        )
    print_table(["model", "dev acc", "p50 ms", "p90 ms", "faster", "size MB", "of FP32"], table)
    int8 = [(f"int8-{method}", runtime) for method, runtime in METHODS.items()]
    best = max(p50["edgebert", runtime, "fp32"] / p50["edgebert", runtime, name] for name, runtime in int8)
    figures.at_least("best speedup", best, 2.0)
    for name, runtime in int8:
        key, base = ("edgebert", runtime, name), ("edgebert", runtime, "fp32")
        figures.at_least(f"{name} accuracy of FP32", score[key] / score[base], 0.99)
        figures.at_most(f"{name} size of FP32", sizes[key] / sizes[base], 0.27)
        figures.at_least(f"{name} speed over by hand", p50["hand", runtime, name] / p50[key], 0.97)
    figures.at_most("stage time over by hand", float(np.median(seconds["edgebert"]) / np.median(seconds["hand"])), 1.1)
    figures.finish()


if __name__ == "__main__":
    main()
