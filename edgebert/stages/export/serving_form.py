"""serving_form: a BERT rewritten so that runtimes run it faster. Outputs stay the same, but for rounding.

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
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgebert.models.surgery import encoder_of, layers_of

BOUND = 1.0e4
"""exp(-BOUND) is 0 in float32 for any scores that a BERT computes."""


def serving_form(model: Any, rewrites: Collection[str]) -> nn.Module:
    """The rewritten model.

    Args:
        model: a BertForSequenceClassification, plain or pruned, in evaluation mode; its modules are shared, not changed.
        rewrites: names from `edgebert.stages.export`; `mask` is part of every rewritten model.

    Returns:
        A module: input_ids, attention_mask and token_type_ids, each int64 of shape (batch, length) -> `logits`, of shape
        (batch, labels).
    """
    return _Classifier(model, frozenset(rewrites)).eval()


class _Classifier(nn.Module):
    """Its modules have the names of Transformers, so that nodes of the export do as well."""

    def __init__(self, model: Any, rewrites: frozenset[str]) -> None:
        super().__init__()
        self.config = model.config
        self.bert = _Encoder(model, rewrites)
        self.classifier = model.classifier

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> Mapping[str, torch.Tensor]:
        return {"logits": self.classifier(self.bert(input_ids, attention_mask, token_type_ids))}


class _Encoder(nn.Module):
    def __init__(self, model: Any, rewrites: frozenset[str]) -> None:
        super().__init__()
        body = encoder_of(model)
        self.embeddings = _Embeddings(body.embeddings)
        self.encoder = _Layers(layers_of(model), rewrites)
        self.pooler = body.pooler

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = (attention_mask.to(hidden.dtype)[:, None, None, :] - 1.0) * BOUND
        pooled: torch.Tensor = self.pooler(self.encoder(hidden, mask, attention_mask))
        return pooled


class _Layers(nn.Module):
    def __init__(self, layers: Sequence[Any], rewrites: frozenset[str]) -> None:
        super().__init__()
        last = len(layers) - 1
        reads_first = "first_token" in rewrites
        self.layer = nn.ModuleList(
            [_Layer(layer, rewrites, first_only=reads_first and index == last) for index, layer in enumerate(layers)]
        )

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask, tokens)
        return hidden


class _Embeddings(nn.Module):
    def __init__(self, source: Any) -> None:
        super().__init__()
        self.word_embeddings = source.word_embeddings
        self.token_type_embeddings = source.token_type_embeddings
        self.position_embeddings = source.position_embeddings
        self.LayerNorm = source.LayerNorm

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        total = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        normed: torch.Tensor = self.LayerNorm(total + self.position_embeddings.weight[: input_ids.shape[1]])
        return normed


class _Layer(nn.Module):
    def __init__(self, source: Any, rewrites: frozenset[str], *, first_only: bool) -> None:
        super().__init__()
        self.attention = _AttentionHalf(source.attention, rewrites, first_only=first_only)
        self.intermediate = source.intermediate
        self.output = source.output

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        attended = self.attention(hidden, mask, tokens)
        summed: torch.Tensor = self.output(self.intermediate(attended), attended)
        return summed


class _AttentionHalf(nn.Module):
    def __init__(self, source: Any, rewrites: frozenset[str], *, first_only: bool) -> None:
        super().__init__()
        self.self = _Attention(source.self, rewrites, first_only=first_only)
        self.output = source.output
        self.first_only = first_only

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        mixed = self.self(hidden, mask, tokens)
        summed: torch.Tensor = self.output(mixed, hidden[:, :1] if self.first_only else hidden)
        return summed


class _Attention(nn.Module):
    """Queries, keys and values of shape (batch, heads, length, head size), mixed to (batch, length, heads * head size)."""

    def __init__(self, source: Any, rewrites: frozenset[str], *, first_only: bool) -> None:
        super().__init__()
        self.heads, self.size = source.num_attention_heads, source.attention_head_size
        self.fused = "attention" in rewrites
        self.first_only = first_only
        # MultiHeadAttention scales by itself.
        self.scale = 1.0 if "scale" in rewrites or self.fused else self.size**-0.5
        query = _scaled(source.query, self.size**-0.5) if "scale" in rewrites and not self.fused else source.query
        self.merged = "qkv" in rewrites
        if self.merged and first_only:
            self.query, self.kv = query, _joined(source.key, source.value)
        elif self.merged:
            self.qkv = _joined(query, source.key, source.value)
        else:
            self.query, self.key, self.value = query, source.key, source.value

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
        if not self.merged:
            return self.query(first), self.key(hidden), self.value(hidden)
        if self.first_only:
            return (self.query(first), *self.kv(hidden).chunk(2, dim=-1))
        return tuple(self.qkv(hidden).chunk(3, dim=-1))

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
