"""serving_form: a model rewritten so that runtimes run it faster. Outputs stay the same, but for rounding.

The graph of Transformers computes three products where one would do, scales attention scores at every query, builds its
mask with a dozen operators, and computes the last layer for tokens that no classifier reads. The rewrites:

- `mask`: 0 or -BOUND for each token, from the attention mask alone. -BOUND is far below any score and far above the lowest
  float, so that a range that holds it can still be quantised.
- `scale`: the attention scale 1/sqrt(head size) is folded into the query projection.
- `qkv`: the three projections are one matrix product.
- `first_token`: the last layer computes keys and values for all tokens, and the rest for [CLS] alone, which the classifier
  reads.
- `attention`: scores, softmax and mixing are ONNX Runtime's operator MultiHeadAttention, which OpenVINO does not have.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from edgebert.models.families.base import Family
from edgebert.models.parts import EmbeddingParts, LayerParts, encoder_of, family_of, layers_of

BOUND = 1.0e4
"""exp(-BOUND) is 0 in float32 for any scores that an encoder computes."""


def serving_form(model: Any, rewrites: Collection[str]) -> Any:
    """The rewritten model: the same head of Transformers over an encoder of ours.

    Args:
        model: a plain or pruned model with a head, in evaluation mode; its modules are shared, not changed.
        rewrites: names from `edgebert.stages.export`; `mask` is part of every rewritten model. With `first_token` the encoder
            returns the hidden state of the first token alone, so that the head has to read no other.

    Returns:
        A model that is called as the given one, and returns the same outputs.
    """
    form = _copied(model)
    setattr(form, family_of(model).prefix, _Encoder(model, frozenset(rewrites)))
    return form.eval()


def _copied(module: Any) -> Any:
    """A copy that shares all modules and parameters, and in which modules can be exchanged without changing the source."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied


def _exchanged(module: Any, path: str, new: nn.Module) -> Any:
    """A copy of a module with another one at a path; what is not on the path is shared."""
    name, _, rest = path.partition(".")
    copied = _copied(module)
    setattr(copied, name, _exchanged(getattr(module, name), rest, new) if rest else new)
    return copied


class _Encoder(nn.Module):
    """Its modules have the names of Transformers, so that nodes of the export do as well."""

    def __init__(self, model: Any, rewrites: frozenset[str]) -> None:
        super().__init__()
        body, family = encoder_of(model), family_of(model)
        parts = EmbeddingParts.of(model)
        self.embeddings = _Embeddings(parts, model.config)
        self.embeddings_project: Any = parts.projection
        layers = _Layers(family, layers_of(model), rewrites)
        self.path = family.layers.partition(".")[0]
        setattr(self, self.path, layers)
        self.pooler: Any = getattr(body, "pooler", None)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None, **_: Any
    ) -> Any:
        hidden = self.embeddings(input_ids, token_type_ids)
        hidden = hidden if self.embeddings_project is None else self.embeddings_project(hidden)
        mask = (attention_mask.to(hidden.dtype)[:, None, None, :] - 1.0) * BOUND
        hidden = getattr(self, self.path)(hidden, mask, attention_mask)
        pooled = None if self.pooler is None else self.pooler(hidden)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)


class _Layers(nn.Module):
    def __init__(self, family: Family, layers: Sequence[Any], rewrites: frozenset[str]) -> None:
        super().__init__()
        last = len(layers) - 1
        reads_first = "first_token" in rewrites
        self.layer = nn.ModuleList(
            [
                _Layer(LayerParts(family, layer), rewrites, first_only=reads_first and index == last)
                for index, layer in enumerate(layers)
            ]
        )

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask, tokens)
        return hidden


class _Embeddings(nn.Module):
    """Word, segment and position embeddings, summed and normalised."""

    def __init__(self, source: EmbeddingParts, config: Any) -> None:
        super().__init__()
        family = source.family
        self.padding = config.pad_token_id if family.skips_padding else None
        self.segmented = source.segment is not None and "token_type_ids" in family.inputs
        self.word_embeddings = source.word
        if self.segmented:
            self.token_type_embeddings: Any = source.segment
        self.position_embeddings = source.position
        if source.segment is not None and not self.segmented:  # every token has segment 0
            self.position_embeddings = _moved(source.position, source.segment.weight[0])
        self.LayerNorm = source.norm

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None) -> torch.Tensor:
        total = self.word_embeddings(input_ids)
        if self.segmented:
            total = total + self.token_type_embeddings(token_type_ids)
        normed: torch.Tensor = self.LayerNorm(total + self._positions(input_ids))
        return normed

    def _positions(self, input_ids: torch.Tensor) -> torch.Tensor:
        if self.padding is None:
            rows: torch.Tensor = self.position_embeddings.weight[: input_ids.shape[1]]
            return rows
        # As Transformers counts: by the id and not by the mask, so that a padding token within a text is skipped as well.
        counted = (input_ids != self.padding).int()
        positions = (torch.cumsum(counted, dim=1).type_as(counted) * counted).long() + self.padding
        looked_up: torch.Tensor = self.position_embeddings(positions)
        return looked_up


