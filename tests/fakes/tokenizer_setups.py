"""Model folders with the tokenizers that people have: built with Transformers, or written as older tools left them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from conftest import REVIEWS, SENTENCES
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, BertTokenizer, DistilBertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer
from transformers import XLMRobertaTokenizer as Unigram

from edgebert.core.packages import quiet_libraries
from edgebert.models.folder import ModelFolder

BERTS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTAS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LONGEST = 48
"""Tokens that the models have positions for."""
ADDED = ["the harbour", AddedToken("soup", lstrip=True, rstrip=True), AddedToken("Film", single_word=True, normalized=False)]


def sentences() -> list[str]:
    """200 real sentences, and some that are hard."""
    reviews = (REVIEWS / "eval.tsv").read_text(encoding="utf-8").splitlines()[1:81]
    real = [*SENTENCES.read_text(encoding="utf-8").splitlines()[:120], *(line.split("\t")[0] for line in reviews)]
    return [
        *real,
        "東京タワー and 中文 text",
        "see [SEP] the harbour [MASK]soup <mask>Film </s>",
        "Ångström  ﬁne\u200b\u00adİ",
        "😀👍🏽",
    ]


def word_pieces(*, lower: bool, accents: bool) -> dict[str, int]:
    """A WordPiece vocabulary of the sentences."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=not accents)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=BERTS, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer.get_vocab()


def byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level BPE vocabulary and its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        sentences(),
        trainers.BpeTrainer(vocab_size=900, special_tokens=ROBERTAS, initial_alphabet=alphabet, show_progress=False),
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def unigram() -> list[tuple[str, float]]:
    """A Unigram vocabulary with scores."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=ROBERTAS, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    return [(piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]


def edit(file: Path, **changes: Any) -> None:
    """Changes a JSON file; ... takes a key out."""
    content = {**(json.loads(file.read_text()) if file.is_file() else {}), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def written(folder: Path, *, family: str = "bert", size: int | None = None, **config: Any) -> ModelFolder:
    """A model folder around tokenizer files: a config.json, and weights that nobody loads."""
    folder.mkdir(exist_ok=True)
    if size is None:
        with quiet_libraries():
            size = len(AutoTokenizer.from_pretrained(folder))
    facts = {
        "model_type": family,
        "vocab_size": size,
        "max_position_embeddings": LONGEST + (2 if "roberta" in family else 0),
        "pad_token_id": 1 if "roberta" in family else 0,
        "type_vocab_size": 2,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(facts))
    save_file({"classifier.weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    return ModelFolder(folder, facts, ("model.safetensors",), frozenset({"classifier.weight"}), {"source": str(folder)})


class Setups:
    """The set-ups by name, each written into a folder of its own. Vocabularies are trained once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lower, self.cased = (
            word_pieces(lower=lower, accents=accents) for lower, accents in ((True, False), (False, True))
        )
        self.bytes, self.merges = byte_pairs()
        self.scores = unigram()

    def saved(self, name: str, tokenizer: Any, *, family: str = "bert") -> ModelFolder:
        """A folder of a tokenizer of Transformers."""
        with quiet_libraries():
            tokenizer.save_pretrained(self.folder / name)
        return written(self.folder / name, family=family, size=len(tokenizer))

    def bert(self, name: str, vocab: Mapping[str, int] | None = None, **options: Any) -> ModelFolder:
        """A BERT's tokenizer with these options."""
        return self.saved(name, BertTokenizer(vocab=dict(vocab or self.lower), **options))

    def older(self, name: str, vocab: Mapping[str, int], files: Mapping[str, Any], **changes: Any) -> ModelFolder:
        """The uncased tokenizer.json with these changes, and these files beside it."""
        model = self.bert(name, vocab)
        (model.path / "tokenizer_config.json").unlink()
        edit(model.path / "tokenizer.json", **changes)
        for file, content in files.items():
            (model.path / file).write_text(json.dumps(content))
        return model


def _uncased(setups: Setups) -> ModelFolder:
    return setups.bert("uncased")


def _cased(setups: Setups) -> ModelFolder:
    return setups.bert("cased", setups.cased, do_lower_case=False)


def _accents(setups: Setups) -> ModelFolder:
    return setups.bert("accents", setups.cased, do_lower_case=True, strip_accents=False)


def _left(setups: Setups) -> ModelFolder:
    return setups.bert("left", truncation_side="left", padding_side="left", model_max_length=40)


def _added(setups: Setups) -> ModelFolder:
    tokenizer = BertTokenizer(vocab=setups.lower)
    tokenizer.add_tokens(ADDED)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[NEW]"]})
    return setups.saved("added", tokenizer)


