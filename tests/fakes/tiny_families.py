"""Tiny random models and complete model folders of every family, made from the family's description alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edgebert.core.packages import quiet_libraries
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Ability, Family
from edgebert.models.pruned import endings_of

LONGEST = 64
"""Longest input in tokens of the models of `tiny_folder`."""
TEXTS = (
    "a good film and a fine one",
    "the soup was awful, the lamp is bad",
    "not very good: it was an app of 3 out of 10!",
    "Ünïcödé words — in São Paulo — and 東京 too",
    "The quick brown fox jumps over the lazy dog, 0123456789.",
)
NO_IDS = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
SIZES: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 8, "intra_bottleneck_size": 16, "num_feedforward_networks": 2},
    "squeezebert": {"embedding_size": 32},
    "deberta-v2": {
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "type_vocab_size": 0,
    },
    "modernbert": {"local_attention": 8, **NO_IDS},
}
"""`model_type` -> fields of a tiny model, of 4 heads, that BERT does not have."""
ROLES = ("bos_token", "eos_token", "unk_token", "cls_token", "sep_token", "pad_token", "mask_token")


def family_named(name: str) -> Family:
    """The family of that `model_type`."""
    return next(family for family in FAMILIES if family.model_type == name)


def tiny_model(
    family: Family,
    head: str = "ForSequenceClassification",
    *,
    layers: int = 2,
    heads: int = 4,
    neurons: int = 24,
    vocabulary: int = 40,
    longest: int = 32,
    seed: int = 0,
    **options: Any,
) -> Any:
    """A model of head size 8 with random weights, biases too, that are large enough for every part to matter.

    Args:
        head: ending of the class's name, a key of `edgebert.models.pruned.HEADS`.
        longest: longest input in tokens.
        options: further fields of the config.
    """
    sizes = {
        "hidden_size": 8 * heads,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": neurons,
    }
    padding = options.pop("pad_token_id", 1 if family.skips_padding else 0)
    segments = {"type_vocab_size": 2 if "token_type_ids" in family.inputs else 1} if family.embedding.segment else {}
    labels = {"num_labels": 2 if head == "ForQuestionAnswering" else 3} if "id2label" not in options else {}
    config = getattr(transformers, f"{family.class_name}Config")(
        **{getattr(family.names, name): size for name, size in sizes.items()},
        **{**segments, **labels, **SIZES.get(family.model_type, {}), **options},
        vocab_size=vocabulary,
        pad_token_id=padding,
        max_position_embeddings=longest + family.first_position({"pad_token_id": padding}),
    )
    with torch.random.fork_rng(devices=[]), quiet_libraries(), torch.no_grad():
        torch.manual_seed(seed)
        model = getattr(transformers, family.class_name + head)(config).eval()
        for name, parameter in model.named_parameters():
            if "orm.weight" not in name and "norm.weight" not in name:
                torch.nn.init.normal_(parameter, std=0.4)
    return model


def tiny_batch(model: Any, lengths: Sequence[int], *, padding: int = 0, seed: int = 0, labels: int = 0) -> dict[str, Any]:
    """Random texts of these lengths in two segments, padded to the longest and by `padding` more, named as `collate` does."""
    generator = torch.Generator().manual_seed(seed)
    size = (len(lengths), max(lengths) + padding)
    places = torch.arange(size[1])[None]
    mask = (places < torch.tensor(lengths)[:, None]).long()
    segments = (places >= torch.tensor(lengths)[:, None] // 2).long() * mask
    ids = torch.randint(2, model.config.vocab_size, size, generator=generator)
    ids = torch.where(mask.bool(), ids, torch.tensor(model.config.pad_token_id))
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    if labels:
        batch["labels"] = torch.randint(0, labels, (len(lengths),), generator=generator)
    return batch


def tiny_folder(
    family_name: str,
    architecture: str,
    folder: Path,
    *,
    labels: Sequence[str] = ("negative", "positive"),
    seed: int = 0,
    layers: int = 2,
) -> Path:
    """Writes a complete model folder: config.json, model.safetensors and the tokenizer with all of its files.

    Args:
        family_name: a `model_type` of FAMILIES.
        architecture: ending of the class's name, such as "ForTokenClassification"; "Model" for one without a head.
        labels: labels of the head; without meaning where the head has none of its own.
    """
    family = family_named(family_name)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(family, folder)
    names = {} if architecture in ("ForQuestionAnswering", "ForMaskedLM", "Model") else _labels(labels)
    padding = tokenizer.token_to_id(family.special_tokens["pad_token"])
    model = tiny_model(
        family,
        architecture,
        layers=layers,
        neurons=64,
        vocabulary=tokenizer.get_vocab_size(),
        longest=LONGEST,
        seed=seed,
        pad_token_id=padding,
        **names,
    )
    with quiet_libraries():
        model.save_pretrained(folder)
    return folder


def _labels(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def write_tokenizer(family: Family, folder: Path) -> Tokenizer:
    """Writes tokenizer.json, tokenizer_config.json, and the files that a tokenizer.json can be made from, if possible."""
    tokenizer = {"WordPiece": _word_piece, "BPE": _byte_pairs, "Unigram": _unigram}[family.vocabulary](family)
    tokenizer.save(str(folder / "tokenizer.json"))
    if family.vocabulary != "Unigram":  # only sentencepiece writes its own format
        tokenizer.model.save(str(folder))
    roles = {role: family.special_tokens[role] for role in ROLES if role in family.special_tokens}
    config = {"tokenizer_class": family.tokenizer_class, "model_max_length": LONGEST, **roles}
    if family.vocabulary == "WordPiece":
        config["do_lower_case"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def _word_piece(family: Family) -> Tokenizer:
    tokens = family.special_tokens
    tokenizer = Tokenizer(models.WordPiece(unk_token=tokens["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = _special(family)
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False))
    if family.skips_padding:
        tokenizer.post_processor = _template(family, tokenizer)
    else:
        tokenizer.post_processor = processors.BertProcessing(
            *((tokens[role], tokenizer.token_to_id(tokens[role])) for role in ("sep_token", "cls_token"))
        )
    return tokenizer


def _byte_pairs(family: Family) -> Tokenizer:
    tokens = family.special_tokens
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=_special(family),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        *((tokens[role], tokenizer.token_to_id(tokens[role])) for role in ("sep_token", "cls_token")), add_prefix_space=False
    )
    return tokenizer


def _unigram(family: Family) -> Tokenizer:
    tokens = family.special_tokens
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=_special(family), unk_token=tokens["unk_token"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = _template(family, tokenizer)
    return tokenizer


def _template(family: Family, tokenizer: Tokenizer) -> Any:
    """RoBERTa's two tokens between texts where positions count from the padding token, BERT's one elsewhere."""
    first, last = family.special_tokens["cls_token"], family.special_tokens["sep_token"]
    return processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}" if family.skips_padding else f"{first} $A {last} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )


def _special(family: Family) -> list[str]:
    """Special tokens in RoBERTa's order, where the padding token is 1, or in BERT's."""
    roles = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    ordered = roles if family.skips_padding else ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return [family.special_tokens[role] for role in ordered]


def able(*abilities: Ability) -> list[Family]:
    """The families that have all of these."""
    return [family for family in FAMILIES if not set(abilities) & set(family.lacks)]


def mix(*abilities: Ability) -> list[Any]:
    """pytest parameters (family, head), for every family that has these."""
    import pytest

    return [
        pytest.param(family, head, id=f"{family.model_type}-{head.removeprefix('For')}")
        for family in able(*abilities)
        for head in endings_of(family)
    ]
