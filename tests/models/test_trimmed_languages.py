"""Vocabularies of real sentences in five languages are cut: whatever is kept, texts of kept tokens read as before."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from edgebert.data.shipped import shipped_file
from edgebert.models.tokenizer_files import rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens, token_ids

LANGUAGES = ("ar", "de", "en", "es", "zh")
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def sentences(language: str) -> list[str]:
    return shipped_file(f"shipped://sentences-{language}").read_text(encoding="utf-8").splitlines()


TEXTS = {language: sentences(language) for language in LANGUAGES}
"""Language -> its sentences: the even ones train a vocabulary, and the odd ones are held out."""


def trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator([text for texts in TEXTS.values() for text in texts[::2]], trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return trained(tokenizer, trainers.WordPieceTrainer(vocab_size=4000, special_tokens=SPECIAL, show_progress=False))


def byte_pairs() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    return trained(tokenizer, trainer)


def unigram() -> Tokenizer:
    """With byte pieces, of which characters without a piece are spelled."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=3000, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    content = json.loads(trained(tokenizer, trainer).to_str())
    lowest = min(score for _, score in content["model"]["vocab"])
    content["model"]["vocab"] += [[byte, lowest - 1] for byte in BYTES]
    content["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(content))


MAKERS: Mapping[str, Callable[[], Tokenizer]] = {"WordPiece": word_piece, "BPE": byte_pairs, "Unigram": unigram}


@pytest.fixture(scope="module", params=MAKERS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of all five languages; do not write into it."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = MAKERS[request.param]()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    named = {**roles, "cls_token": "<s>", "sep_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}))
    return folder


def opened(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def cut(source: Path, target: Path, texts: list[str], min_count: int = 1) -> tuple[int, ...]:
    counts = count_tokens(found.ids for found in opened(source).encode_batch(texts))
    kept = choose_vocabulary(read_tokenizer(source), counts, min_count, special=special_tokens(source))
    rewrite_tokenizer(source, target, kept)
    return kept


def pieces_of(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_text())["model"]


@pytest.mark.parametrize("languages", [("de", "en"), ("zh",), ("ar", "es")], ids="+".join)
def test_texts_of_kept_tokens_read_as_before(source: Path, languages: tuple[str, ...], tmp_path: Path) -> None:
    """Whole sentences, parts of them and words of several languages in any order, those that the cut never saw included."""
    kept = cut(source, tmp_path, [text for language in languages for text in TEXTS[language][::2]])
    before, after, draw, same = opened(source), opened(tmp_path), random.Random(len(kept)), 0
    words = [word for texts in TEXTS.values() for text in texts for word in text.split()]
    mixed = [" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(600)]
    parts = [text[draw.randrange(len(text)) :] for language in languages for text in TEXTS[language]]
    whole = [text for texts in TEXTS.values() for text in texts]
    for old, new in zip(*(one.encode_batch([*whole, *parts, *mixed]) for one in (before, after)), strict=True):
        if set(old.ids) <= set(kept):
            same += 1
            assert new.tokens == old.tokens and new.offsets == old.offsets
            assert [kept[token] for token in new.ids] == old.ids
    assert len(kept) < len(token_ids(read_tokenizer(source))) * 0.9 and same > 100


def test_what_a_cut_keeps_is_as_it_was(source: Path, tmp_path: Path) -> None:
    """Merges in their order with both parts, scores, the unknown piece and the pieces of bytes."""
    cut(source, tmp_path, TEXTS["de"][::2], min_count=2)
    before, after = pieces_of(source), pieces_of(tmp_path)
    if before["type"] == "BPE":
        merges = [tuple(merge) for merge in after["merges"]]
        fitting = [tuple(merge) for merge in before["merges"] if {*merge, "".join(merge)} <= set(after["vocab"])]
        assert merges == fitting and all({*merge, "".join(merge)} <= set(after["vocab"]) for merge in merges)
        made = {"".join(merge) for merge in merges}
        assert all(len(piece) == 1 or piece in made or piece in SPECIAL for piece in after["vocab"])
    elif before["type"] == "Unigram":
        scores = dict(map(tuple, before["vocab"]))
        assert all(scores[piece] == score for piece, score in after["vocab"])
        assert after["vocab"][after["unk_id"]][0] == "<unk>" and after["byte_fallback"] is True
        assert set(BYTES) <= {piece for piece, _ in after["vocab"]}
        assert min(score for _, score in after["vocab"]) == min(scores.values())
        spelled = opened(tmp_path).encode("ሰላም", add_special_tokens=False).tokens
        assert spelled == opened(source).encode("ሰላም", add_special_tokens=False).tokens and set(spelled) - {"▁"} <= set(BYTES)
    else:
        assert list(after["vocab"]) == [
            piece for piece in sorted(before["vocab"], key=before["vocab"].get) if piece in after["vocab"]
        ]


def test_held_out_sentences_lose_less_the_more_is_kept(source: Path, tmp_path: Path) -> None:
    held = opened(source).encode_batch(TEXTS["es"][1::2])
    lost = []
    for number, min_count in enumerate((3, 2, 1)):
        kept = set(cut(source, tmp_path / str(number), TEXTS["es"][::2], min_count))
        lost.append(sum(token not in kept for found in held for token in found.ids))
    assert lost[0] > lost[1] > lost[2] > 0
