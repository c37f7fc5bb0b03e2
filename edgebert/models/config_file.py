"""What config.json may say: the values that edgebert reads are checked, and models of other kinds are named and refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.families.base import Family
from edgebert.models.json_file import REWRITE

WHOLE_NUMBERS = (
    "max_position_embeddings",
    "vocab_size",
    "type_vocab_size",
    "num_labels",
    "pad_token_id",
    "attention_head_size",
)
MAY_BE_NULL = ("num_labels", "pad_token_id")
AT_LEAST_ONE = ("attention_head_size", "vocab_size", "num_labels")
ABSOLUTE = "absolute"
"""The only `position_embedding_type` that Transformers still supports, where positions have a table."""
ROTARY = "rope"
"""What files of families without such a table may name."""
EPSILONS = ("layer_norm_eps", "norm_eps")
SHORTEST = 3
"""Fewest tokens that a text needs room for: the first special token, one of its own, the last."""
MOST_LABELS = 100_000
"""Labels that config.json may number without naming them."""
LAYER_SIZES = ("layer_heads", "layer_intermediate_sizes")
DECODERS = ("is_decoder", "add_cross_attention", "is_encoder_decoder")
QUANTISED = ("quantization_config", "compression_config")
ELSEWHERE = {
    "per_layer_config": "gives layers settings of their own",
    "transformers_weights": "names another weight file",
}
"""Keys that change which model Transformers builds, and that edgebert does not follow -> what they do."""


def check_config(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Checks a config.json.

    Raises:
        SourceError: a value that edgebert reads cannot be used, or the model is of a kind that it does not compress.
    """
    _check_sizes(file, config, family)
    _refuse_other_kinds(file, config, family)
    _check_class(file, config)
    _check_numbers(file, config)
    _check_fixed(file, config, family)
    _check_variant(file, config, family)
    _check_positions(file, config, family)
    if config.get("model_type") == family.pruned_type:
        _refuse_units(file, family)
        _check_layers(file, config, family)
        _check_sources(file, config, family)
    elif (name := next((name for name in LAYER_SIZES if config.get(name)), None)) is not None:
        raise SourceError(
            f"{file} has {name}, which only models of the type {family.pruned_type} have.",
            hint="Remove it, or write that model_type where the layers have these sizes.",
        )
    labels = config.get("id2label") or {}
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(len(labels))}:
        raise SourceError(f'{file}: id2label does not name the outputs "0", "1", ... in turn.', hint=REWRITE)