def _bare(setups: Setups) -> ModelFolder:
    """No post-processor, so that nothing stands around a text."""
    tokenizer = Tokenizer(models.WordPiece(setups.lower, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return setups.saved("bare", PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]"))


def _vocabulary_alone(setups: Setups) -> ModelFolder:
    folder = setups.folder / "vocabulary-alone"
    folder.mkdir()
    pieces = sorted(setups.cased, key=setups.cased.__getitem__)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    config = {"do_lower_case": False, "truncation_side": "left", "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return written(folder, size=len(pieces))


def _bytes(setups: Setups) -> ModelFolder:
    return setups.saved("bytes", RobertaTokenizer(vocab=setups.bytes, merges=setups.merges), family="roberta")


def _bytes_with_space(setups: Setups) -> ModelFolder:
    """tokenizer.json says no space before a text, tokenizer_config.json says one."""
    model = setups.saved("bytes-with-space", RobertaTokenizer(vocab=setups.bytes, merges=setups.merges), family="roberta")
    edit(model.path / "tokenizer_config.json", add_prefix_space=True)
    return model


def _unigram(setups: Setups) -> ModelFolder:
    return setups.saved("unigram", Unigram(vocab=setups.scores), family="xlm-roberta")


def _chinese(setups: Setups) -> ModelFolder:
    """Chinese characters are not words of their own."""
    return setups.bert("chinese", setups.cased, tokenize_chinese_chars=False)


def _distilbert(setups: Setups) -> ModelFolder:
    return setups.saved("distilbert", DistilBertTokenizer(vocab=setups.lower), family="distilbert")


def _case_in_config(setups: Setups) -> ModelFolder:
    """tokenizer.json does not lowercase, tokenizer_config.json does."""
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": False}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    files = {"tokenizer_config.json": config}
    return setups.older("case-in-config", setups.lower, files, normalizer={**normalizer, "strip_accents": None})


def _companions(setups: Setups) -> ModelFolder:
    """Tokens of added_tokens.json and special_tokens_map.json that tokenizer.json does not know."""
    size = len(setups.lower)
    files = {
        "added_tokens.json": {"the harbour": size, "[NEW]": size + 1},
        "special_tokens_map.json": {"additional_special_tokens": ["[NEW]"], "cls_token": "[CLS]", "sep_token": "[SEP]"},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast"},
    }
    model = setups.older("companions", setups.lower, files)
    return written(model.path, size=size + 2)


def _padded(setups: Setups) -> ModelFolder:
    """tokenizer.json pads to 128 tokens and cuts at 16, on the left."""
    tokens = {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    padding = {"strategy": {"Fixed": 128}, "direction": "Left", "pad_to_multiple_of": None, **tokens}
    truncation = {"direction": "Left", "max_length": 16, "strategy": "OnlyFirst", "stride": 4}
    return setups.older("padded", setups.lower, {}, padding=padding, truncation=truncation)


def _split(setups: Setups) -> ModelFolder:
    """Special tokens inside a text are letters like others."""
    return setups.bert("split", split_special_tokens=True)


def _one_segment(setups: Setups) -> ModelFolder:
    """Transformers gives the model no segment ids, so that both texts of a pair have segment 0."""
    return setups.bert("one-segment", model_input_names=["input_ids", "attention_mask"])


def _template(setups: Setups) -> ModelFolder:
    """RoBERTa's ends around a BERT's WordPiece, from tokenizer.json alone."""
    model = setups.bert("template", setups.cased)
    edit(model.path / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", do_lower_case=...)
    ends = {"sep": ["[SEP]", setups.cased["[SEP]"]], "cls": ["[CLS]", setups.cased["[CLS]"]]}
    processor = {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}
    edit(model.path / "tokenizer.json", post_processor=processor)
    return model


def _cls_in_config(setups: Setups) -> ModelFolder:
    """tokenizer.json starts a text with [CLS], tokenizer_config.json with [MASK]."""
    model = setups.bert("cls-in-config")
    edit(model.path / "tokenizer_config.json", cls_token="[MASK]")
    return model


def _unk_in_config(setups: Setups) -> ModelFolder:
    """What is unknown to tokenizer.json is [UNK], to tokenizer_config.json [MASK]."""
    model = setups.bert("unk-in-config")
    edit(model.path / "tokenizer_config.json", unk_token="[MASK]")
    return model


SETUPS: dict[str, Callable[[Setups], ModelFolder]] = {
    make.__name__.removeprefix("_"): make
    for make in (
        *(_uncased, _cased, _accents, _left, _added, _bare, _vocabulary_alone, _bytes, _bytes_with_space, _unigram, _chinese),
        *(_distilbert, _case_in_config, _companions, _padded, _split, _one_segment, _template),
        *(_cls_in_config, _unk_in_config),
    )
}
"""Name -> what writes the folder."""
RIGHT = {"uncased", "cased", "accents", "added", "bytes", "unigram", "chinese", "distilbert", "padded", "template"}
"""Those whose tokenizer.json makes the right tokens by itself, so that it and the keys of its steps stay as they are."""
