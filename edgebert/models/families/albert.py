"""ALBERT (Lan et al. 2020, arXiv 1909.11942): one set of weights for all layers, and narrow tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.shapes import Named, linear, norm

SHARED = "all layers share one set of weights"


class AlbertFamily(Family):
    """The family with the tensors of the modules that its layers share."""

    def module_count(self, config: Mapping[str, Any]) -> int:
        """One for all layers."""
        return 1

    def more_tensors(self, config: Mapping[str, Any]) -> Iterator[Named]:
        """The matrix behind the tables, which is there whatever their width, and the shared layer."""
        hidden, neurons, start = config["hidden_size"], config["intermediate_size"], f"{self.layers}.0.albert_layers.0."
        yield from linear("encoder.embedding_hidden_mapping_in", hidden, config["embedding_size"])
        for name in ("query", "key", "value", "dense"):
            yield from linear(f"{start}attention.{name}", hidden, hidden)
        yield from norm(f"{start}attention.LayerNorm", hidden)
        yield from linear(f"{start}ffn", neurons, hidden)
        yield from linear(f"{start}ffn_output", hidden, neurons)
        yield from norm(f"{start}full_layer_layer_norm", hidden)


ALBERT = AlbertFamily(
    model_type="albert",
    title="ALBERT",
    class_name="Albert",
    prefix="albert",
    layers="encoder.albert_layer_groups",
    language_head="predictions.decoder",
    vocabulary="Unigram",
    vocabulary_files=("spiece.model",),
    heads={
        "ForSequenceClassification": ("pooler", "classifier"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=("pooler.", "predictions.", "sop_classifier.", "qa_outputs."),
    defaults={
        "hidden_size": 4096,
        "num_hidden_layers": 12,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "embedding_size": 128,
    },
    layer=None,
    fixed={"num_hidden_groups": 1, "inner_group_num": 1},
    special_tokens={
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "unk_token": "<unk>",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "<pad>",
        "mask_token": "[MASK]",
    },
    rewrites=(),
    lacks={"units": SHARED, "hidden": SHARED, "relations": SHARED},
)
