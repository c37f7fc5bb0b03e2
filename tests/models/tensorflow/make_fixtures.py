"""Writes the TensorFlow checkpoints beside this file, and the logits that TensorFlow gives for them. It was run once:

    python -m venv tf && tf/bin/pip install "tensorflow-cpu==2.21.*" tf-keras "transformers==4.57.6"
    TF_USE_LEGACY_KERAS=1 tf/bin/python tests/models/tensorflow/make_fixtures.py

Nothing of edgebert imports TensorFlow, and Transformers 5 has no TensorFlow classes. Weights are random, biases too, and large
enough for every part to matter.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf
import transformers

HERE = Path(__file__).parent
IDS = [[2, 7, 8, 9, 10, 3], [2, 11, 3, 12, 13, 3]]
SEGMENTS = [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
DISTILBERT_SIZES = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 24}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *".,!",
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    "good",
    "film",
]


def drawn(kind, config, seed):
    """A TensorFlow model of that class with drawn weights."""
    model = kind(config)
    model(model.dummy_inputs)
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        if not weight.name.endswith("gamma:0"):
            weight.assign(draw.normal(0, 0.4, weight.shape).astype(np.float32))
    return model


def written(name, kind, config, seed, segments=True):
    """Saves a model as Transformers 4 did, with its logits for IDS."""
    model = drawn(kind, config, seed)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    model.save_weights(str(folder / "tf_model.h5"))
    config.architectures = [kind.__name__.removeprefix("TF")]
    config.to_json_file(folder / "config.json", use_diff=True)
    given = {"input_ids": tf.constant(IDS)} | ({"token_type_ids": tf.constant(SEGMENTS)} if segments else {})
    logits = model(**given).logits.numpy().tolist()
    (folder / "logits.json").write_text(json.dumps({"ids": IDS, "segments": SEGMENTS, "logits": logits}) + "\n")
    return model, logits


GOOGLE = [
    ("layer_._", "layer_"),
    ("embeddings/word_embeddings/weight", "embeddings/word_embeddings"),
    ("embeddings/position_embeddings/embeddings", "embeddings/position_embeddings"),
    ("embeddings/token_type_embeddings/embeddings", "embeddings/token_type_embeddings"),
]


def google_name(name):
    """The variable's name in Google's own code."""
    name = name.removesuffix(":0").partition("/")[2]
    for ours, theirs in GOOGLE:
        name = name.replace(ours, theirs)
    return {"classifier/kernel": "output_weights", "classifier/bias": "output_bias"}.get(name, name)


def google_checkpoint(model, logits):
    """Saves the model as Google's run_classifier.py did: variables by name, with Adam's moments and the step."""
    folder = HERE / "google"
    folder.mkdir(exist_ok=True)
    variables = {}
    for weight in model.weights:
        name = google_name(weight.name)
        variables[name] = tf.Variable(weight.numpy().T if name == "output_weights" else weight.numpy())
    variables["bert/pooler/dense/bias/adam_m"] = tf.Variable(np.zeros(SIZES["hidden_size"], np.float32))
    variables["global_step"] = tf.Variable(np.int64(100))
    tf.compat.v1.train.Saver(variables).save(None, str(folder / "bert_model.ckpt"), write_meta_graph=False, write_state=False)
    kept = (
        "vocab_size",
        "max_position_embeddings",
        "type_vocab_size",
        "hidden_act",
        "hidden_dropout_prob",
        "initializer_range",
    )
    config = model.config.to_dict()
    content = {**{name: config[name] for name in kept}, **SIZES, "attention_probs_dropout_prob": 0.1}
    (folder / "bert_config.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    (folder / "logits.json").write_text(json.dumps({"ids": IDS, "segments": SEGMENTS, "logits": logits}) + "\n")


COMMON = {"vocab_size": len(VOCABULARY), "num_labels": 3, "max_position_embeddings": 32}
bert, expected = written(
    "bert", transformers.TFBertForSequenceClassification, transformers.BertConfig(**SIZES, **COMMON), seed=0
)
(HERE / "bert" / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
google_checkpoint(bert, expected)
written(
    "distilbert",
    transformers.TFDistilBertForSequenceClassification,
    transformers.DistilBertConfig(**DISTILBERT_SIZES, **COMMON),
    seed=1,
    segments=False,
)
written(
    "roberta",
    transformers.TFRobertaForTokenClassification,
    transformers.RobertaConfig(**SIZES, **{**COMMON, "max_position_embeddings": 34}, type_vocab_size=1),
    seed=2,
    segments=False,
)
