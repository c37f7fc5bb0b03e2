"""Every benchmark's quick run ends well and prints its table; what its figures say is for a quiet machine and real assets."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_model, review_rows, write_table
from packed_encoders import pack_encoder
from plugged_fakes import FAKES
from tiny_families import TEXTS

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like the real assets: a tiny random teacher, reviews in the place of SST-2."""
    folder = tmp_path_factory.mktemp("assets")
    make_model(folder / "models" / "sst2-minilm-l6")
    (folder / "sst2").mkdir()
    for name, split, column in (("train", "train", "sentence"), ("dev", "eval", "content")):
        rows = [{"label": str(int(row["label"] == "positive")), column: row["text"]} for row in review_rows(120, split=split)]
        write_table(folder / "sst2" / f"{name}.tsv", rows, delimiter="\t")
    return folder


def quick(name: str, assets: Path, folder: Path, *options: str) -> str:
    """What a benchmark prints in a quick run. Those that take a store share one."""
    store = [] if name in ("robustness", "ptq") else ["--store", str(assets / "store")]
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--assets", str(assets), "--quick", *store, *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(map(str, (FAKES / "plugged", FAKES)))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_ptq_prints_both_sides_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("ptq", assets, tmp_path).splitlines()
    assert lines[0].split()[0] == "model"
    assert len([line for line in lines if line.startswith(("edgebert:", "hand:"))]) == 10
    assert lines[-1].startswith("quick run, figures do not count: best speedup=")


@pytest.mark.slow
def test_robustness_loses_nothing_and_prints_its_counts(assets: Path, tmp_path: Path) -> None:
    lines = quick("robustness", assets, tmp_path).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("broken off", "compress", "install", "switch", "model folders", "bundles", "loads during exchanges"):
        assert name in starts
    assert lines[-1].endswith("all hold")


@pytest.mark.slow
def test_prune_distill_prints_its_tables_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("prune_distill", assets, tmp_path).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("3x-seed0", "8x-seed0", "free-2x", "2x, as cut", "2x, repaired", "macs-0.5", "latency-2x", "fp32"):
        assert name in starts
    assert lines[-1].startswith("quick run, figures do not count: 3x MACs cut=")


@pytest.mark.slow
def test_quantize_prints_its_parts_and_its_figures(assets: Path, tmp_path: Path) -> None:
    """The parts planted and base do the same with other models, which the next test makes."""
    lines = quick("quantize", assets, tmp_path, "--peers", str(tmp_path / "none"), "--parts", "peers", "failed").splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("ONNX Runtime static", "NNCF on OpenVINO", "neural-compressor", "edgebert", "exit code 1"):
        assert name in starts
    assert "olive: left out, no environment" in starts
    assert lines[-1].startswith("quick run, figures do not count: t1 b1 accuracy of FP32=")
    for figure in ("speed over FP32=", "failed: exit code 1, best kept, FAILED=1 ", "failed: sensitive layers named=3 "):
        assert figure in lines[-1]