def refuse_code(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError for a file that names code of its own."""
    if config.get("auto_map"):
        raise SourceError(
            f"{file.parent} wants to run code of its own (auto_map in {file.name}); edgebert never does that.",
            hint="Where the model is a plain one of Transformers, remove auto_map.",
        )


def _check_sizes(file: Path, config: Mapping[str, Any], family: Family) -> None:
    sizes = [family.name_of(name) for name in family.defaults]
    for name in (*WHOLE_NUMBERS, *sizes):
        if type(value := config.get(name, 0)) is not int and not (value is None and name in MAY_BE_NULL):
            raise SourceError(f"{file}: {name} is {_short(value)}, not a whole number.", hint=REWRITE)
    for name in (*sizes, *AT_LEAST_ONE):
        if (value := config.get(name)) is not None and value < 1:
            raise SourceError(f"{file}: {name} is {_short(value)}; it has to be 1 or more.", hint=REWRITE)
    hidden, heads = (family.with_sizes(config)[name] for name in ("hidden_size", "num_attention_heads"))
    if hidden % heads:
        raise SourceError(
            f"{file}: {family.names.hidden_size} is {_short(hidden)}, no multiple of {family.names.num_attention_heads}, "
            f"which is {_short(heads)}.",
            hint=REWRITE,
        )


def _short(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_numbers(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError for numbers with which Transformers would build a model that cannot answer, or none at all."""
    for name in EPSILONS:
        epsilon = config.get(name, 1e-12)
        if type(epsilon) not in (int, float) or not math.isfinite(epsilon) or not 0 < epsilon < 1:
            raise SourceError(f"{file}: {name} is {_short(epsilon)}; it has to be above 0 and below 1.", hint=REWRITE)
    padding, rows = config.get("pad_token_id"), config.get("vocab_size")
    if padding is not None and rows is not None and not -rows <= padding < rows:
        raise SourceError(
            f"{file}: pad_token_id is {_short(padding)}, but the vocabulary has {_short(rows)} tokens.", hint=REWRITE
        )
    count = config.get("num_labels")
    if count is not None and count > MOST_LABELS and not config.get("id2label"):
        raise SourceError(f"{file}: num_labels is {_short(count)}, and id2label names none of them.", hint=REWRITE)


def _check_class(file: Path, config: Mapping[str, Any]) -> None:
    """Raises SourceError unless the config names classes as a list of names, or none."""
    named = config.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise SourceError(f"{file}: architectures is {_short(named)}, not a list of names.", hint=REWRITE)


def _check_fixed(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError for a variant of the family that edgebert does not compress."""
    for name, value in family.fixed.items():
        if config.get(name, value) != value:
            raise SourceError(
                f"{file}: {name} is {_short(config[name])}; edgebert compresses models of {family.title} in which it is "
                f"{_short(value)}.",
                hint=f"Name a {family.title} of that kind, as nearly all are.",
            )


def _check_variant(file: Path, config: Mapping[str, Any], family: Family) -> None:
    if what := family.fault(config):
        raise SourceError(f"{file}: {what}.", hint=f"Name a {family.title} of the usual kind, as save_pretrained() writes it.")


def _refuse_units(file: Path, family: Family) -> None:
    if why := family.lacks.get("units"):
        raise SourceError(
            f"{file} names the type {family.pruned_type}, and no {family.title} can be pruned, because {why}.", hint=REWRITE
        )


def _check_positions(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError where positions cannot be counted, or the position table has rows for no text."""
    if family.skips_padding and (config.get("pad_token_id") is None or config["pad_token_id"] < 0):
        raise SourceError(
            f"{file} has no pad_token_id, from which {family.title} counts its positions.",
            hint="Add the id of the tokenizer's padding token; it is 1 in nearly all such models.",
        )
    if family.longest_input(config) < SHORTEST:
        raise SourceError(
            f"{file}: max_position_embeddings is {_short(config.get('max_position_embeddings'))}; "
            f"a text needs {SHORTEST + family.first_position(config)} rows or more.",
            hint=REWRITE,
        )


def _refuse_other_kinds(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError for models whose weights Transformers would drop silently, or run as another model."""
    positions = config.get("position_embedding_type") or ABSOLUTE
    if positions != ABSOLUTE and (family.embedding.position is not None or positions != ROTARY):
        raise SourceError(
            f"{file}: position_embedding_type is {_short(positions)}; Transformers has dropped the weights that it needs.",
            hint=f"Name a {family.title} with absolute positions, as nearly all have.",
        )
    for name in DECODERS:
        if config.get(name):
            raise SourceError(
                f"{file}: {name} is {_short(config[name])}; edgebert compresses encoders.", hint=f"Name a plain {family.title}."
            )
    for name in QUANTISED:
        if config.get(name):
            raise SourceError(
                f"{file} has {name}: the weights are quantised already.",
                hint="Name the model that it was made from, in FP32 or 16 bits; edgebert quantises it.",
            )
    for name, what in ELSEWHERE.items():
        if config.get(name):
            raise SourceError(f"{file} has {name}, which {what}; edgebert does not follow it.", hint="Save a plain model.")


def _check_layers(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError if the sizes of a pruned model's layers are not one whole number for each layer."""
    layers = config.get(family.names.num_hidden_layers)
    for name in LAYER_SIZES:
        sizes = config.get(name)
        if not isinstance(sizes, list) or not all(type(size) is int and size >= 1 for size in sizes) or len(sizes) != layers:
            raise SourceError(
                f"{file}: {name} is {_short(sizes)}, not a list of {layers} whole numbers from 1 on, one for each layer.",
                hint=REWRITE,
            )


def _check_sources(file: Path, config: Mapping[str, Any], family: Family) -> None:
    """Raises SourceError unless a pruned model says of each layer, or of none, where it comes from."""
    layers, heads = config.get("source_layers") or [], config.get("source_heads") or []
    count = config[family.names.num_hidden_layers]
    lists = [layers] + (heads if isinstance(heads, list) else [None])
    if not all(isinstance(part, list) and all(type(index) is int and index >= 0 for index in part) for part in lists) or any(
        len(part) not in (0, count) for part in (layers, heads)
    ):
        raise SourceError(
            f"{file}: source_layers and source_heads do not name a source for each of {count} layers.", hint=REWRITE
        )
    if type(config.get("source_num_hidden_layers", 0)) is not int:
        raise SourceError(f"{file}: source_num_hidden_layers is not a whole number.", hint=REWRITE)
