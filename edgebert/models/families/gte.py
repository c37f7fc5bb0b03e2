"""GTE (Zhang et al. 2024, arXiv 2407.19669): rotary positions and gated FFNs, multilingual or English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.nomic_bert import GATED_LAYER
from edgebert.models.families.paths import EmbeddingPaths
from edgebert.models.families.roberta import SPECIAL_TOKENS
from edgebert.models.families.rotary import KEYS, NO_TABLE, rotary_fault

UNBIASED = ("mlp.up_proj", "mlp.gate_proj")


class GteFamily(Family):
    """The family with its optional segment ids."""

    def fault(self, config: Mapping[str, Any]) -> str | None:
        """Rotations that it does not follow."""
        fields = self.with_sizes(config)
        return rotary_fault(config, hidden_size=fields["hidden_size"], heads=fields["num_attention_heads"])

    def has(self, path: str, config: Mapping[str, Any]) -> bool:
        """Segment ids are left out where config.json has no type of them."""
        return path != self.embedding.segment or config.get("type_vocab_size", 1) > 0

    def has_bias(self, path: str, config: Mapping[str, Any]) -> bool:
        """All but the two matrices into the FFN."""
        return path not in UNBIASED


GTE = GteFamily(
    model_type="gte",
    title="GTE",
    class_name="Gte",
    prefix="gte",
    layers="layers",
    language_head="lm_head.decoder",
    vocabulary="Unigram",
    vocabulary_files=("sentencepiece.bpe.model",),
    extra_tokenizer_files=("added_tokens.json", "vocab.txt"),
    heads={"ForSequenceClassification": ("pooler.dense", "classifier"), "ForTokenClassification": ("classifier",)},
    other_heads=("pooler.", "lm_head."),
    tokenizer="XLMRobertaTokenizer",
    inputs=("input_ids", "attention_mask"),
    segments_by_config=True,
    positions=8192,
    embedding=EmbeddingPaths(position=None),
    layer=GATED_LAYER,
    classless=("ForQuestionAnswering",),
    undeclared=KEYS,
    fixed={"layer_norm_type": "layer_norm", "logn_attention_scale": False},
    former={
        r"^new\.": "",
        r"^encoder\.layer\.": "layers.",
        r"\.attention\.o_proj\.": ".self_attn.o_proj.",
        r"\.attn_ln\.": ".post_attention_layernorm.",
        r"\.mlp_ln\.": ".post_mlp_layernorm.",
    },
    joined={
        "attention.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj"),
    },
    special_tokens=SPECIAL_TOKENS,
    rewrites=(),
    lacks=NO_TABLE,
)