def test_models_with_planted_outliers_and_of_another_size_answer_as_they_should(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from quantize import Bench, plant, random_model

    from edgebert.runtimes.target import Target
    from edgebert.runtimes.torch import Torch

    bench = Bench(assets, tmp_path, tmp_path, tmp_path, quick=True)
    ids = np.arange(5, 25, dtype=np.int64).reshape(4, 5)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    def logits(model: Path) -> Any:
        return Torch().open(model, Target(runtime="onnxruntime")).predict(batch)["logits"]

    teacher = Path(shutil.copytree(assets / "models" / "sst2-minilm-l6", bench.teacher))
    before = logits(teacher)
    np.testing.assert_allclose(logits(plant(teacher, tmp_path / "planted")), before, rtol=0, atol=1e-3 * np.abs(before).max())
    assert logits(random_model(bench)).argmax(axis=1).tolist() == [1, 1, 1, 1]


@pytest.mark.slow
def test_compare_power_prints_its_counts_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("compare_power", assets, tmp_path).splitlines()
    assert lines[0].split()[:2] == ["faster", "/"]
    assert [line.split(" slower")[0] for line in lines[1:5]] == ["apart, 0%", "one run, 0%", "apart, 10%", "one run, 10%"]
    assert lines[-1].startswith("quick run, figures do not count: apart: false verdicts=")
    assert "one run: 10% found=" in lines[-1] and "samples: seconds=" in lines[-1]


@pytest.mark.slow
def test_device_start_prints_its_tables_and_its_figures(assets: Path, tmp_path: Path) -> None:
    lines = quick("device_start", assets, tmp_path, "--peers", str(tmp_path / "none")).splitlines()
    starts = [line.split("  ")[0] for line in lines]
    for name in ("edgebert, later loads", "edgebert, first load", "edgebert run", "together"):
        assert name in starts
    assert "optimum-onnx pipeline: left out, no environment" in starts
    assert lines[-1].startswith("quick run, figures do not count: installed MB, edgebert=")
    assert "first load peak MB=" in lines[-1]


@pytest.mark.slow
def test_clients_prints_every_client_and_its_figures(assets: Path, tmp_path: Path) -> None:
    """A quick run makes Node's environment where npm reaches its registry; the others are asked where they are there."""
    lines = quick("clients", assets, tmp_path, "--peers", str(tmp_path / "peers")).splitlines()
    names = [line.split("  ")[0].partition(": left out")[0] for line in lines]
    for name in ("Transformers.js, as the card says", "onnxruntime-node", "optimum-intel, by itself"):
        assert name in names
    assert lines[-1].startswith("figures: clients=") and lines[-1].endswith("; all hold")


@pytest.mark.slow
def test_trimming_cuts_a_packed_encoder_and_prints_what_texts_lose(tmp_path: Path) -> None:
    folder = tmp_path / "assets"
    (folder / "held-out").mkdir(parents=True)
    pack_encoder(folder / "e5-small-q4.bin")
    for language in ("de", "en"):
        (folder / "held-out" / f"{language}-texts.txt").write_text("\n".join(text for text in TEXTS * 5 if text.isascii()))
    lines = quick("trimming", folder, tmp_path).splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["text", "de: texts", "en: texts"]
    assert "rows removed=" in lines[-1] and "other tokens though all stay=0 (<= 0)" in lines[-1]
    assert "logits apart=" in lines[-1] and "logits apart" not in lines[-1].partition("; ")[2]


def test_every_benchmark_is_described_and_finds_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    described = (BENCHMARKS / "README.md").read_text()
    for file in BENCHMARKS.glob("*.py"):
        importlib.import_module(file.stem)
        if "__main__" in file.read_text():
            assert f"benchmarks/{file.name}" in described


@pytest.mark.slow
def test_tasks_prints_a_task_and_compares_its_answers(assets: Path, tmp_path: Path) -> None:
    (assets / "wnut17").mkdir()
    for name, split in (("train", "train"), ("dev", "eval")):
        texts = [row["text"].split() for row in review_rows(60, split=split)]
        tags = [["B-thing" if index == 1 else "O" for index in range(len(words))] for words in texts]
        lines = ["\n".join(f"{word}\t{tag}" for word, tag in zip(*pair, strict=True)) for pair in zip(texts, tags, strict=True)]
        (assets / "wnut17" / f"{name}.conll").write_text("\n\n".join(lines) + "\n")
    base = ("--base", str(assets / "models" / "sst2-minilm-l6"))
    lines = quick("tasks", assets, tmp_path, *base, "--only", "token-classification").splitlines()
    name = "token-classification, WNUT-17"
    assert [line.split("  ")[0] for line in lines[:-1]] == [
        "model",
        f"{name}: FP32",
        f"{name}: INT8",
        f"{name}: half of the MACs, INT8",
    ]
    assert f"{name}: answers of Transformers=1 (>= 1)" in lines[-1]


def small_similarities(folder: Path) -> None:
    """Files in the form of the STS benchmark: a review beside the next one, with scores from 0 to 5."""
    folder.mkdir()
    for name, split in (("train", "train"), ("dev", "eval")):
        texts = [row["text"] for row in review_rows(40, split=split)]
        rows = [("main", "made", "2026", f"{at}", f"{at % 11 / 2}", text, texts[at - 1]) for at, text in enumerate(texts)]
        (folder / f"sts-{name}.csv").write_text("".join("\t".join(row) + "\n" for row in rows))


def small_questions(folder: Path) -> None:
    """Files in SQuAD's form: a review is its own question and paragraph."""
    folder.mkdir()
    for name, split in (("train", "train"), ("dev", "eval")):
        texts = [row["text"] for row in review_rows(40, split=split)]
        answers = [{"text": text.split()[0], "answer_start": text.index(text.split()[0])} for text in texts]
        asked = [{"id": f"{at}", "question": text, "answers": [answers[at]]} for at, text in enumerate(texts)]
        paragraphs = [{"context": question["question"], "qas": [question]} for question in asked]
        (folder / f"{name}.json").write_text(json.dumps({"data": [{"title": name, "paragraphs": paragraphs}]}))


def without_head(assets: Path, folder: Path) -> Path:
    """The teacher's encoder alone."""
    from transformers import BertModel

    shutil.copytree(assets / "models" / "sst2-minilm-l6", folder)
    BertModel.from_pretrained(folder).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_embeddings_prints_its_tables_and_compares_its_vectors(assets: Path, tmp_path: Path) -> None:
    small_similarities(assets / "stsbenchmark")
    small_questions(assets / "squad")
    lines = quick("embeddings", assets, tmp_path, "--base", str(without_head(assets, tmp_path / "encoder"))).splitlines()
    shown = {line.rpartition("  ")[0].strip(): line.split()[-1] for line in lines[4:-1]}
    assert [line.split(":")[0] for line in lines[1:4]] == ["embedding, STS benchmark"] * 3
    assert shown["FP32"] == "1.0000"  # its neighbours are its own
    assert {line.split("  ")[0] for line in lines} >= {"INT8, int8", "INT8, binary", "half and INT8, int8"}
    assert "answers of Transformers=1 (>= 1)" in lines[-1] and "FP32, float32 vectors: recall=1," in lines[-1]
    for figure in ("INT8: spearman from FP32's=", "INT8: top-10 overlap=", "INT8, binary vectors: recall of FP32="):
        assert figure in lines[-1]


def test_neighbours_overlap_by_their_share_and_recall_counts_the_nearest_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from embeddings import nearest, overlap, recall

    found = np.tile(np.arange(20, dtype=np.float32), (2, 1))
    assert nearest(found)[0].tolist() == list(range(19, 9, -1))
    assert overlap(nearest(found), nearest(-found)) == 0.0
    assert overlap(nearest(found), nearest(np.roll(found, 5, axis=1))) == 0.5
    assert recall(found, [10, 9]) == 0.5
