"""Family: what a checkpoint of one architecture is, as data: names in its config, places of its modules, its tokenizer.

Everything that works on models (surgery, importance, capture, rewritten graphs, cut tables, pruned classes) is written once,
over this description. Paths are those of modules: `attention.self.query` below a layer is `layer.attention.self.query`.
What cannot be done with a family stands in `lacks`, each with its reason, and is refused before any work. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgebert.models.families.paths import BERT_EMBEDDINGS, BERT_LAYER, BERT_NAMES, ConfigNames, EmbeddingPaths, LayerPaths
from edgebert.models.families.shapes import Named

Vocabulary = Literal["WordPiece", "BPE", "Unigram"]
ALL_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
COMMON_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
USUAL_PADDING = 1
"""pad_token_id that Transformers assumes for the families that count positions from it, where config.json does not say."""
POSITIONS = 512
"""Rows of the position table that Transformers assumes where config.json does not say."""
Ability = Literal["units", "tokens", "positions", "hidden", "relations", "times"]
"""What can be done with a family beside training, exporting and quantising it. units: heads, neurons and layers are cut;
tokens: rows of the word table are; positions: rows of the position table are; hidden: the hidden states between layers are
compared in distillation; relations: queries, keys and values are; times: a speed-up is predicted from times of layers."""
CUTS: tuple[Ability, ...] = ("units", "tokens", "positions")


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
    names: ConfigNames = BERT_NAMES
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
    embedding: EmbeddingPaths = BERT_EMBEDDINGS
    layer: LayerPaths | None = BERT_LAYER
    """None where the layers are built otherwise than BERT's; then `lacks` says what that rules out."""
    segments_by_config: bool = False
    """Whether its models take `token_type_ids` beside `inputs` where config.json has more than one type."""
    classless: tuple[str, ...] = ()
    """Endings of classes, such as ForQuestionAnswering, that Transformers does not have for it."""
    undeclared: tuple[str, ...] = ()
    """Keys of config.json that Transformers reads although its config class does not declare them."""
    derived: tuple[str, ...] = ()
    """Keys of config.json that Transformers works out from the sizes where a file leaves them out."""
    layer_lists: tuple[str, ...] = ()
    """Keys of config.json whose values have an item for each layer."""
    positions: int = POSITIONS
    """Longest input in tokens that Transformers assumes where config.json does not say."""
    former: Mapping[str, str] = field(default_factory=dict)
    """Piece of a tensor's name, as files have it -> the module's name in Transformers today."""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Matrix in files -> the matrices that Transformers splits it into, by equal numbers of rows."""
    language_bias: str | None = None
    """Parameter with a number for each token, below the model, where that is not the bias of `language_head`."""
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
        return int(config.get("max_position_embeddings", self.positions)) - self.first_position(config)

    def inputs_for(self, segments: int | None) -> tuple[str, ...]:
        """Inputs of the graphs of a model.

        Args:
            segments: `type_vocab_size` of config.json; None where it has none.
        """
        return ALL_INPUTS if self.segments_by_config and (segments or 0) > 1 else self.inputs

    def lacking(self, config: Mapping[str, Any]) -> Mapping[Ability, str]:
        """`lacks`, and what a model of this config.json does not allow beside that."""
        return self.lacks

    def fault(self, config: Mapping[str, Any]) -> str | None:
        """What a config.json says, beside `fixed`, that rules compression out, in words; None where nothing does.

        Args:
            config: the content of config.json, whose sizes have been checked.
        """
        return None

    def relative_rows(self, config: Mapping[str, Any]) -> int:
        """Rows of relative positions that the queries and keys of a head are multiplied with; 0 in families without them."""
        return 0

    def has(self, path: str, config: Mapping[str, Any]) -> bool:
        """Whether a model of such a config.json has a part of `embedding` or `layer`."""
        return True

    def has_bias(self, path: str, config: Mapping[str, Any]) -> bool:
        """Whether a matrix or norm has a bias in a model of such a config.json.

        Args:
            path: below the layer, the encoder's embeddings, or the model for a head.
        """
        return True

    def more_head_tensors(self, ending: str, config: Mapping[str, Any]) -> Iterable[Named]:
        """Plain name and shape of the tensors of a class's head beside those of its matrices.

        Args:
            ending: a key of `heads`.
            config: result of `with_sizes`.
        """
        return ()

    def head_matrices(self, ending: str, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The matrices of the head of a class, as in `heads`.

        Args:
            ending: a key of `heads`.
            config: the content of config.json.
        """
        return self.heads[ending]

    def head_module(self, ending: str) -> str | None:
        """First part of the name of the module that gives the outputs of a class; None for a class that it does not know.

        Args:
            ending: ending of the class's name.
        """
        matrix = self.language_head if ending == "ForMaskedLM" else self.heads.get(ending, ("",))[-1]
        return matrix.partition(".")[0] or None

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
