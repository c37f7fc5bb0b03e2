"""MobileBERT (Sun et al. 2020, arXiv 2004.02984): deep and narrow, with bottlenecks around each layer and four FFNs in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgebert.models.families.base import Family
from edgebert.models.families.paths import EmbeddingPaths
from edgebert.models.families.shapes import Named, linear, norm

BOTTLENECKS = "its layers have bottlenecks around their parts, and several FFNs each"
TRIGRAMS = "a token is read with its neighbours, so that the language model has a second output matrix"


class MobileBertFamily(Family):
    """The family with the tensors of its layers."""

    def with_sizes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Heads are within the bottleneck."""
        fields = super().with_sizes(config)
        return {**fields, "attention_head_size": fields["intra_bottleneck_size"] // fields["num_attention_heads"]}

    def head_matrices(self, ending: str, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Without the pooler's matrix where config.json leaves it out, as that of Google's models does."""
        matrices = self.heads[ending]
        return matrices if config.get("classifier_activation", True) else tuple(n for n in matrices if n != "pooler.dense")

    def more_tensors(self, config: Mapping[str, Any]) -> Iterator[Named]:
        """The matrix that reads a token and its neighbours, and the layers."""
        yield from linear("embeddings.embedding_transformation", config["hidden_size"], 3 * config["embedding_size"])
        for index in range(config["num_hidden_layers"]):
            yield from _layer(f"{self.layers}.{index}.", config)


def _layer(start: str, config: Mapping[str, Any]) -> Iterator[Named]:
    hidden, neurons, width = config["hidden_size"], config["intermediate_size"], config["intra_bottleneck_size"]
    for name in ("input", "attention"):
        yield from linear(f"{start}bottleneck.{name}.dense", width, hidden)
        yield from norm(f"{start}bottleneck.{name}.LayerNorm", width)
    for name, columns in (("query", width), ("key", width), ("value", hidden)):
        yield from linear(f"{start}attention.self.{name}", width, columns)
    yield from linear(f"{start}attention.output.dense", width, width)
    yield from norm(f"{start}attention.output.LayerNorm", width)
    for ffn in ("", *(f"ffn.{index}." for index in range(config["num_feedforward_networks"] - 1))):
        yield from linear(f"{start}{ffn}intermediate.dense", neurons, width)
        yield from linear(f"{start}{ffn}output.dense", width, neurons)
        yield from norm(f"{start}{ffn}output.LayerNorm", width)
    yield from linear(f"{start}output.bottleneck.dense", hidden, width)
    yield from norm(f"{start}output.bottleneck.LayerNorm", hidden)


MOBILEBERT = MobileBertFamily(
    model_type="mobilebert",
    title="MobileBERT",
    class_name="MobileBert",
    prefix="mobilebert",
    layers="encoder.layer",
    language_head="cls.predictions.decoder",
    vocabulary="WordPiece",
    vocabulary_files=("vocab.txt",),
    heads={
        "ForSequenceClassification": ("pooler.dense", "classifier"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=("pooler.", "cls.", "qa_outputs."),
    defaults={
        "hidden_size": 512,
        "num_hidden_layers": 24,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "embedding_size": 128,
        "intra_bottleneck_size": 128,
        "num_feedforward_networks": 4,
    },
    embedding=EmbeddingPaths(narrow_words=True),
    layer=None,
    fixed={
        "trigram_input": True,
        "use_bottleneck": True,
        "use_bottleneck_attention": False,
        "key_query_shared_bottleneck": True,
        "normalization_type": "no_norm",
    },
    rewrites=(),
    lacks={"units": BOTTLENECKS, "tokens": TRIGRAMS, "relations": BOTTLENECKS},
)
