"""Names of TensorFlow's variables as those of the same model in PyTorch: rules in order, each a pattern and what replaces it.

A matrix that TensorFlow names `kernel` is stored as (inputs, outputs), which PyTorch has the other way round; classifiers of
Google's own code (`output_weights`) are stored as PyTorch has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Rules = Sequence[tuple[str, str]]
COMMON: Rules = (
    (r":\d+$", ""),  # number of the output that holds the variable
    (r"/(kernel|gamma)$", "/weight"),
    (r"/beta$", "/bias"),
    (r"/", "."),
)
KERAS: Rules = (
    (r"^[^/]+/[^/]+/", ""),  # Keras' layer, and the model's class
    (r"(^|/)[^/]*___", r"\1"),  # `mlm___cls`: scopes that Transformers told apart so
    (r"_\._(\d+)", r"/\1"),  # `layer_._0`, `albert_layer_groups_._0`
    (r"/embeddings(:\d+)?$", "/weight"),  # the matrix of an Embedding
    *COMMON,
)
"""Paths in tf_model.h5, `bert/tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`."""
GOOGLE: Rules = (
    (r"^output_(weights|bias)$", r"classifier/output_\1"),  # run_classifier.py
    (r"^cls/squad/", "qa_outputs/"),  # run_squad.py
    (r"output_weights$", "weight"),
    (r"output_bias$", "bias"),
    (r"/layer_(\d+)/", r"/layer/\1/"),
    (r"_embeddings$", "_embeddings/weight"),
    *COMMON,
)
"""Variables of Google's BERT, `bert/encoder/layer_0/output/dense/kernel`."""
OPTIMISER = re.compile(r"/(adam_[mv]|Adam(_\d)?|lamb_[mv]|LAMB(_\d)?|ExponentialMovingAverage)$|^(global_step|beta\d_power)$")
"""What an optimiser keeps of a variable."""


def torch_names(names: Iterable[str], rules: Rules) -> dict[str, tuple[str, bool]]:
    """Name of a variable -> its name in PyTorch, and whether its matrix has to be turned; without an optimiser's.

    Raises:
        ValueError: two variables have the same name in PyTorch.
    """
    found: dict[str, tuple[str, bool]] = {}
    owners: dict[str, str] = {}
    for name in sorted(names):
        if not OPTIMISER.search(name):
            renamed = _renamed(name, rules)
            if renamed in owners:
                raise ValueError(f"{owners[renamed][:80]} and {name[:80]} are the same tensor of the model")
            owners[renamed] = name
            found[name] = renamed, re.search(r"/kernel(:\d+)?$", name) is not None
    return found


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
