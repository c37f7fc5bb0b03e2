"""BERT (Devlin et al. 2019, arXiv 1810.04805)."""

from edgebert.models.families.base import Family

BERT = Family(
    model_type="bert",
    title="BERT",
    class_name="Bert",
    prefix="bert",
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
)
