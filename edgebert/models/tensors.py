"""The tensors that config.json asks for, compared with those of the weight files before a model is built. No torch.

Transformers drops a tensor that it has no place for, and draws one that is missing at random: both make another model than the
one that was trained, and neither is an error there. Here every tensor has to be of the encoder, of a head, or named below.

Names are those below the encoder (`encoder.layer.0...`) and below the model (`classifier.weight`): a checkpoint may have the
family's prefix or leave it out, and Transformers reads both.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgebert.errors import SourceError
from edgebert.models.families.base import Family
from edgebert.models.families.shapes import Sizes, linear, norm
from edgebert.models.sizes import Shape
from edgebert.models.weight_files import Tensor

TOGETHER = "Use the config.json and the weights that save_pretrained() wrote together."
FORMER = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Names of TensorFlow's checkpoints, which Transformers still reads."""
BUFFER = re.compile(r"(^|\.)position_ids$")
"""Numbers from 0 on, which old checkpoints hold."""


def plain_name(name: str, family: Family) -> str:
    """A tensor's name without the family's prefix, as Transformers has it today."""
    for former, today in FORMER.items():
        name = name.replace(former, today)
    name = name.removeprefix(f"{family.prefix}.")
    for former, today in family.former.items():
        name = re.sub(former, today, name)
    return name


def unread(name: str, family: Family) -> bool:
    """Whether no model of these tasks reads the tensor, so that it may be dropped: another head, a pooler, position_ids.

    Args:
        name: as `plain_name` gives it.
    """
    return BUFFER.search(name) is not None or name.startswith(family.other_heads)


def check_tensors(path: Path, family: Family, config: Mapping[str, Any], found: Mapping[str, Tensor]) -> None:
    """Compares the tensors of a folder with its config.json.

    Args:
        found: name -> tensor, as `read_tensors` gives them.

    Raises:
        SourceError: one is missing, unexpected, of another shape, or quantised. A head may be missing.
    """
    names = _plain_names(path, family, found)
    _check_layers(path, family, config, names)
    heads, wanted = head_shapes(family, config), set[str]()
    for name, sizes in encoder_shapes(family, config):  # one by one: a number in config.json may ask for any number of tensors
        if name not in names:
            raise misfit(path, f"{_shown(family, name)} is missing")
        _check_tensor(path, *names[name], sizes)
        wanted.add(name)
    for name in sorted(set(names) - wanted):
        if name in heads:
            _check_tensor(path, *names[name], heads[name])
        elif not unread(name, family) and not _of_another_head(name, family, config):
            raise unexpected(path, names[name][0])


