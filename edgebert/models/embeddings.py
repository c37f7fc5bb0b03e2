"""Cuts the word table of an encoder to the kept tokens, and its position table to fewer positions. Pure functions.

Embedding tables are looked up, not multiplied: cutting them makes a model smaller, not faster. Rows that stay keep their
values, so the outputs stay for a text whose tokens and positions all stay.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import nn

from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Ability
from edgebert.models.parts import EmbeddingParts, family_of, part
from edgebert.models.pruned import endings_of

KINDS = tuple(
    getattr(transformers, family.class_name + ending)
    for family in FAMILIES
    if {"tokens", "positions"} & set(family.prunes)
    for ending in endings_of(family)
)
"""Classes whose tables can be cut, and all derived from them (pruned ones). Others may have tables unknown here."""
FEWEST_POSITIONS = 3  # [CLS], one token, [SEP]


def keep_tokens(model: Any, kept: Sequence[int]) -> Any:
    """A new model whose word table has the kept rows only; the row that was `kept[i]` is row i.

    The output layer of a masked language model is cut as well, and stays tied to the word table where it was. Ids in the config
    follow their tokens to their new rows; an id other than `pad_token_id` becomes None if its token is not kept. Where
    positions are counted from `pad_token_id` on, the position table moves with it.

    Args:
        model: one of KINDS, of word table (tokens, hidden); not edited.
        kept: old token ids, ascending and distinct.

    Returns:
        A model of the same class, dtype, device and mode, of word table (len(kept), hidden).

    Raises:
        ValueError: the class is not in KINDS, `kept` is not as above, or the padding token is not kept, or would get another id
            in a family that has one id for it.
    """
    tables = _tables_of(model, "tokens")
    table = tables.word
    _check_kept(kept, table.num_embeddings)
    new_ids = {old: new for new, old in enumerate(kept)}
    for padding in {model.config.pad_token_id, table.padding_idx} - {None}:
        if padding not in new_ids:
            raise ValueError(f"token {padding}, the padding, is not kept")
        if "pad_token_id" in tables.family.fixed and new_ids[padding] != padding:
            raise ValueError(
                f"token {padding}, the padding, would become {new_ids[padding]}; {tables.family.title} needs {padding}"
            )

    cut = copy.deepcopy(model)
    table = EmbeddingParts.of(cut).word
    decoder = _decoder_of(cut)
    tied = decoder is not None and decoder.weight is table.weight
    _cut_rows(table, kept)
    if table.padding_idx is not None:
        table.padding_idx = new_ids[table.padding_idx]
    if decoder is not None:
        _cut_output(cut, decoder, kept, weight=table.weight if tied else None)
    _cut_language_bias(cut, tables.family.language_bias, kept)
    if tables.family.skips_padding:
        _move_positions(cut, new_ids[cut.config.pad_token_id])
    for config in _configs(cut):
        config.vocab_size = len(kept)
        _renumber(config, new_ids)
    return cut


def keep_positions(model: Any, count: int) -> Any:
    """A new model whose position table has rows for the first `count` tokens of a text only.

    Args:
        model: one of KINDS, of position table (positions, hidden); not edited.
        count: longest input in tokens, from 3 to the longest of the model.

    Returns:
        A model of the same class, dtype, device and mode. Its position table has `count` rows, and those that carry no token
        where the family counts from a later row on.

    Raises:
        ValueError: the class is not in KINDS, or the count is out of these bounds.
    """
    tables = _tables_of(model, "positions")
    first = tables.family.first_position(model.config.to_dict())
    size = tables.position.num_embeddings - first
    if not FEWEST_POSITIONS <= count <= size:
        raise ValueError(f"{count} positions cannot be kept: the model has {size}, and needs {FEWEST_POSITIONS}")

    cut = copy.deepcopy(model)
    embeddings, rows = EmbeddingParts.of(cut).module, count + first
    _cut_rows(EmbeddingParts.of(cut).position, range(rows))
    _cut_buffers(embeddings, rows)
    for config in _configs(cut):
        config.max_position_embeddings = rows
    return cut


def _move_positions(model: Any, padding: int) -> None:
    """Drops the first rows of a position table that is counted from the padding token's id, which is smaller from now on."""
    tables = EmbeddingParts.of(model)
    dropped = model.config.pad_token_id - padding
    if dropped:
        rows = range(dropped, tables.position.num_embeddings)
        _cut_rows(tables.position, rows)
        tables.position.padding_idx = tables.module.padding_idx = padding
        _cut_buffers(tables.module, len(rows))
        for config in _configs(model):
            config.max_position_embeddings = len(rows)


