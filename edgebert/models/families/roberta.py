"""RoBERTa (Liu et al. 2019, arXiv 1907.11692): BERT with byte-level BPE, no segment ids, other positions."""

from edgebert.models.families.base import Family

SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
HEADS = {
    "ForSequenceClassification": ("classifier.dense", "classifier.out_proj"),
    "ForTokenClassification": ("classifier",),
    "ForQuestionAnswering": ("qa_outputs",),
}
OTHER_HEADS = ("pooler.", "lm_head.", "qa_outputs.")

ROBERTA = Family(
    model_type="roberta",
    title="RoBERTa",
    class_name="Roberta",
    prefix="roberta",
    layers="encoder.layer",
    language_head="lm_head.decoder",
    vocabulary="BPE",
    vocabulary_files=("vocab.json", "merges.txt"),
    heads=HEADS,
    other_heads=OTHER_HEADS,
    inputs=("input_ids", "attention_mask"),
    skips_padding=True,
    special_tokens=SPECIAL_TOKENS,
)