def _plain_names(path: Path, family: Family, found: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Plain name -> name in the file, and the tensor; a matrix that Transformers splits has an entry for each part."""
    names: dict[str, tuple[str, Tensor]] = {}
    for name in sorted(found):
        for plain, tensor in plain_tensors(name, found[name], family):
            if plain in names:
                raise misfit(path, f"{names[plain][0]} and {name} are the same tensor of the model")
            names[plain] = (name, tensor)
    return names


def plain_tensors(name: str, tensor: Tensor, family: Family) -> Iterator[tuple[str, Tensor]]:
    """The tensors that Transformers makes of one of a file, mostly that one, with their plain names."""
    name = plain_name(name, family)
    whole = next((whole for whole in family.joined if f".{whole}." in name), None)
    if whole is None or not tensor.shape:
        yield name, tensor
        return
    parts = family.joined[whole]
    for index, part in enumerate(parts):  # rows that do not divide evenly make shapes that no config.json asks for
        rows = tensor.shape[0] // len(parts) + (tensor.shape[0] % len(parts) if not index else 0)
        yield name.replace(whole, part), dataclasses.replace(tensor, shape=(rows, *tensor.shape[1:]))


def _check_layers(path: Path, family: Family, config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Compares the number of layers first, because every other size is counted once a layer."""
    wanted, start = family.module_count(family.with_sizes(config)), f"{family.layers}."
    held = {name.removeprefix(start).partition(".")[0] for name in names if name.startswith(start)}
    missing = next((index for index in range(min(wanted, len(held) + 1)) if str(index) not in held), None)
    if missing is not None:
        raise misfit(path, f"it asks for {wanted} layers, and {_shown(family, start)}{missing} is missing")
    if len(held) > wanted:
        raise SourceError(
            f"The weights in {path} hold {len(held)} layers, but config.json asks for {wanted} "
            f"({family.names.num_hidden_layers}): the others would be dropped.",
            hint=TOGETHER,
        )


def _check_tensor(path: Path, name: str, tensor: Tensor, sizes: Sizes) -> None:
    if len(tensor.shape) != len(sizes) or any(want not in (None, have) for have, want in zip(tensor.shape, sizes, strict=True)):
        asked = tuple(have if want is None else want for have, want in zip(tensor.shape, sizes, strict=False))
        raise misfit(path, f"{name} has the shape {tensor.shape}, but config.json asks for {asked}")
    if not tensor.floating:
        raise SourceError(
            f"The weights in {path} are quantised: {name} holds {tensor.dtype}.",
            hint="Name the model that it was made from, in FP32 or 16 bits; edgebert quantises it.",
        )


def encoder_shapes(family: Family, config: Mapping[str, Any]) -> Iterator[tuple[str, Sizes]]:
    """Plain name and shape of every tensor of an encoder, without its pooler.

    Args:
        config: the content of config.json, whose number of layers is that of the weights.
    """
    fields = family.with_sizes(config)
    yield from _embedding_shapes(family, fields)
    if family.layer is not None:
        shape = Shape.from_config(dict(config))
        for index, (heads, neurons) in enumerate(zip(shape.heads, shape.intermediate_sizes, strict=True)):
            start, width = f"{family.layers}.{index}.", heads * shape.head_size
            normed = family.layer.first_norm or (fields.get("source_layers") or range(shape.layers))[index] > 0
            yield from _layer_shapes(family, fields, start, width, neurons, normed=normed)
    yield from family.more_tensors(fields)


def _embedding_shapes(family: Family, fields: Mapping[str, Any]) -> Iterator[tuple[str, Sizes]]:
    paths, hidden = family.embedding, fields["hidden_size"]
    narrow = fields["embedding_size"] if "embedding_size" in family.defaults else hidden
    width = hidden if paths.narrow_words else narrow
    yield f"embeddings.{paths.word}.weight", (fields.get("vocab_size"), narrow)
    for path, rows in ((paths.position, "max_position_embeddings"), (paths.segment, "type_vocab_size")):
        if path and family.has(path, fields):
            yield f"embeddings.{path}.weight", (fields.get(rows), width)
    if paths.norm:
        yield from norm(f"embeddings.{paths.norm}", width, bias=family.has_bias(paths.norm, fields))
    if paths.projection and width != hidden:
        yield from linear(paths.projection, hidden, width)


def _layer_shapes(
    family: Family, fields: Mapping[str, Any], start: str, width: int, neurons: int, *, normed: bool
) -> Iterator[tuple[str, Sizes]]:
    """Tensors of a layer.

    Args:
        width: heads times the size of a head.
        normed: whether the layer has an attention norm.
    """
    paths, hidden = family.layer, fields["hidden_size"]
    assert paths is not None
    rows = {path: width * blocks for path, blocks in paths.head_rows.items() if family.has(path, fields)}
    rows |= {path: neurons * blocks for path, blocks in paths.neuron_rows.items()}
    matrices = {path: (count, hidden) for path, count in rows.items()}
    matrices |= {paths.attention_output: (hidden, width), paths.down: (hidden, neurons)}
    for path, sizes in matrices.items():
        yield from linear(start + path, *sizes, bias=family.has_bias(path, fields))
    for path in ([paths.attention_norm] if normed else []) + [paths.norm]:
        yield from norm(start + path, hidden, bias=family.has_bias(path, fields))


def head_shapes(family: Family, config: Mapping[str, Any], ending: str | None = None) -> dict[str, Sizes]:
    """Plain name -> shape of every tensor of the head; empty for a class that has none of these tasks' heads.

    Args:
        ending: ending of the class's name; None for the class that config.json names, or for any where it names none.
    """
    fields, named = family.with_sizes(config), str((config.get("architectures") or [""])[0])
    wanted = [end for end in family.heads if (named.endswith(end) or not named if ending is None else end == ending)]
    return {name: sizes for end in wanted for name, sizes in _head_shapes(family, fields, end)}


def _head_shapes(family: Family, fields: Mapping[str, Any], ending: str) -> Iterator[tuple[str, Sizes]]:
    hidden, head = fields["hidden_size"], family.head_matrices(ending, fields)
    for module in head:
        rows = label_count(fields) if module == head[-1] else hidden
        yield from linear(module, rows, hidden, bias=family.has_bias(module, fields))
    yield from family.more_head_tensors(ending, fields)


def label_count(config: Mapping[str, Any]) -> int:
    """Number of labels: of names, else the number that config.json gives, else Transformers' default of two."""
    return len(config.get("id2label") or ()) or int(config.get("num_labels") or 2)


def _of_another_head(name: str, family: Family, config: Mapping[str, Any]) -> bool:
    """Whether the tensor is of a head under a name of these tasks' heads, of a model of another class: a multiple choice's."""
    return not head_shapes(family, config) and name in {
        name for end in family.heads for name in head_shapes(family, config, end)
    }


def _shown(family: Family, name: str) -> str:
    return f"{family.prefix}.{name}"


def misfit(path: Path, why: str) -> SourceError:
    """The error for weights and a config.json that are of two models."""
    return SourceError(f"The weights in {path} do not fit its config.json: {why}.", hint=TOGETHER)


def unexpected(path: Path, name: str) -> SourceError:
    """The error for a tensor that Transformers would drop."""
    return SourceError(
        f"The weights in {path} hold {name}, which a model of its config.json has no place for; Transformers would drop it.",
        hint="Where the model works without it: AutoModel...from_pretrained(FOLDER).save_pretrained(NEW) leaves it out.",
    )