class _Layer(nn.Module):
    """A layer of the source with our attention in it."""

    def __init__(self, source: LayerParts, rewrites: frozenset[str], *, first_only: bool) -> None:
        super().__init__()
        self.family, self.first_only = source.family, first_only
        attention = _Attention(source, rewrites, first_only=first_only)
        exchanged = _exchanged(source.module, source.paths.attention, attention)
        for name, module in exchanged.named_children():
            setattr(self, name, module)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        parts = LayerParts(self.family, self)
        mixed = parts.attention(hidden, mask, tokens)
        attended = parts.add_attention(mixed, hidden[:, :1] if self.first_only else hidden)
        summed: torch.Tensor = parts.add_neurons(parts.neurons(attended), attended)
        return summed


class _Attention(nn.Module):
    """Queries, keys and values of shape (batch, heads, length, head size), mixed to (batch, length, heads * head size)."""

    def __init__(self, source: LayerParts, rewrites: frozenset[str], *, first_only: bool) -> None:
        super().__init__()
        attention, paths = source.attention, source.paths
        assert paths.heads is not None  # every family with rewrites names the attribute
        self.heads, self.size = getattr(attention, paths.heads), attention.attention_head_size
        self.fused = "attention" in rewrites
        self.first_only = first_only
        # MultiHeadAttention scales by itself.
        self.scale = 1.0 if "scale" in rewrites or self.fused else self.size**-0.5
        query, key, value = source.projections.values()
        if "scale" in rewrites and not self.fused:
            query = _scaled(query, self.size**-0.5)
        self.merged = "qkv" in rewrites
        self.names = [path.rpartition(".")[2] for path in (paths.query, paths.key, paths.value)]
        for name, module in attention.named_children():  # in some families the output matrix is one of them
            if name not in self.names:
                setattr(self, name, module)
        if self.merged and first_only:
            setattr(self, self.names[0], query)
            self.kv = _joined(key, value)
        elif self.merged:
            self.qkv = _joined(query, key, value)
        else:
            for name, module in zip(self.names, (query, key, value), strict=True):
                setattr(self, name, module)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self._project(hidden)
        if self.fused and torch.onnx.is_in_onnx_export():
            return self._in_one(query, key, value, tokens)
        query, key, value = (self._split(part) for part in (query, key, value))
        scores = query @ key.transpose(2, 3)
        if self.scale != 1.0:
            scores = scores * self.scale
        elif self.fused:  # outside an export, plain operators stand in for MultiHeadAttention
            scores = scores * self.size**-0.5
        return (torch.softmax(scores + mask, dim=-1) @ value).transpose(1, 2).flatten(2)

    def _project(self, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = hidden[:, :1] if self.first_only else hidden
        if self.merged and not self.first_only:
            return tuple(self.qkv(hidden).chunk(3, dim=-1))
        query, key, value = self.names
        if self.merged:
            return (getattr(self, query)(first), *self.kv(hidden).chunk(2, dim=-1))
        return getattr(self, query)(first), getattr(self, key)(hidden), getattr(self, value)(hidden)

    def _split(self, part: torch.Tensor) -> torch.Tensor:
        rows, length, _ = part.shape
        return part.view(rows, length, self.heads, self.size).transpose(1, 2)

    def _in_one(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, key, value, None, tokens.to(torch.int32)),
            {"num_heads": self.heads},
            dtype=query.dtype,
            shape=query.shape,
            version=1,
        )
        return mixed


def _moved(table: nn.Embedding, shift: torch.Tensor) -> nn.Embedding:
    """A copy of a table with the same vector added to every row."""
    moved = copy.deepcopy(table)
    with torch.no_grad():
        moved.weight.add_(shift)
    return moved


def _scaled(linear: nn.Linear, factor: float) -> nn.Linear:
    """A copy whose outputs are multiplied by the factor."""
    scaled = copy.deepcopy(linear)
    with torch.no_grad():
        scaled.weight.mul_(factor)
        scaled.bias.mul_(factor)
    return scaled


def _joined(*linears: nn.Linear) -> nn.Linear:
    """One Linear whose output is the concatenated outputs of several."""
    joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears))
    with torch.no_grad():
        joined.weight.copy_(torch.cat([linear.weight for linear in linears]))
        joined.bias.copy_(torch.cat([linear.bias for linear in linears]))
    return joined
