"""DistilBERT (Sanh et al. 2019, arXiv 1910.01108): BERT without segment ids and pooler, with names of its own."""

from edgebert.models.families.base import Family
from edgebert.models.families.paths import ConfigNames, EmbeddingPaths, LayerPaths

DISTILBERT = Family(
    model_type="distilbert",
    title="DistilBERT",
    class_name="DistilBert",
    prefix="distilbert",
    layers="transformer.layer",
    language_head="vocab_projector",
    vocabulary="WordPiece",
    vocabulary_files=("vocab.txt",),
    heads={
        "ForSequenceClassification": ("pre_classifier", "classifier"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=("vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "qa_outputs."),
    inputs=("input_ids", "attention_mask"),
    names=ConfigNames(
        hidden_size="dim",
        num_hidden_layers="n_layers",
        num_attention_heads="n_heads",
        intermediate_size="hidden_dim",
    ),
    defaults={"hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072},
    embedding=EmbeddingPaths(segment=None),
    layer=LayerPaths(
        attention="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        activation="ffn.activation",
        down="ffn.lin2",
        norm="output_layer_norm",
        residuals=None,
        heads="n_heads",
        width=None,
    ),
)
