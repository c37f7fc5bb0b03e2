"""Transformers classes for encoders whose layers differ in size, one set for each family.

A config of Transformers has one number of heads and one number of FFN neurons for all layers. A pruned config has one for
each layer, and the size of a head, which no longer follows from the number of heads. A pruned class builds the class of
Transformers, and replaces in it the matrices whose sizes differ: it is Transformers' own code that runs, and tensors have its
names. Importing this module registers the classes with the Auto classes, so that
`AutoModelForSequenceClassification.from_pretrained(folder)` and the others read a pruned folder.
"""

from __future__ import annotations

import copy
from typing import Any

import transformers
from torch import nn

from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.parts import LayerParts, parts_of
from edgebert.models.sizes import Shape

HEADS = {
    "Model": "AutoModel",
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    "ForMaskedLM": "AutoModelForMaskedLM",
}
"""Ending of a class's name -> the Auto class that opens it."""


def endings_of(family: Family) -> list[str]:
    """Endings of HEADS of which Transformers has a class for the family."""
    return [ending for ending in HEADS if ending not in family.classless]


def _pruned_config(family: Family) -> Any:
    """The config class of a family's pruned models."""

    base: Any = getattr(transformers, f"{family.class_name}Config")

    class PrunedConfig(base):
        """The family's config with sizes for each layer. "Original" is the model that this one was cut from.

        The numbers of heads and FFN neurons under the family's own names are the original's.
        """

        model_type = family.pruned_type

        layer_heads: list[int] | tuple[int, ...] = ()
        """Heads of each layer; its length is the number of layers."""
        layer_intermediate_sizes: list[int] | tuple[int, ...] = ()
        """FFN neurons of each layer."""
        attention_head_size: int = 64
        source_layers: list[int] | tuple[int, ...] = ()
        """Index of each layer in the original, which had `source_num_hidden_layers`."""
        source_heads: list[list[int]] | tuple[tuple[int, ...], ...] = ()
        """Indices of each layer's heads in the original layer."""
        source_num_hidden_layers: int = 0

    return _named(PrunedConfig, f"Pruned{family.class_name}Config")


def _pruned_class(base: Any, config_type: Any) -> Any:
    """The pruned class of a class of Transformers."""

    class Pruned(base):
        config_class = config_type

        def __init__(self, config: Any, **options: Any) -> None:
            _check_sizes(config)
            super().__init__(config, **options)
            resize(self)
            self.post_init()

    Pruned.__doc__ = f"{base.__name__} with sizes of its own in every layer."
    return _named(Pruned, f"Pruned{base.__name__}")


def _named(made: Any, name: str) -> Any:
    """Gives a class its name, and makes it an attribute of this module, where code that was saved or pickled looks for it."""
    made.__name__ = made.__qualname__ = name
    globals()[name] = made
    return made


def _check_sizes(config: Any) -> None:
    for name in ("layer_heads", "layer_intermediate_sizes"):
        if len(getattr(config, name)) != config.num_hidden_layers:
            raise ValueError(f"{name} has {len(getattr(config, name))} entries for {config.num_hidden_layers} layers")


def resize(model: Any) -> None:
    """Gives every layer the sizes that the config names for it; matrices of another size are replaced, their weights drawn."""
    shape = Shape.from_config(model.config)
    sources = list(model.config.source_heads) or [()] * shape.layers
    sizes = zip(parts_of(model), shape.heads, shape.intermediate_sizes, sources, strict=True)
    for layer, heads, neurons, source in sizes:
        _resize_layer(layer, heads, shape.head_size, neurons)
        if layer.paths.shared_bias and source:
            layer.attention.register_forward_pre_hook(_SharedBias(tuple(source)))
    _give_first_norm(model)


def _give_first_norm(model: Any) -> None:
    """Gives the first layer an attention norm where it was a later one of the whole model, in which the first has none."""
    first = parts_of(model)[0]
    if not first.paths.first_norm and next(iter(model.config.source_layers or [0])):
        first.module.set_submodule(first.paths.attention_norm, copy.deepcopy(first.norm))


class _SharedBias:
    """A forward pre-hook: of the bias that all layers share, a layer gets the part of the heads that it has."""

    def __init__(self, heads: tuple[int, ...]) -> None:
        self.heads = list(heads)

    def __call__(self, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Cuts the third argument, of shape (batch, heads of the original, length, length)."""
        hidden, mask, bias, *others = inputs
        return (hidden, mask, bias if bias is None else bias[:, self.heads], *others)


def _resize_layer(layer: LayerParts, heads: int, head_size: int, neurons: int) -> None:
    paths, width = layer.paths, heads * head_size
    attention = layer.attention
    if paths.heads:
        setattr(attention, paths.heads, heads)
    attention.attention_head_size, attention.scaling = head_size, head_size**-0.5
    if paths.width:
        setattr(attention, paths.width, width)
    rows = {path: width * blocks for path, blocks in paths.head_rows.items()}
    rows |= {path: neurons * blocks for path, blocks in paths.neuron_rows.items()}
    sizes_of = {**{path: (None, count) for path, count in rows.items()}, paths.attention_output: (width, None)}
    for path, (columns, count) in {**sizes_of, paths.down: (neurons, None)}.items():
        if not _has(layer.module, path):  # a variant of the family without it
            continue
        old = layer.module.get_submodule(path)
        sizes = (columns or old.in_features, count or old.out_features)
        if sizes != (old.in_features, old.out_features):
            kind = {"bias": old.bias is not None, "dtype": old.weight.dtype, "device": old.weight.device}
            layer.module.set_submodule(path, nn.Linear(*sizes, **kind))


def _has(module: Any, path: str) -> bool:
    """Whether a module has one at a path."""
    return any(name == path for name, _ in module.named_modules())


PRUNED = tuple(family for family in FAMILIES if "units" in family.prunes)
"""The families whose models can have sizes of their own in every layer."""
CONFIGS: dict[str, Any] = {family.model_type: _pruned_config(family) for family in PRUNED}
"""Plain `model_type` -> config class of the family's pruned models."""
CLASSES: dict[type[Any], type[Any]] = {
    base: _pruned_class(base, CONFIGS[family.model_type])
    for family in PRUNED
    for base in (getattr(transformers, family.class_name + ending) for ending in endings_of(family))
}
"""Class of Transformers -> its pruned class."""


def register() -> None:
    """Makes the Auto classes read and write pruned folders. Registering twice does no harm."""
    for family in PRUNED:
        config = CONFIGS[family.model_type]
        transformers.AutoConfig.register(family.pruned_type, config, exist_ok=True)
        for ending in endings_of(family):
            pruned = CLASSES[getattr(transformers, family.class_name + ending)]
            getattr(transformers, HEADS[ending]).register(config, pruned, exist_ok=True)


register()
