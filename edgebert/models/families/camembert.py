"""CamemBERT (Martin et al. 2020, arXiv 1911.03894): RoBERTa with a Unigram vocabulary of SentencePiece for French."""

from edgebert.models.families.base import Family
from edgebert.models.families.roberta import HEADS, OTHER_HEADS, SPECIAL_TOKENS

CAMEMBERT = Family(
    model_type="camembert",
    title="CamemBERT",
    class_name="Camembert",
    prefix="roberta",
    layers="encoder.layer",
    language_head="lm_head.decoder",
    vocabulary="Unigram",
    vocabulary_files=("sentencepiece.bpe.model",),
    heads=HEADS,
    other_heads=OTHER_HEADS,
    inputs=("input_ids", "attention_mask"),
    skips_padding=True,
    special_tokens=SPECIAL_TOKENS,
)
