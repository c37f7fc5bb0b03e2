"""A model folder that is missing, damaged or no BERT: one message with the file and its fault, the way out, nothing left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from breaks import WEIGHTS, Break, Case, assert_case, both, cases, config, cut, drop, header, model, put, tensors

from edgebert.errors import EXIT_ENVIRONMENT

INDEX = "model/model.safetensors.index.json"


def shards(files: Any) -> Break:
    """A model in several files, with this index."""
    return both(drop(WEIGHTS), put(INDEX, json.dumps({"weight_map": files})))


def spoil(weights: dict[str, Any]) -> None:
    weights["bert.encoder.layer.0.attention.self.query.weight"][0] = float("nan")


def lose_layer(weights: dict[str, Any]) -> None:
    for name in [name for name in weights if ".layer.1." in name]:
        del weights[name]


def one_output(weights: dict[str, Any]) -> None:
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][:1].copy()


def cut_table(weights: dict[str, Any]) -> None:
    name = "bert.embeddings.word_embeddings.weight"
    weights[name] = weights[name][:20].copy()


@cases(
    Case("missing", model("./modl"), ("modl does not exist", "--set model=")),
    Case("file", model("./recipe.yaml"), ("recipe.yaml is a file", "Name the folder that holds config.json")),
    Case("home of nobody", model("~nobody-of-that-name/x"), ("~nobody-of-that-name/x", "not a path")),
    Case("endless name", model("./" + "x" * 5000), ("xxx...", "too long")),
    Case("no config.json", drop("model/config.json"), ("has no config.json", "save_pretrained()")),
    Case("config that is no JSON", put("model/config.json", "{"), ("config.json is not valid JSON", "partial download")),
    Case("config that is no object", put("model/config.json", "[]"), ("config.json does not hold a JSON object",)),
    Case("deeply nested config", put("model/config.json", "[" * 100_000), ("config.json is not valid JSON",)),
    Case("other model", config(model_type="funnel"), ("a model of type 'funnel'", "encoders of these types", "bert")),
    Case("code of its own", config(auto_map={"AutoModel": "x.Y"}), ("auto_map", "edgebert never does that", "remove auto_map")),
    Case("labels without order", config(id2label={"a": "x", "b": "y"}), ("id2label does not name the outputs", "Correct it")),
    Case("positions that are a text", config(max_position_embeddings="many"), ('max_position_embeddings is "many"',)),
    Case("heads that are a text", config(num_attention_heads="many"), ('num_attention_heads is "many"', "Correct it")),
    Case("no heads", config(num_attention_heads=0), ("num_attention_heads is 0; it has to be 1 or more", "Correct it")),
    Case(
        "positions that Transformers dropped",
        config(position_embedding_type="relative_key_query"),
        ('position_embedding_type is "relative_key_query"', "has dropped the weights", "absolute positions"),
    ),
    Case(
        "several labels at once",
        config(problem_type="multi_label_classification"),
        ("model: the model was trained for another task", "problem_type is multi_label_classification", "task: multi-label-"),
    ),
    Case(
        "a number for each text",
        config(problem_type="regression"),
        ("the model was trained for another task", "problem_type is regression; task: regression"),
    ),
    Case(
        "one output",
        both(config(id2label={"0": "score"}, label2id={"score": 0}), tensors(one_output)),
        ("the model has one output, which is a number and no label", "task: regression"),
    ),
    Case(
        "class of another task",
        config(architectures=["BertForMultipleChoice"]),
        ("the model is a BertForMultipleChoice, which was made for another task", "`- finetune`"),
    ),
    Case(
        "class of somebody's own",
        config(architectures=["MeanBertForSequenceClassification"]),
        ("the model is a MeanBertForSequenceClassification, which was made for another task",),
    ),
    Case(
        "half a head",
        tensors(lambda weights: weights.pop("bert.pooler.dense.bias")),
        ("the model's head has no pooler.dense.bias, which Transformers would draw at random", "`- finetune`"),
    ),
    Case("ten thousand million labels", config(id2label=None, num_labels=10**10), ("num_labels is 10000000000",)),
    Case("thousand million layers", config(num_hidden_layers=10**9), ("asks for 1000000000 layers", "layer.2 is missing")),
    Case("decoder", config(is_decoder=True), ("is_decoder is true; edgebert compresses encoders", "plain BERT")),
    Case("cross-attention", config(add_cross_attention=True), ("add_cross_attention is true", "plain BERT")),
    *(
        Case(
            f"pruned layers of {json.dumps(sizes)}",
            config(
                **{"model_type": "edgebert_pruned_bert", "layer_heads": [4, 4], "layer_intermediate_sizes": [64, 64], **sizes}
            ),
            (f"{name} is {json.dumps(value)}, not a list of 2 whole numbers from 1 on", "Correct it"),
        )
        for name in ("layer_heads", "layer_intermediate_sizes")
        for value in (4, None, [4], [4, "4"], [4, True], [4, 0], [4, 4, 4])
        for sizes in [{name: value}]
    ),
    Case("padding that is a text", config(pad_token_id="x"), ('pad_token_id is "x", not a whole number',)),
    Case(
        "only a pickle",
        both(drop(WEIGHTS), put("model/pytorch_model.bin", "x")),
        ("only as pytorch_model.bin", "a pickle can run code", "edgebert convert FOLDER NEW"),
    ),
    Case("no weights", drop(WEIGHTS), ("model has no model.safetensors",)),
    Case("weights cut short", cut(WEIGHTS, 100), ("model.safetensors is not a whole safetensors file", "fetch it again")),
    Case("empty weights", put(WEIGHTS, ""), ("is not a whole safetensors file", "fetch it again")),
    Case("Git LFS pointer", put(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), ("Git LFS pointer: fetch it again",)),
    Case("header of a wrong shape", put(WEIGHTS, header([])), ("is not a whole safetensors file",)),
    Case("header without offsets", put(WEIGHTS, header({"a": {"data_offsets": []}})), ("is not a whole safetensors file",)),
    Case("deeply nested header", put(WEIGHTS, header(b"[" * 100_000)), ("is not a whole safetensors file",)),
    Case("index of a wrong shape", shards([]), ("index.json names no weight files", "fetch it again")),
    Case("index with a path outside", shards({"a": "../x.safetensors"}), ("../x.safetensors, which is not in the folder",)),
    Case(
        "NaN in the weights", tensors(spoil), ("/model hold NaN", "layer.0.attention.self.query.weight", "earlier checkpoint")
    ),
    Case(
        "layer without weights",
        tensors(lose_layer),
        ("/model do not fit its config.json", "bert.encoder.layer.1", "is missing"),
    ),
    Case("more layers than weights", config(num_hidden_layers=3), ("do not fit its config.json", "layer.2", "is missing")),
    Case(
        "more labels than outputs",
        config(id2label={"0": "negative", "1": "positive", "2": "neutral"}),
        ("classifier.bias has the shape (2,)", "asks for (3,)", "save_pretrained()"),
    ),
    Case("config that cannot be", config(hidden_size=33), ("hidden_size is 33, no multiple of num_attention_heads", "is 4")),
    Case(
        "activation that is none", config(hidden_act="softest"), ("/model cannot be loaded as text-classification", "softest")
    ),
    Case(
        "pin of another file",
        model(f"{{source: ./model, sha256: {'a' * 64}}}"),
        ("has sha256", "a" * 64, "correct model.sha256"),
    ),
    Case("no tokenizer", drop("model/tokenizer.json", "model/vocab.txt"), ("has no tokenizer", "tokenizer.save_pretrained")),
    Case(
        "damaged tokenizer", put("model/tokenizer.json", "{}"), ("The tokenizer in", "/model cannot be read", "save_pretrained")
    ),
    Case(
        "vocabulary without [UNK]", both(drop("model/tokenizer.json"), put("model/vocab.txt", "")), ("/model cannot be read",)
    ),
    Case("tokenizer of another model", both(config(vocab_size=20), tensors(cut_table)), ("token ids up to 103", "20 rows")),
    Case("damaged tokenizer_config", put("model/tokenizer_config.json", "{"), ("tokenizer_config.json is not valid JSON",)),
    Case("package that leaves itself", model("package://edgebert/../x"), ("leaves the package", "Name a folder inside it")),
    Case("package that starts at the root", model("package://edgebert//etc"), ("leaves the package",)),
    Case("package without that folder", model("package://edgebert/x"), ("The package edgebert has no folder x",)),
    Case("package without a name", model("package://../x"), ("names no package", "package://package_name")),
    Case(
        "package that is not installed",
        model("package://no_such_package/x"),
        ("needs the Python package no_such_package, which is not installed", "--set model=PATH"),
        code=EXIT_ENVIRONMENT,
    ),
    Case(
        "Hub model without a network",
        model("org/name"),
        ("`org/name` is not a folder here", "HF_HUB_OFFLINE=1", "--set model=PATH"),
        code=EXIT_ENVIRONMENT,
    ),
)
def test_compress_refuses_a_model(case: Case, cli: Any, recipe: Path) -> None:
    assert_case(case, cli, recipe.parent)


def test_two_outputs_of_one_label_are_refused_because_answers_would_not_tell_them_apart(cli: Any, recipe: Path) -> None:
    file = recipe.parent / "model" / "config.json"
    names = {"id2label": {"0": "same", "1": "same"}, "label2id": {"same": 1}}
    file.write_text(json.dumps({**json.loads(file.read_text()), **names}))
    refused = cli("validate", "recipe.yaml")
    assert refused.code == 2
    assert "two of the model's outputs have the label 'same'" in refused.err and "task.labels" in refused.err
