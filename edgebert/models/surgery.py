"""Removes heads, FFN neurons and whole layers from the weights of an encoder. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgebert.models.families.paths import LayerPaths
from edgebert.models.parts import encoder_of, family_of, layers_of
from edgebert.models.pruned import CLASSES, CONFIGS
from edgebert.models.sentence_model import SentenceModel
from edgebert.models.sizes import Shape

__all__ = ["Kept", "Units", "check_kept", "encoder_of", "everything", "layers_of", "prune", "shape_of"]


@dataclass(frozen=True)
class Units:
    """The units that a layer keeps: indices of heads and FFN neurons in the source layer, ascending."""

    heads: tuple[int, ...]
    neurons: tuple[int, ...]


Kept = Mapping[int, Units]
"""Index of a source layer -> the units that it keeps. A layer that is not named is removed."""


def shape_of(model: Any) -> Shape:
    """Shape of a plain or pruned model."""
    return Shape.from_config(model.config)


def everything(model: Any) -> dict[int, Units]:
    """All layers of a model with all units."""
    shape = shape_of(model)
    sizes = zip(shape.heads, shape.intermediate_sizes, strict=True)
    return {index: Units(tuple(range(heads)), tuple(range(neurons))) for index, (heads, neurons) in enumerate(sizes)}


def check_kept(kept: Kept, shape: Shape) -> None:
    """Raises ValueError if the kept units are not in the shape, or leave nothing of the model or of a layer."""
    if not kept:
        raise ValueError("no layer is kept")
    for index, units in kept.items():
        if not 0 <= index < shape.layers:
            raise ValueError(f"layer {index} is not among the model's {shape.layers} layers")
        for name, chosen, size in (
            ("head", units.heads, shape.heads[index]),
            ("FFN neuron", units.neurons, shape.intermediate_sizes[index]),
        ):
            if not chosen:
                raise ValueError(f"layer {index} keeps no {name}")
            if list(chosen) != sorted(set(chosen)):
                raise ValueError(f"layer {index}: the kept {name}s are not ascending and distinct")
            for unit in (chosen[0], chosen[-1]):
                if not 0 <= unit < size:
                    raise ValueError(f"layer {index} has {size} {name}s; {name} {unit} is not one of them")


def prune(model: Any, kept: Kept) -> Any:
    """A new model without the units that are not kept.

    Args:
        model: a plain or pruned model of a known family, with any head; not edited.

    Returns:
        A model of the pruned class of the same kind, in evaluation mode, with the source's dtype and attention implementation.

    Raises:
        ValueError: the kept units are not in the model, or the model is of another class.
    """
    if isinstance(model, SentenceModel):
        return model.around(prune(model.encoder, kept))
    shape = shape_of(model)
    check_kept(kept, shape)
    pruned_class = next((ours for theirs, ours in CLASSES.items() if type(model) in (theirs, ours)), None)
    if pruned_class is None:
        raise ValueError(f"{type(model).__name__} cannot be pruned")
    family = family_of(model)
    config = _config(CONFIGS[family.model_type], model.config, shape, kept, family.layer_lists)
    options = {} if getattr(model, "pooler", True) else {"add_pooling_layer": False}  # an encoder may have no pooler
    with torch.random.fork_rng(devices=[]):  # the constructor draws random weights, which are overwritten
        pruned = pruned_class(config, **options)
    pruned.to(model.dtype).load_state_dict(_weights(model, shape, kept), strict=True)
    pruned.config._attn_implementation = model.config._attn_implementation
    return pruned.eval()


def _config(pruned: Any, source: Any, shape: Shape, kept: Kept, lists: Sequence[str]) -> Any:
    """The config of the kept units, of the class `pruned`.

    Args:
        lists: names of the fields that have an item for each layer.
    """
    fields = {name: value for name, value in source.to_dict().items() if name not in ("model_type", "architectures")}
    indices = sorted(kept)
    layers = list(fields.get("source_layers") or range(shape.layers))  # after two prunings: indices in the first model
    heads = list(fields.get("source_heads") or [list(range(count)) for count in shape.heads])
    fields |= {
        "source_num_hidden_layers": fields.get("source_num_hidden_layers") or shape.layers,
        "source_layers": [layers[index] for index in indices],
        "source_heads": [[heads[index][head] for head in kept[index].heads] for index in indices],
        "layer_heads": [len(kept[index].heads) for index in indices],
        "layer_intermediate_sizes": [len(kept[index].neurons) for index in indices],
        "attention_head_size": shape.head_size,
        **{name: [fields[name][index] for index in indices] for name in lists},
    }
    name = pruned.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    config = pruned.from_dict({**fields, name: len(indices)})
    config._attn_implementation = source._attn_implementation
    return config


def _weights(model: Any, shape: Shape, kept: Kept) -> dict[str, torch.Tensor]:
    family = family_of(model)
    paths = family.layer
    assert paths is not None  # only families with such layers have pruned classes
    prefix = f"{family.prefix}.{family.layers}." if hasattr(model, family.prefix) else f"{family.layers}."
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(prefix)}
    for new, index in enumerate(sorted(kept)):
        columns = torch.tensor([head * shape.head_size + i for head in kept[index].heads for i in range(shape.head_size)])
        neurons = torch.tensor(kept[index].neurons)
        for name, value in layers_of(model)[index].state_dict().items():
            weights[f"{prefix}{new}.{name}"] = _cut(paths, name, value, columns, neurons)
    return weights


def _cut(paths: LayerPaths, name: str, value: torch.Tensor, columns: torch.Tensor, neurons: torch.Tensor) -> torch.Tensor:
    """The kept part of one tensor of a layer; Linear weights have the shape (out, in)."""
    module, _, kind = name.rpartition(".")
    for rows, kept in ((paths.head_rows, columns), (paths.neuron_rows, neurons)):
        if module in rows:
            blocks = value.chunk(rows[module])
            return torch.cat([block[kept] for block in blocks])
    if kind == "weight" and module == paths.attention_output:
        return value[:, columns]
    if kind == "weight" and module == paths.down:
        return value[:, neurons]
    return value
