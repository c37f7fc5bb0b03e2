"""A tiny real model, its data and a recipe, made here: what is broken off, mutated and exchanged."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALIBRATION = Path(__file__).parent.parent.parent / "calibration" / "reviews-en"
QUICK_MEASURE = "{rounds: 1, queries: 8, warmup: 1, golden_inputs: 2}"
RECIPE = f"""\
model: ./model
task: {{name: text-classification, max_length: 32}}
data:
  train: data/train.csv
  eval: data/eval.csv
  calibration: {{path: data/train.csv, samples: 8}}
stages:
  - finetune: {{epochs: 2, batch_size: 8, checkpoint_seconds: 0.05}}
  - export
  - quantize: {{method: [dynamic, static]}}
targets:
  - {{runtime: onnxruntime, threads: 1}}
gates:
  - {{metric: accuracy, min: 0.0}}
measure: {QUICK_MEASURE}
seed: 0
"""
"""Training with checkpoints, an export and two methods, on a model that takes seconds."""


def command(*words: object) -> Callable[[], object]:
    """`edgebert WORDS`, to be run in a fork."""

    def work() -> object:
        from edgebert.cli.main import main

        sys.argv = ["edgebert", *map(str, words)]
        return main()

    return work


def make_workspace(folder: Path) -> Path:
    """Writes recipe.yaml, model/ and data/ into a new folder."""
    make_model(folder / "model")
    (folder / "data").mkdir()
    for split, count in (("train", 48), ("eval", 24)):
        lines = (CALIBRATION / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1 : count + 1]
        with (folder / "data" / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *(line.split("\t")[:2] for line in lines)])
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def make_model(folder: Path, seed: int = 0) -> None:
    """Saves a BERT of two layers, 32 wide, with random weights, and a WordPiece tokenizer of the calibration set."""
    import torch
    from tokenizers import BertWordPieceTokenizer

    from edgebert.core.packages import quiet_libraries

    with quiet_libraries():
        from transformers import BertConfig, BertForSequenceClassification

    folder.mkdir(parents=True)
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    texts = [line.split("\t")[0] for line in (CALIBRATION / "train.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    tokenizer.train_from_iterator(texts, vocab_size=600, show_progress=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    marks: dict[str, Any] = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        initializer_range=0.5,  # random weights of BERT's usual 0.02 answer the same to every text
    )
    with quiet_libraries():
        BertForSequenceClassification(config).eval().save_pretrained(folder)
