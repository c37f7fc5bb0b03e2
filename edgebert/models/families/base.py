"""Family: what a checkpoint of one architecture is, as data: names in its config, places of its modules, its tokenizer.

Everything that works on models (surgery, importance, capture, rewritten graphs, cut tables, pruned classes) is written once,
over this description. Paths are those of modules: `attention.self.query` below a layer is `layer.attention.self.query`.
What cannot be done with a family stands in `lacks`, each with its reason, and is refused before any work. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgebert.models.families.shapes import Named

Vocabulary = Literal["WordPiece", "BPE", "Unigram"]
ALL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
COMMON_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
USUAL_PADDING = 1
"""pad_token_id that Transformers assumes for the families that count positions from it, where config.json does not say."""
POSITIONS = 512
"""Rows of the position table that Transformers assumes where config.json does not say."""
Ability = Literal["units", "tokens", "positions", "hidden", "relations"]
"""What can be done with a family beside training, exporting and quantising it. units: heads, neurons and layers are cut;
tokens: rows of the word table are; positions: rows of the position table are; hidden: the hidden states between layers are
compared in distillation; relations: queries, keys and values are."""
CUTS: tuple[Ability, ...] = ("units", "tokens", "positions")


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
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    activation: str = "intermediate.intermediate_act_fn"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"
    residuals: tuple[str, str] | None = ("attention.output", "output")
    """Modules called with (update, residual) at the end of each half; None where the layer adds the residual itself."""
    shared_bias: str | None = None
    """Below the encoder: the method that makes from hidden states the bias, of shape (batch, heads of the original, length,
    length), that every layer adds to its scores and takes as the third argument of `attention`; None where there is none."""
    heads: str = "num_attention_heads"
    """Attribute of the attention module: its number of heads."""
    width: str | None = "all_head_size"
    """Attribute of the attention module: heads times the size of a head; None where it has none."""


@dataclass(frozen=True)
class Family:
    """One architecture of Transformers."""

    model_type: str
    """As config.json names it."""
    title: str
    """Name for people."""
    class_name: str
    """What its classes in Transformers start with: `Bert` of `BertForMaskedLM`."""
    prefix: str
    """Attribute of a model with a head that holds the encoder, and the start of its tensors' names."""
    layers: str
    """The list of layers, below the encoder; of modules that several layers share, where layers do."""
    language_head: str
    """The output matrix of the masked language model, below the model."""
    vocabulary: Vocabulary
    vocabulary_files: tuple[str, ...]
    """Files that a tokenizer.json can be made from, all of them needed."""
    heads: Mapping[str, tuple[str, ...]]
    """Ending of a class's name -> the matrices of its head, below the model; a pooler is below the encoder. The last one has a
    row for each label, the others are square."""
    other_heads: tuple[str, ...]
    """Starts of the names of tensors of other heads, which a head of these tasks does not read."""
    extra_tokenizer_files: tuple[str, ...] = ("added_tokens.json",)
    tokenizer: str = ""
    """Class of its tokenizer in Transformers; empty where it is called as the family's other classes are."""
    inputs: tuple[str, ...] = ALL_INPUTS
    """Inputs of its graphs, in order."""
    names: ConfigNames = ConfigNames()
    defaults: Mapping[str, int] = field(
        default_factory=lambda: {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        }
    )
    """BERT's name of a size, or the family's own name of one that BERT does not have, such as `embedding_size` -> what
    Transformers assumes where config.json leaves it out."""
    embedding: EmbeddingPaths = EmbeddingPaths()
    layer: LayerPaths | None = LayerPaths()
    """None where the layers are built otherwise than BERT's; then `lacks` says what that rules out."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Key of config.json -> its only value that is supported, which Transformers assumes where the file leaves it out."""
    skips_padding: bool = False
    """Whether positions count from pad_token_id + 1 on and skip the padding token, so that as many rows carry no token."""
    special_tokens: Mapping[str, str] = field(
        default_factory=lambda: {
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "mask_token": "[MASK]",
        }
    )
    """Role -> the token that has it if no file of the tokenizer names another."""
    rewrites: tuple[str, ...] = ("mask", "scale", "qkv", "first_token", "attention")
    """Rewrites of its graph that leave the answers as they are."""
    lacks: Mapping[Ability, str] = field(default_factory=dict)
    """What its models do not allow -> the reason, which ends a sentence: "because ..."."""
    refuses: Mapping[str, str] = field(default_factory=dict)
    """Name of a task that its models do not go through -> the reason."""

    @property
    def prunes(self) -> tuple[Ability, ...]:
        """What can be removed of its models."""
        return tuple(part for part in CUTS if part not in self.lacks)

    @property
    def pruned_type(self) -> str:
        """`model_type` of a model with sizes of its own in every layer."""
        return f"edgebert_pruned_{self.model_type.replace('-', '_')}"

    @property
    def tokenizer_class(self) -> str:
        """Class of its tokenizer in Transformers."""
        return self.tokenizer or f"{self.class_name}Tokenizer"

    @property
    def tokenizer_files(self) -> tuple[str, ...]:
        """Names of all files that a tokenizer of the family may have."""
        return (*COMMON_TOKENIZER_FILES, *self.vocabulary_files, *self.extra_tokenizer_files)

    def first_position(self, config: Mapping[str, Any]) -> int:
        """The row of the position table that the first token of a text gets.

        Args:
            config: the content of config.json.
        """
        padding = config.get("pad_token_id")
        return (padding if isinstance(padding, int) else USUAL_PADDING) + 1 if self.skips_padding else 0

    def longest_input(self, config: Mapping[str, Any]) -> int:
        """Most tokens of a text that the position table has rows for."""
        return int(config.get("max_position_embeddings", POSITIONS)) - self.first_position(config)

    def head_matrices(self, ending: str, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The matrices of the head of a class, as in `heads`.

        Args:
            ending: a key of `heads`.
            config: the content of config.json.
        """
        return self.heads[ending]

    def module_count(self, config: Mapping[str, Any]) -> int:
        """Number of modules in the list of layers.

        Args:
            config: result of `with_sizes`.
        """
        return int(config["num_hidden_layers"])

    def more_tensors(self, config: Mapping[str, Any]) -> Iterable[Named]:
        """Plain name and shape of the encoder's tensors that `embedding` and `layer` do not describe.

        Args:
            config: result of `with_sizes`, whose number of layers is that of the weights.
        """
        return ()

    def with_sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The content of config.json with the sizes under BERT's names as well, and with the defaults that it leaves out."""
        sizes = {name: config.get(self.name_of(name), default) for name, default in self.defaults.items()}
        return {**config, **sizes}

    def name_of(self, size: str) -> str:
        """The key of config.json for a size of `defaults`."""
        return str(getattr(self.names, size, size))
