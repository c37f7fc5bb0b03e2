"""XLM-RoBERTa (Conneau et al. 2020, arXiv 1911.02116): RoBERTa with a Unigram vocabulary of SentencePiece for 100 languages."""

from edgebert.models.families.base import Family
from edgebert.models.families.roberta import HEADS, OTHER_HEADS, SPECIAL_TOKENS

XLM_ROBERTA = Family(
    model_type="xlm-roberta",
    title="XLM-RoBERTa",
    class_name="XLMRoberta",
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
