"""Names in config.json and places of modules, by what they are; the defaults are BERT's.

Paths are those of modules: `attention.self.query` below a layer is `layer.attention.self.query`. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfigNames:
    """Names in config.json of the sizes that BERT calls as these fields are called."""

    hidden_size: str = "hidden_size"
    num_hidden_layers: str = "num_hidden_layers"
    num_attention_heads: str = "num_attention_heads"
    intermediate_size: str = "intermediate_size"


@dataclass(frozen=True)
class EmbeddingPaths:
    """Tables and norm, below the encoder's `embeddings`."""

    word: str = "word_embeddings"
    position: str | None = "position_embeddings"
    """None where positions have no table of their own: relative or rotary ones."""
    segment: str | None = "token_type_embeddings"
    """None where tokens have no segment ids."""
    norm: str | None = "LayerNorm"
    narrow_words: bool = False
    """Whether `embedding_size` is the width of the word table alone, and not that of all tables."""
    projection: str | None = None
    """Below the encoder: the matrix from the width of the tables to the hidden size, in models where the two differ."""


@dataclass(frozen=True)
class LayerPaths:
    """Modules of an encoder layer: projections, output and norm of the attention half, then those of the FFN half."""

    attention: str = "attention.self"
    """The module that mixes the values; the three projections are its children."""
    qkv: str | None = None
    """One matrix for queries, keys and values, a third of its rows each; then `query`, `key` and `value` name nothing."""
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    more_projections: tuple[str, ...] = ()
    """Matrices with rows for every head beside these, in the models that have them."""
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    gate: str | None = None
    """The matrix whose outputs, behind the activation, are multiplied with those of `up`; None where there is none."""
    gated: bool = False
    """Whether `up` has both in one: the rows that the activation is applied to, then as many that they are multiplied with."""
    activation: str = "intermediate.intermediate_act_fn"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"
    residuals: tuple[str, str] | None = ("attention.output", "output")
    """Modules called with (update, residual) at the end of each half; None where the layer adds the residual itself."""
    shared_bias: str | None = None
    """Below the encoder: the method that makes from hidden states the bias, of shape (batch, heads of the original, length,
    length), that every layer adds to its scores and takes as the third argument of `attention`; None where there is none."""
    before: bool = False
    """Whether each half begins with its norm, and its end is added to the hidden states as it is."""
    first_norm: bool = True
    """Whether the first layer of a whole model has an attention norm."""
    mask_alone: bool = True
    """Whether the attention module takes hidden states and an additive mask, besides `shared_bias`, and nothing else."""
    repairs: tuple[str, ...] = ("values", "norms")
    """Repairs of quantisation that hold for such layers, beside those that hold for any."""
    heads: str | None = "num_attention_heads"
    """Attribute of the attention module: its number of heads; None where it counts them."""
    width: str | None = "all_head_size"
    """Attribute of the attention module: heads times the size of a head; None where it has none."""

    @property
    def head_rows(self) -> dict[str, int]:
        """Matrix with rows for every head -> how many blocks of such rows it has."""
        blocks = {self.qkv: 3} if self.qkv else dict.fromkeys((self.query, self.key, self.value), 1)
        return {**blocks, **dict.fromkeys(self.more_projections, 1)}

    @property
    def neuron_rows(self) -> dict[str, int]:
        """Matrix with a row for every FFN neuron -> how many blocks of such rows it has."""
        return {self.up: 2 if self.gated else 1, **({self.gate: 1} if self.gate else {})}


BERT_NAMES, BERT_EMBEDDINGS, BERT_LAYER = ConfigNames(), EmbeddingPaths(), LayerPaths()