def _cut_buffers(embeddings: Any, rows: int) -> None:
    """Cuts the buffers of shape (1, positions), which are not among the saved weights."""
    for name in ("position_ids", "token_type_ids"):
        if hasattr(embeddings, name):
            setattr(embeddings, name, getattr(embeddings, name)[:, :rows].clone())


def _tables_of(model: Any, what: Ability) -> EmbeddingParts:
    """The embedding tables of a model of which `what` can be cut.

    Raises:
        ValueError: the class is not in KINDS, or its family has to keep them.
    """
    known = isinstance(model, KINDS) or isinstance(getattr(model, "encoder", None), KINDS)  # the latter in a sentence model
    if not known or what not in family_of(model).prunes:
        raise ValueError(f"the embedding tables of {type(model).__name__} cannot be cut")
    return EmbeddingParts.of(model)


def _decoder_of(model: Any) -> Any | None:
    """The output matrix of a masked language model; None for others."""
    path = family_of(model).language_head
    return part(model, path) if hasattr(model, path.split(".")[0]) else None


def _check_kept(kept: Sequence[int], size: int) -> None:
    if not kept:
        raise ValueError("no token is kept")
    if list(kept) != sorted(set(kept)):
        raise ValueError("the kept tokens are not ascending and distinct")
    for end in (kept[0], kept[-1]):
        if not 0 <= end < size:
            raise ValueError(f"the word table has {size} rows; token {end} is not one of them")


def _rows(tensor: torch.Tensor, kept: Sequence[int]) -> nn.Parameter:
    """Rows of a parameter as a new parameter, frozen if that was, without a gradient."""
    index = torch.tensor(list(kept), device=tensor.device)
    return nn.Parameter(tensor.detach()[index], requires_grad=tensor.requires_grad)


def _cut_rows(table: nn.Embedding, kept: Sequence[int]) -> None:
    table.weight = _rows(table.weight, kept)
    table.num_embeddings = len(kept)


def _cut_output(model: Any, decoder: Any, kept: Sequence[int], weight: nn.Parameter | None) -> None:
    """Cuts the output layer of a masked language model: decoder, of shape (tokens, hidden), and bias, of shape (tokens,).

    Args:
        weight: the cut word table, if the decoder shares it; None if the decoder has its own.
    """
    path = family_of(model).language_head.rpartition(".")[0]
    holder: Any = part(model, path) if path else None  # a head that has the bias as well, shared with the decoder or not
    own = getattr(holder, "bias", None)
    shared = own is decoder.bias
    decoder.weight = _rows(decoder.weight, kept) if weight is None else weight
    if decoder.bias is not None:
        decoder.bias = _rows(decoder.bias, kept)
    if own is not None:
        holder.bias = decoder.bias if shared else _rows(own, kept)
    decoder.out_features = len(kept)


def _cut_language_bias(model: Any, path: str | None, kept: Sequence[int]) -> None:
    """Cuts a parameter with a number for each token, where the model has it."""
    if path is not None and hasattr(model, path.partition(".")[0]):
        holder = part(model, path.rpartition(".")[0])
        holder.bias = _rows(holder.bias, kept)


def _configs(model: Any) -> list[Any]:
    """All config objects in the modules of a model, each once; most modules share one."""
    return list({id(module.config): module.config for module in model.modules() if hasattr(module, "config")}.values())


def _renumber(config: Any, new_ids: dict[int, int]) -> None:
    for name, value in config.to_dict().items():
        if not name.endswith("_token_id") or value is None:
            continue
        new = [new_ids[old] for old in value if old in new_ids] or None if isinstance(value, list) else new_ids.get(value)
        setattr(config, name, new)
