"""ELECTRA (Clark et al. 2020, arXiv 2003.10555): BERT without a pooler; small models have narrow tables."""

from edgebert.models.families.base import Family
from edgebert.models.families.paths import EmbeddingPaths

ELECTRA = Family(
    model_type="electra",
    title="ELECTRA",
    class_name="Electra",
    prefix="electra",
    layers="encoder.layer",
    language_head="generator_lm_head",
    vocabulary="WordPiece",
    vocabulary_files=("vocab.txt",),
    heads={
        "ForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
        "ForTokenClassification": ("classifier",),
        "ForQuestionAnswering": ("qa_outputs",),
    },
    other_heads=(
        "discriminator_predictions.",
        "generator_predictions.",
        "generator_lm_head.",
        "qa_outputs.",
        "sequence_summary.",
    ),
    tokenizer="BertTokenizer",
    defaults={
        "hidden_size": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "embedding_size": 128,
    },
    embedding=EmbeddingPaths(projection="embeddings_project"),
)
