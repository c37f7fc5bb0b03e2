"""ModernBERT (Warner et al. 2024, arXiv 2412.13663): rotary positions, local attention, gated FFNs, norms before each half."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.paths import EmbeddingPaths, LayerPaths
from edgebert.models.families.rotary import KEYS, NO_TABLE, rotary_fault
from edgebert.models.families.shapes import Named, norm

BIASES = {"attn.": "attention_bias", "mlp.": "mlp_bias", "head.dense": "classifier_bias"}
"""Start of a matrix's path -> the key of config.json that says whether it has a bias."""
LAYER_TYPES = ("full_attention", "sliding_attention")


class ModernBertFamily(Family):
    """The family with its optional biases and types of layers."""

    def fault(self, config: Mapping[str, Any]) -> str | None:
        """Rotations and windows that it does not follow."""
        fields = self.with_sizes(config)
        types, every = config.get("layer_types"), config.get("global_attn_every_n_layers", 3)
        if types is not None and (not isinstance(types, list) or any(kind not in LAYER_TYPES for kind in types)):
            return f"layer_types is not a list of {' and '.join(LAYER_TYPES)}"
        if types is not None and len(types) != fields["num_hidden_layers"]:
            return f"layer_types has {len(types)} items for {fields['num_hidden_layers']} layers"
        if type(every) is not int or every < 1:
            return f"global_attn_every_n_layers is {str(every)[:40]}; it has to be 1 or more"
        window = config.get("local_attention", 128)
        if type(window) is not int or window < 2:
            return f"local_attention is {str(window)[:40]}; it has to be 2 or more"
        if config.get("classifier_pooling", "cls") not in ("cls", "mean"):
            return f"classifier_pooling is {str(config['classifier_pooling'])[:40]!r}, neither 'cls' nor 'mean'"
        return rotary_fault(config, hidden_size=fields["hidden_size"], heads=fields["num_attention_heads"])

    def has_bias(self, path: str, config: Mapping[str, Any]) -> bool:
        """As config.json says: by default neither norms have one, nor matrices but the last."""
        if path.endswith("norm"):
            return bool(config.get("norm_bias", False))
        key = next((key for start, key in BIASES.items() if path.startswith(start)), None)
        return key is None or bool(config.get(key, False))

    def more_tensors(self, config: Mapping[str, Any]) -> Iterator[Named]:
        """The norm behind the last layer."""
        yield from norm("final_norm", config["hidden_size"], bias=self.has_bias("final_norm", config))

    def more_head_tensors(self, ending: str, config: Mapping[str, Any]) -> Iterable[Named]:
        """The norm of the head."""
        return norm("head.norm", config["hidden_size"], bias=self.has_bias("head.norm", config))


MODERNBERT = ModernBertFamily(
    model_type="modernbert",
    title="ModernBERT",
    class_name="ModernBert",
    prefix="model",
    layers="layers",
    language_head="decoder",
    vocabulary="BPE",
    vocabulary_files=(),
    heads={
        "ForSequenceClassification": ("head.dense", "classifier"),
        "ForTokenClassification": ("head.dense", "classifier"),
        "ForQuestionAnswering": ("head.dense", "classifier"),
    },
    other_heads=("decoder.",),
    tokenizer="PreTrainedTokenizerFast",
    inputs=("input_ids", "attention_mask"),
    defaults={"hidden_size": 768, "num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1152},
    positions=8192,
    embedding=EmbeddingPaths(word="tok_embeddings", position=None, segment=None, norm="norm"),
    layer=LayerPaths(
        attention="attn",
        qkv="attn.Wqkv",
        attention_output="attn.Wo",
        attention_norm="attn_norm",
        up="mlp.Wi",
        gated=True,
        activation="mlp.act",
        down="mlp.Wo",
        norm="mlp_norm",
        residuals=None,
        before=True,
        first_norm=False,
        mask_alone=False,
        repairs=("values",),
        heads=None,
        width=None,
    ),
    layer_lists=("layer_types",),
    undeclared=("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", *KEYS),
    rewrites=(),
    lacks=NO_TABLE,
)
