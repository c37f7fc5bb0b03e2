"""Transformers classes for a BERT whose layers differ in size.

BertConfig has one number of heads and one `intermediate_size` for all layers. `PrunedBertConfig` has one for each layer, and
the size of a head, which no longer follows from the number of heads. Importing this module registers the classes with the
Auto classes, so that `AutoModelForSequenceClassification.from_pretrained(folder)` and the others read a pruned folder.
Parameters have the same names as in BERT.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

from edgebert.models.folder import PRUNED_TYPE


class PrunedBertConfig(BertConfig):
    """BertConfig with sizes for each layer. "Original" is the BERT that the model was cut from.

    `num_attention_heads` and `intermediate_size` are the original's.
    """

    model_type = PRUNED_TYPE

    layer_heads: list[int] | tuple[int, ...] = ()
    """Heads of each layer; its length is `num_hidden_layers`."""
    layer_intermediate_sizes: list[int] | tuple[int, ...] = ()
    """FFN neurons of each layer."""
    attention_head_size: int = 64
    source_layers: list[int] | tuple[int, ...] = ()
    """Index of each layer in the original, which had `source_num_hidden_layers`."""
    source_heads: list[list[int]] | tuple[tuple[int, ...], ...] = ()
    """Indices of each layer's heads in the original layer, which had `num_attention_heads`."""
    source_num_hidden_layers: int = 0


class PrunedSelfAttention(BertSelfAttention):
    """BERT's self-attention with any number of heads of a given size."""

    def __init__(self, config: PrunedBertConfig, index: int) -> None:
        nn.Module.__init__(self)  # BertSelfAttention derives the head size from the number of heads
        self.config = config  # not a copy: the attention implementation is read from it at every call
        self.num_attention_heads = config.layer_heads[index]
        self.attention_head_size = config.attention_head_size
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.scaling = self.attention_head_size**-0.5
        self.query = nn.Linear(config.hidden_size, self.all_head_size)
        self.key = nn.Linear(config.hidden_size, self.all_head_size)
        self.value = nn.Linear(config.hidden_size, self.all_head_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.is_decoder = False
        self.is_causal = False
        self.layer_idx = index


class PrunedLayer(BertLayer):
    """An encoder layer with sizes of its own."""

    def __init__(self, config: PrunedBertConfig, index: int) -> None:
        own = copy.copy(config)
        own.intermediate_size = config.layer_intermediate_sizes[index]
        own.num_attention_heads = 1  # any divisor of hidden_size: the attention is replaced below
        super().__init__(own, layer_idx=index)
        self.attention.self = PrunedSelfAttention(config, index)
        self.attention.output.dense = nn.Linear(self.attention.self.all_head_size, config.hidden_size)


class PrunedBertModel(BertModel):
    """The encoder, with a pooler by default."""

    config_class = PrunedBertConfig

    def __init__(self, config: PrunedBertConfig, add_pooling_layer: bool = True) -> None:
        _check_sizes(config)
        empty = _no_layers(config)
        super().__init__(empty, add_pooling_layer=add_pooling_layer)
        config._attn_implementation = empty._attn_implementation  # BertModel resolved it on the copy
        self.config = self.encoder.config = config
        self.encoder.layer = nn.ModuleList([PrunedLayer(config, index) for index in range(config.num_hidden_layers)])
        self.post_init()


def _check_sizes(config: PrunedBertConfig) -> None:
    for name in ("layer_heads", "layer_intermediate_sizes"):
        if len(getattr(config, name)) != config.num_hidden_layers:
            raise ValueError(f"{name} has {len(getattr(config, name))} entries for {config.num_hidden_layers} layers")


def _no_layers(config: PrunedBertConfig) -> PrunedBertConfig:
    """A copy of the config without layers, because the encoder that BERT's classes build is replaced."""
    empty = copy.copy(config)
    empty.num_hidden_layers = 0
    return empty


class PrunedBertForSequenceClassification(BertForSequenceClassification):
    """Encoder with a head for one label a text."""

    config_class = PrunedBertConfig

    def __init__(self, config: PrunedBertConfig) -> None:
        super().__init__(_no_layers(config))
        _put_encoder(self, config, pooled=True)


class PrunedBertForTokenClassification(BertForTokenClassification):
    """Encoder with a head for one label a token."""

    config_class = PrunedBertConfig

    def __init__(self, config: PrunedBertConfig) -> None:
        super().__init__(_no_layers(config))
        _put_encoder(self, config, pooled=False)


class PrunedBertForQuestionAnswering(BertForQuestionAnswering):
    """Encoder with a head for the first and last token of an answer."""

    config_class = PrunedBertConfig

    def __init__(self, config: PrunedBertConfig) -> None:
        super().__init__(_no_layers(config))
        _put_encoder(self, config, pooled=False)


class PrunedBertForMaskedLM(BertForMaskedLM):
    """Encoder with the masked language model's head."""

    config_class = PrunedBertConfig

    def __init__(self, config: PrunedBertConfig) -> None:
        super().__init__(_no_layers(config))
        _put_encoder(self, config, pooled=False)


def _put_encoder(model: Any, config: PrunedBertConfig, *, pooled: bool) -> None:
    config._attn_implementation = model.config._attn_implementation
    model.config = config
    model.bert = PrunedBertModel(config, add_pooling_layer=pooled)
    model.post_init()


CLASSES: dict[type[Any], type[Any]] = {
    BertModel: PrunedBertModel,
    BertForSequenceClassification: PrunedBertForSequenceClassification,
    BertForTokenClassification: PrunedBertForTokenClassification,
    BertForQuestionAnswering: PrunedBertForQuestionAnswering,
    BertForMaskedLM: PrunedBertForMaskedLM,
}
"""Class of Transformers -> its pruned class."""


def register() -> None:
    """Makes the Auto classes read and write pruned folders. Registering twice does no harm."""
    AutoConfig.register(PRUNED_TYPE, PrunedBertConfig, exist_ok=True)
    for auto, pruned in (
        (AutoModel, PrunedBertModel),
        (AutoModelForSequenceClassification, PrunedBertForSequenceClassification),
        (AutoModelForTokenClassification, PrunedBertForTokenClassification),
        (AutoModelForQuestionAnswering, PrunedBertForQuestionAnswering),
        (AutoModelForMaskedLM, PrunedBertForMaskedLM),
    ):
        auto.register(PrunedBertConfig, pruned, exist_ok=True)


register()
