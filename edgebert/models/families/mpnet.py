"""MPNet (Song et al. 2020, arXiv 2004.09297): relative positions beside absolute ones, as a bias that all layers share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.paths import EmbeddingPaths, LayerPaths
from edgebert.models.families.shapes import Named

BUCKETS = 32
"""Distances that the bias tells apart: fixed in Transformers, whatever config.json says."""


class MPNetFamily(Family):
    """The family with the table of the shared bias."""

    def more_tensors(self, config: Mapping[str, Any]) -> Iterator[Named]:
        """The bias of each distance and head; a pruned model has the columns of all heads of the original."""
        yield "encoder.relative_attention_bias.weight", (BUCKETS, config["num_attention_heads"])


MPNET = MPNetFamily(
    model_type="mpnet",
    title="MPNet",
    class_name="MPNet",
    prefix="mpnet",
    layers="encoder.layer",
    language_head="lm_head.decoder",
    vocabulary="WordPiece",
    vocabulary_files=("vocab.txt",),
    heads={
        "ForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=("pooler.", "lm_head.", "qa_outputs."),
    inputs=("input_ids", "attention_mask"),
    embedding=EmbeddingPaths(segment=None),
    layer=LayerPaths(
        attention="attention.attn",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        attention_norm="attention.LayerNorm",
        residuals=None,
        shared_bias="encoder.compute_position_bias",
    ),
    fixed={"pad_token_id": 1, "relative_attention_num_buckets": BUCKETS},  # both are constants of its code
    skips_padding=True,
    special_tokens={
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "[UNK]",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    rewrites=(),
)
