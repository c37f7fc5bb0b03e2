"""SqueezeBERT (Iandola et al. 2020, arXiv 2006.11316): BERT with grouped convolutions for its matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.shapes import Named, norm

GROUPED = "its matrices are grouped convolutions over channels"


class SqueezeBertFamily(Family):
    """The family with the tensors of its layers."""

    def more_tensors(self, config: Mapping[str, Any]) -> Iterator[Named]:
        """The convolutions of the layers, and the norms."""
        hidden, neurons = config["hidden_size"], config["intermediate_size"]
        for index in range(config["num_hidden_layers"]):
            start = f"{self.layers}.{index}."
            for name in ("query", "key", "value"):
                yield from _convolution(f"{start}attention.{name}", hidden, hidden, config[f"{name[0]}_groups"])
            yield from _convolution(f"{start}post_attention.conv1d", hidden, hidden, config["post_attention_groups"])
            yield from norm(f"{start}post_attention.layernorm", hidden)
            yield from _convolution(f"{start}intermediate.conv1d", neurons, hidden, config["intermediate_groups"])
            yield from _convolution(f"{start}output.conv1d", hidden, neurons, config["output_groups"])
            yield from norm(f"{start}output.layernorm", hidden)


def _convolution(path: str, rows: int, columns: int, groups: int) -> Iterator[Named]:
    yield f"{path}.weight", (rows, columns // groups, 1)
    yield f"{path}.bias", (rows,)


SQUEEZEBERT = SqueezeBertFamily(
    model_type="squeezebert",
    title="SqueezeBERT",
    class_name="SqueezeBert",
    prefix="transformer",
    layers="encoder.layers",
    language_head="cls.predictions.decoder",
    vocabulary="WordPiece",
    vocabulary_files=("vocab.txt",),
    heads={
        "ForSequenceClassification": ("pooler.dense", "classifier"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=("pooler.", "cls.", "qa_outputs."),
    tokenizer="BertTokenizer",
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "embedding_size": 768,
        "q_groups": 4,
        "k_groups": 4,
        "v_groups": 4,
        "post_attention_groups": 1,
        "intermediate_groups": 4,
        "output_groups": 4,
    },
    layer=None,
    rewrites=(),
    lacks={"units": GROUPED, "hidden": GROUPED, "relations": GROUPED},
)
