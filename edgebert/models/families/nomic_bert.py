"""NomicBERT (Nussbaum et al. 2024, arXiv 2402.01613): BERT with rotary positions and gated FFNs, without most biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.paths import EmbeddingPaths, LayerPaths
from edgebert.models.families.rotary import KEYS, NO_TABLE, rotary_fault

GATED_LAYER = LayerPaths(
    attention="self_attn",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_output="self_attn.o_proj",
    attention_norm="post_attention_layernorm",
    up="mlp.up_proj",
    gate="mlp.gate_proj",
    activation="mlp.act_fn",
    down="mlp.down_proj",
    norm="post_mlp_layernorm",
    residuals=None,
    mask_alone=False,
    repairs=("values",),
    heads=None,
    width=None,
)
"""The layers of NomicBERT and GTE."""
OWN_CODE = ("n_embd", "n_layer", "n_head", "n_inner")
"""Names of sizes in files for Nomic's own code, which Transformers does not read."""


class NomicBertFamily(Family):
    """The family without biases in its layers."""

    def fault(self, config: Mapping[str, Any]) -> str | None:
        """Files of Nomic's own code, sizes of heads that do not follow, and rotations that it does not follow."""
        fields = self.with_sizes(config)
        hidden, heads = fields["hidden_size"], fields["num_attention_heads"]
        if (own := next((name for name in OWN_CODE if name in config), None)) is not None:
            return f"{own} is a name of Nomic's own code, which Transformers does not read"
        if config.get("head_dim") not in (None, hidden // heads):
            return f"head_dim is {str(config['head_dim'])[:40]}, and {hidden} in {heads} heads make {hidden // heads}"
        return rotary_fault(config, hidden_size=hidden, heads=heads)

    def has_bias(self, path: str, config: Mapping[str, Any]) -> bool:
        """Norms and heads have one, the matrices of layers have none."""
        return not path.startswith(("self_attn.", "mlp."))


NOMIC_BERT = NomicBertFamily(
    model_type="nomic_bert",
    title="NomicBERT",
    class_name="NomicBert",
    prefix="nomic_bert",
    layers="layers",
    language_head="cls.predictions.decoder",
    vocabulary="WordPiece",
    vocabulary_files=("vocab.txt",),
    heads={"ForSequenceClassification": ("pooler.dense", "classifier"), "ForTokenClassification": ("classifier",)},
    other_heads=("pooler.", "cls."),
    tokenizer="BertTokenizer",
    positions=2048,
    embedding=EmbeddingPaths(position=None),
    layer=GATED_LAYER,
    classless=("ForQuestionAnswering",),
    undeclared=KEYS,
    derived=("head_dim",),
    former={
        r"^encoder\.layers\.": "layers.",
        r"^emb_ln\.": "embeddings.LayerNorm.",
        r"\.attn\.out_proj\.": ".self_attn.o_proj.",
        r"\.fc11\.": ".up_proj.",
        r"\.fc12\.": ".gate_proj.",
        r"\.fc2\.": ".down_proj.",
        r"\.norm1\.": ".post_attention_layernorm.",
        r"\.norm2\.": ".post_mlp_layernorm.",
    },
    joined={"attn.Wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")},
    rewrites=(),
    lacks=NO_TABLE,
)
