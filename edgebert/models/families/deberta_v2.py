"""DeBERTa v2 and v3 (He et al. 2021, arXiv 2006.03654 and 2111.09543): attention to content and to relative positions apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Ability, Family
from edgebert.models.families.paths import LayerPaths
from edgebert.models.families.shapes import Named, norm

KINDS: dict[str, type] = {
    "relative_attention": bool,
    "position_biased_input": bool,
    "share_att_key": bool,
    "legacy": bool,
    "max_relative_positions": int,
    "position_buckets": int,
    "conv_kernel_size": int,
    "conv_groups": int,
    "norm_rel_ebd": str,
    "conv_act": str,
}
"""Key of config.json -> type of its value."""
TYPES = ("c2p", "p2c")
"""What attends to what: content to positions, positions to content."""
CONVOLUTION = "a convolution beside its first layer reads neighbouring tokens"


class DebertaV2Family(Family):
    """The family with its variants: tables, projections and a convolution that only some models have."""

    def fault(self, config: Mapping[str, Any]) -> str | None:
        """Values that Transformers reads without a check, and widths that differ from the hidden size."""
        for name, kind in KINDS.items():
            if config.get(name) is not None and type(config[name]) is not kind:
                return f"{name} is {str(config[name])[:40]!r}, not of the type {kind.__name__}"
        hidden = self.with_sizes(config)["hidden_size"]
        for name in ("embedding_size", "pooler_hidden_size"):
            if config.get(name) not in (None, hidden):
                return f"{name} is {str(config[name])[:40]}, not hidden_size, which is {hidden}"
        if unknown := sorted(set(_types(config)) - set(TYPES)):
            return f"pos_att_type has {unknown[0][:40]!r}, and Transformers knows {' and '.join(TYPES)}"
        kernel, groups = config.get("conv_kernel_size") or 0, config.get("conv_groups") or 1
        if kernel > 0 and (kernel % 2 == 0 or groups < 1 or hidden % groups):
            return f"conv_kernel_size is {kernel} and conv_groups {groups}; it has to be odd, and the groups divide {hidden}"
        return None

    def lacking(self, config: Mapping[str, Any]) -> Mapping[Ability, str]:
        """Units too, where a convolution ties the first layer to the embeddings."""
        return {**self.lacks, "units": CONVOLUTION} if (config.get("conv_kernel_size") or 0) > 0 else self.lacks

    def relative_rows(self, config: Mapping[str, Any]) -> int:
        """Both signs of every distance, for each type of attention."""
        return 2 * _span(config, self.positions) * len(_types(config)) if config.get("relative_attention") else 0

    def has(self, path: str, config: Mapping[str, Any]) -> bool:
        """Tables and projections as config.json says."""
        types = [] if config.get("share_att_key") or not config.get("relative_attention") else _types(config)
        optional = {
            "position_embeddings": bool(config.get("position_biased_input", True)),
            "token_type_embeddings": (config.get("type_vocab_size") or 0) > 0,
            "attention.self.pos_key_proj": "c2p" in types,
            "attention.self.pos_query_proj": "p2c" in types,
        }
        return optional.get(path, True)

    def more_tensors(self, config: Mapping[str, Any]) -> Iterator[Named]:
        """The table of relative positions, its norm, and the convolution."""
        hidden = config["hidden_size"]
        if config.get("relative_attention"):
            yield "encoder.rel_embeddings.weight", (2 * _span(config, self.positions), hidden)
        if "layer_norm" in str(config.get("norm_rel_ebd") or "").lower():
            yield from norm("encoder.LayerNorm", hidden)
        if (kernel := config.get("conv_kernel_size") or 0) > 0:
            yield "encoder.conv.conv.weight", (hidden, hidden // (config.get("conv_groups") or 1), kernel)
            yield "encoder.conv.conv.bias", (hidden,)
            yield from norm("encoder.conv.LayerNorm", hidden)


def _types(config: Mapping[str, Any]) -> list[str]:
    """The types of attention to positions; older files have them in one string."""
    named = config.get("pos_att_type") or []
    return [part.strip() for part in named.lower().split("|")] if isinstance(named, str) else [str(part) for part in named]


def _span(config: Mapping[str, Any], positions: int) -> int:
    """Number of distances between tokens, in each direction, that have an embedding of their own."""
    if (buckets := config.get("position_buckets") or -1) > 0:
        return int(buckets)
    most = config.get("max_relative_positions") or -1
    return int(most if most > 0 else config.get("max_position_embeddings", positions))


DEBERTA_V2 = DebertaV2Family(
    model_type="deberta-v2",
    title="DeBERTa",
    class_name="DebertaV2",
    prefix="deberta",
    layers="encoder.layer",
    language_head="cls.predictions.decoder",
    language_bias="lm_predictions.lm_head.bias",
    vocabulary="Unigram",
    vocabulary_files=("spm.model",),
    heads={
        "ForSequenceClassification": ("pooler.dense", "classifier"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=("pooler.", "cls.", "lm_predictions.", "mask_predictions.", "qa_outputs.", "embeddings.position_embeddings."),
    inputs=("input_ids", "attention_mask"),
    segments_by_config=True,
    defaults={"hidden_size": 1536, "num_hidden_layers": 24, "num_attention_heads": 24, "intermediate_size": 6144},
    layer=LayerPaths(
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        more_projections=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        mask_alone=False,
        repairs=("values",),
    ),
    derived=("pooler_hidden_size", "embedding_size"),
    undeclared=(
        "share_att_key",
        "position_buckets",
        "norm_rel_ebd",
        "conv_kernel_size",
        "conv_groups",
        "conv_act",
        "embedding_size",
        "pooler_hidden_size",
        "cls_dropout",
        "attention_head_size",
    ),
    rewrites=(),
    lacks={
        "positions": "they are relative, and no table ends with them",
        "times": "only layers like BERT's are timed",
    },
)
