"""Stages that do not fit each other, the model or the data: all faults are reported before any work, and nothing is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from breaks import Break, Case, assert_case, both, cases, config, nothing, put, stages, swap, tensors


def lose_head(weights: dict[str, Any]) -> None:
    for name in [name for name in weights if name.startswith("classifier.")]:
        del weights[name]


NO_DATA_BUT_EVAL = both(swap("  train: data/train.csv\n", ""), swap("  calibration: {path: data/train.csv, samples: 8}\n", ""))


@cases(
    Case("nncf without OpenVINO", stages("quantize: {method: nncf}"), ("no target runs what `int8-nncf`", "runtime: openvino")),
    Case("export without a head", tensors(lose_head), ("stages.0.export", "not fine-tuned", "Put `- finetune` before it")),
    Case("quantize without a head", both(stages("quantize"), tensors(lose_head)), ("stages.0.quantize", "Put `- finetune`")),
    Case("finetune after quantize", stages("quantize", "finetune"), ("stages.1.finetune", "Put it before them")),
    Case("distill after quantize", stages("quantize", "distill"), ("stages.1.distill", "Put it before them")),
    Case("no training data", both(stages("finetune", "export"), NO_DATA_BUT_EVAL), ("stages.0.finetune", "Give data.train")),
    Case(
        "no calibration data",
        both(stages("export", "quantize: {method: static}"), NO_DATA_BUT_EVAL),
        ("stages.1.quantize: needs calibration data", "Give data.calibration"),
    ),
    Case("target that runs nothing", swap("onnxruntime", "openvino"), ("no target runs what `int8-dynamic` makes", "Add `-")),
    Case("other count of labels", swap("max_length: 32", "labels: [a, b, c]"), ("task.labels: has 3 names", "2 outputs")),
    Case("other labels", swap("max_length: 32", "labels: [a, b]"), ("'negative' (10 rows) is not one of", "a, b")),
    Case("longer than the positions", swap("max_length: 32", "max_length: 65"), ("65 tokens do not fit", "64 positions")),
    Case(
        "all at once",
        both(stages("quantize: {method: nncf}"), swap("max_length: 32", "max_length: 65, labels: [a, b, c]")),
        ("3 problems", "int8-nncf", "task.max_length", "task.labels"),
    ),
)
def test_compress_refuses_what_cannot_work_together(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


def prune(parameters: str, *before: str) -> Break:
    """A recipe that prunes; the model has 2 layers of 4 heads and 64 FFN neurons, and 64 positions."""
    return stages(*before, f"prune: {parameters}", "export", "quantize")


def distill(parameters: str, *before: str) -> Break:
    """A recipe that distils; the model is 32 wide, with heads of 8."""
    return stages(*before, f"distill: {parameters}", "export", "quantize")


SHAPES = {"num_hidden_layers", "hidden_size", "id2label", "max_position_embeddings"}
"""Values of config.json that decide the shapes of weights."""


def fit_weights(model: Path) -> None:
    """Gives a model random weights of the shapes that its config.json asks for."""
    from transformers import BertConfig, BertForSequenceClassification

    BertForSequenceClassification(BertConfig.from_pretrained(model)).save_pretrained(model)


def teacher(change: Break = nothing, **values: Any) -> Break:
    """Makes a folder `teacher`: a model of another config.json, with weights of that shape, or changed in another way."""

    def made(folder: Path) -> None:
        (folder / "elsewhere").mkdir()
        shutil.copytree(folder / "model", folder / "elsewhere" / "model")
        both(config(**values), change)(folder / "elsewhere")
        if values.keys() & SHAPES:
            fit_weights(folder / "elsewhere" / "model")
        (folder / "elsewhere" / "model").rename(folder / "teacher")
        (folder / "elsewhere").rmdir()

    return made


def vocabulary(change: Callable[[dict[str, Any]], object]) -> Break:
    """Changes tokenizer.json."""

    def broken(folder: Path) -> None:
        file = folder / "model" / "tokenizer.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return broken


def lose_cls(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["[OTHER]"] = tokenizer["model"]["vocab"].pop("[CLS]")
    tokenizer["post_processor"]["cls"][0] = "[OTHER]"


def become_pairs(tokenizer: dict[str, Any]) -> None:
    vocab = tokenizer["model"]["vocab"]
    tokenizer["model"] = {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"}


NO_EXAMPLES = both(NO_DATA_BUT_EVAL, swap("eval: data/eval.csv", "eval: data/eval.csv\n  calibration: data/train.csv"))
ONE_OF = "needs exactly one of macs, speedup, keep"


@cases(
    Case("removes nothing", prune("{}"), ("line 8: stages.0.prune: removes nothing: give to, sizes, vocabulary or positions",)),
    Case("depth alone", prune("{depth: 1}"), ("depth and steps go with `to`, which says how small; give it",)),
    Case("steps alone", prune("{positions: 32, steps: 2}"), ("depth and steps go with `to`",)),
    Case("no goal", prune("{to: {}}"), (f"prune.to: {ONE_OF}; it has none",)),
    Case("two goals", prune("{to: {macs: 0.5, keep: 0.9}}"), (f"{ONE_OF}; it has macs, keep",)),
    Case("all MACs", prune("{to: {macs: 1}}"), ("prune.to.macs: input should be less than 1, got 1",)),
    Case("no MACs", prune("{to: {macs: 0}}"), ("prune.to.macs: input should be greater than 0, got 0",)),
    Case("fewer than no MACs", prune("{to: {macs: -0.5}}"), ("prune.to.macs: input should be greater than 0",)),
    Case("no speed-up", prune("{to: {speedup: 1}}"), ("prune.to.speedup: input should be greater than 1, got 1",)),
    Case("more than the teacher", prune("{to: {keep: 1.5}}"), ("prune.to.keep: input should be less than or equal to 1",)),
    Case(
        "metric that the task does not have",
        prune("{to: {keep: 0.9, metric: bleu}}"),
        ("line 8: stages.0.prune.to.metric: text-classification has no metric `bleu`", "Take one of accuracy, macro_f1"),
    ),
    Case("metric of a size", prune("{to: {macs: 0.5, metric: accuracy}}"), ("prune.to: metric goes with keep",)),
    Case("goal that is a number", prune("{to: 0.5}"), ("prune.to", "0.5")),
    Case("to and sizes", prune("{to: {macs: 0.5}, sizes: {heads: 2}}"), ("`to` and `sizes` exclude each other; drop one",)),
    Case("sizes and steps", prune("{sizes: {heads: 2}, steps: 2}"), ("`sizes` says all; drop steps and depth",)),
    Case("keep and steps", prune("{to: {keep: 0.9}, steps: 2}"), ("takes as many steps as it needs; drop steps",)),
    Case("no sizes", prune("{sizes: {}}"), ("needs layers, heads or intermediate_sizes",)),
    Case("no heads", prune("{sizes: {heads: 0}}"), ("sizes.heads has 0; a layer keeps 1 or more", "sizes.layers")),
    Case("no heads in a layer", prune("{sizes: {heads: [2, 0]}}"), ("sizes.heads has 0; a layer keeps 1 or more",)),
    Case("more heads", prune("{sizes: {heads: 5}}"), ("sizes.heads has 5, but the layer has 4; pruning only removes",)),
    Case("more neurons", prune("{sizes: {intermediate_sizes: [64, 65]}}"), ("sizes.intermediate_sizes has 65", "has 64")),
    Case("too few entries", prune("{sizes: {heads: [2]}}"), ("sizes.heads has 1 entries for 2 layers that stay",)),
    Case("too many entries", prune("{sizes: {layers: [0], heads: [2, 2]}}"), ("has 2 entries for 1 layers that stay",)),
    Case("layer beyond the last", prune("{sizes: {layers: [0, 2]}}"), ("names layer 2; the model has 0 to 1",)),
    Case("layer before the first", prune("{sizes: {layers: [-1, 1]}}"), ("names layer -1; the model has 0 to 1",)),
    Case("layers out of order", prune("{sizes: {layers: [1, 0]}}"), ("sizes.layers must be ascending and distinct",)),
    Case("layer twice", prune("{sizes: {layers: [1, 1]}}"), ("sizes.layers must be ascending and distinct",)),
    Case("no layers", prune("{sizes: {layers: []}}"), ("sizes.layers", "at least")),
    Case("too deep", prune("{to: {macs: 0.5}, depth: 3, block: 8}"), ("depth is 3, but the model has 2 layers",)),
    Case("wide block", prune("{to: {macs: 0.5}, block: 65}"), ("block is 65, but the widest layer has 64 FFN neurons",)),
    Case(
        "few positions", prune("{positions: 31}"), ("positions is 31, but inputs have up to 32 tokens; give task.max_length",)
    ),
    Case("many positions", prune("{positions: 65}"), ("positions is 65, but the model has 64",)),
    Case("hardly a position", prune("{positions: 2}"), ("prune.positions: input should be greater than or equal to 3",)),
    Case(
        "vocabulary without [CLS]",
        both(prune("{vocabulary: {}}"), vocabulary(lose_cls)),
        ("stages.0.prune", "the token '[CLS]'", "Take the tokenizer files"),
    ),
    Case(
        "another kind of tokenizer",
        both(prune("{vocabulary: {}}"), vocabulary(become_pairs)),
        (
            "stages.0.prune",
            "a tokenizer of type WordLevel; vocabularies of these types can be cut",
            "Leave the vocabulary",
        ),
    ),
    Case(
        "tokenizer whose files do not agree",
        both(prune("{to: {macs: 0.5}, vocabulary: {}}"), put("model/added_tokens.json", '{"<x>": 7}')),
        ("stages.0.prune", "lists the token '<x>', which tokenizer.json does not have", "Take the tokenizer files"),
    ),
    Case(
        "padding by a token that may be cut",
        both(prune("{vocabulary: {}}"), config(pad_token_id=9)),
        ("stages.0.prune", "has the pad_token_id 9, which is a token that may be cut"),
    ),
    Case(
        "tokenizer of a larger model",
        both(prune("{vocabulary: {}}"), config(vocab_size=3)),
        ("word_embeddings.weight has the shape (104, 32)", "asks for (3, 32)"),
    ),
    Case("unknown importance", prune("{to: {macs: 0.5}, importance: fischer}"), ("prune.importance", "`fisher`")),
    Case("unknown setting of the recovery", prune("{to: {macs: 0.5}, recover: {epoch: 1}}"), ("recover.epoch", "`epochs`")),
    Case("recovery without steps", prune("{to: {macs: 0.5}, recover: {epochs: 1}}"), ("`recover`", "add steps: 2 or more")),
    Case("recovery of given sizes", prune("{sizes: {heads: 2}, recover: {}}"), ("`recover`", "`to: {keep: ...}`")),
    Case(
        "recovery of layers by number",
        prune("{to: {macs: 0.5}, steps: 2, recover: {layer_map: [[2, 2]]}}"),
        ("prune.recover: layer_map names layers, which a step may drop; take last, kept or uniform",),
    ),
    Case(
        "relations that do not fit the heads",
        prune("{to: {keep: 0.9}, recover: {relations: 1, relation_heads: 3}}"),
        ("stages.0.prune: recover: relation_heads is 3, which does not divide heads of 8",),
    ),
    Case(
        "recovery by labels that are not there",
        both(prune("{to: {macs: 0.5}, steps: 2, recover: {hard: 1}}"), NO_EXAMPLES),
        ("stages.0.prune: needs training data", "Give data.train"),
    ),
    Case("prune before finetune", both(prune("{to: {macs: 0.5}}"), tensors(lose_head)), ("stages.0.prune", "Put `- finetune`")),
    Case("prune without examples", both(prune("{to: {macs: 0.5}}"), NO_EXAMPLES), ("needs examples", "data.transfer")),
    Case(
        "prune after quantize",
        stages("export", "quantize", "prune: {to: {macs: 0.5}}"),
        ("stages.2.prune", "changes the model after the stages that quantise it", "Put it before them"),
    ),
    Case("all at once", prune("{to: {macs: 0.5}, depth: 3, block: 65, positions: 31}"), ("3 problems", "depth", "positions")),
)
def test_compress_refuses_to_prune(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


TEACHER = "teachers: [./teacher]"


@cases(
    Case("learns nothing", distill("{soft: 0, hidden: 0}"), ("learns nothing: give soft, hard, hidden or relations a weight",)),
    Case("unknown parameter", distill("{temprature: 2}"), ("distill.temprature: unknown key", "`temperature`")),
    Case("no teachers", distill("{teachers: []}"), ("distill.teachers", "at least")),
    Case(
        "nameless teacher",
        distill('{teachers: [teacher, ""]}'),
        ("1 problem", "stages.0.distill.teachers.1: string should have at least 1 character"),
    ),
    Case("no epochs", distill("{epochs: 0}"), ("distill.epochs: input should be greater than 0",)),
    Case("cold", distill("{temperature: 0}"), ("distill.temperature: input should be greater than 0",)),
    Case("other precision", distill("{precision: fp16}"), ("distill.precision", '"fp16"', "`bf16`")),
    Case("no accumulation", distill("{accumulate: 0}"), ("distill.accumulate: input should be greater than or equal to 1",)),
    Case(
        "all held out", distill("{early_stopping: {share: 1}}"), ("distill.early_stopping.share: input should be less than 1",)
    ),
    Case("unknown map", distill("{layer_map: lst}"), ("1 problem", "distill.layer_map", '"lst"', "`last`")),
    Case("map of nothing", distill("{layer_map: []}"), ("layer_map needs pairs [student, teacher]",)),
    Case("layers from 0", distill("{layer_map: [[0, 1]]}"), ("layer_map needs pairs", "counted from 1")),
    Case(
        "layers that are not there",
        distill("{layer_map: [[3, 1], [1, 4]]}"),
        ("layer_map names layer 3 of the student, which has 2", "layer_map names layer 4 of its teacher, which has 2"),
    ),
    Case(
        "layer that another teacher has not",
        both(teacher(num_hidden_layers=1), distill(f"{{{TEACHER}, layer_map: [[2, 2]]}}")),
        ("layer_map names layer 2 of the teacher ./teacher, which has 1",),
    ),
    Case("relations that do not divide", distill("{relations: 1, relation_heads: 3}"), ("relation_heads is 3", "heads of 8")),
    Case(
        "relations that do not divide another teacher",
        both(teacher(num_attention_heads=8), distill(f"{{{TEACHER}, relations: 1, relation_heads: 8}}")),
        ("relation_heads is 8, which does not divide heads of 8 and 4",),
    ),
    Case(
        "wider than its teacher",
        both(teacher(hidden_size=16), distill(f"{{{TEACHER}, hidden_map: none}}")),
        ("the student is wider (32) than the teacher ./teacher (16)", "`hidden_map: none` puts no map between"),
    ),
    Case("teacher that is not there", distill(f"{{{TEACHER}}}"), ("stages.0.distill", "/teacher does not exist", "./teacher")),
    Case(
        "teacher that is no BERT",
        both(teacher(model_type="funnel"), distill(f"{{{TEACHER}}}")),
        ("stages.0.distill", "a model of type 'funnel'", "/teacher"),
    ),
    Case(
        "teacher without a head",
        both(teacher(tensors(lose_head)), distill(f"{{{TEACHER}}}")),
        ("the model was not fine-tuned for the task yet", "Fine-tune it first"),
    ),
    Case(
        "teacher with more labels",
        both(teacher(id2label={"0": "a", "1": "b", "2": "c"}), distill(f"{{{TEACHER}}}")),
        ("./teacher has 3 labels, the task 2.", "same labels in the same order"),
    ),
    Case(
        "teacher with the labels the other way round",
        both(teacher(id2label={"0": "Positive", "1": "Negative"}), distill("{teachers: [teacher, ./teacher]}")),
        ("./teacher has the labels in another order: Positive, Negative; the task has negative, positive.",),
    ),
    Case(
        "teacher that reads less than the student",
        both(teacher(max_position_embeddings=31), distill(f"{{{TEACHER}}}")),
        (
            "1 problem",
            "stages.0.distill: ./teacher has 31 positions, fewer than the 32 tokens that inputs may have.",
            "Set task.max_length to 31",
        ),
    ),
    Case(
        "no assistant", distill("{teachers: assistant}", "prune: {to: {macs: 0.5}}"), ("names `assistant`", "put `- distill`")
    ),
    Case(
        "assistant that would be itself",
        distill("{teachers: assistant}", "prune: {to: {macs: 0.5}}", "distill"),
        ("stages.2.distill", "names `assistant`, but no earlier stage distils one"),
    ),
    Case("distill before finetune", both(distill("{}"), tensors(lose_head)), ("stages.0.distill", "Put `- finetune`")),
    Case("distill without examples", both(distill("{}"), NO_EXAMPLES), ("stages.0.distill", "needs examples", "data.transfer")),
    Case(
        "hard labels without any",
        both(distill("{hard: 1}"), NO_EXAMPLES, swap("eval: data", "transfer: data/train.csv\n  eval: data")),
        ("stages.0.distill: needs training data. Give data.train",),
    ),
    Case(
        "damaged transfer data",
        both(distill("{}"), put("data/t.csv", "words\na\n"), swap("eval: data", "transfer: data/t.csv\n  eval: data")),
        ("data.transfer (t.csv) has no column `text`; it has `words`", "columns: {text: NAME}"),
    ),
    Case(
        "missing transfer data",
        both(distill("{}"), swap("eval: data", "transfer: data/t.csv\n  eval: data")),
        ("data/t.csv does not exist", "Correct it under `data`"),
    ),
)
def test_compress_refuses_to_distill(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)
