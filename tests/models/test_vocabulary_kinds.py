"""The vocabulary of every family is cut: texts of kept tokens read as before, others are spelled, files agree."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tiny_families import TEXTS, family_named, tiny_folder
from tokenizers import Tokenizer

from edgebert.core.packages import quiet_libraries
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.load import copy_tokenizer
from edgebert.models.tokenizer_files import rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens, token_ids
from edgebert.models.vocabulary_kinds import BytePairs

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
WORDS = " ".join(TEXTS).split()


def cut(source: Path, target: Path, texts: tuple[str, ...], min_count: int = 1) -> tuple[int, ...]:
    """Cuts a tokenizer to the tokens of texts; returns the old ids that were kept."""
    whole = opened(source)
    counts = count_tokens(whole.encode(text).ids for text in texts)
    kept = choose_vocabulary(read_tokenizer(source), counts, min_count, special=special_tokens(source))
    rewrite_tokenizer(source, target, kept)
    return kept


def opened(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`model_type` -> a folder; do not write into it."""
    root = tmp_path_factory.mktemp("folders")
    return {family.model_type: tiny_folder(family.model_type, "Model", root / family.model_type) for family in FAMILIES}


@every_family
@pytest.mark.parametrize("min_count", [1, 3])
def test_texts_of_kept_tokens_read_as_before(family: Family, min_count: int, folders: dict[str, Path], tmp_path: Path) -> None:
    source = folders[family.model_type]
    kept = cut(source, tmp_path, TEXTS[:2], min_count)
    assert len(kept) < len(token_ids(read_tokenizer(source)))
    before, after, draw, same = opened(source), opened(tmp_path), random.Random(0), 0
    for _ in range(400):
        text = " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))
        old, new = before.encode(text), after.encode(text)
        if set(old.ids) <= set(kept):
            same += 1
            assert new.tokens == old.tokens
            assert [kept[token] for token in new.ids] == old.ids
        elif before.token_to_id(family.special_tokens["unk_token"]) not in old.ids:
            assert after.token_to_id(family.special_tokens["unk_token"]) not in new.ids  # it is spelled in smaller pieces
    assert 10 < same < 400


@every_family
def test_files_agree_and_the_tokenizer_can_be_cut_again(family: Family, folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = tmp_path / "source"
    source.mkdir()
    copy_tokenizer(folders[family.model_type], source)
    (source / "sentencepiece.bpe.model").write_bytes(b"cannot be rewritten")
    cut(source, tmp_path / "once", TEXTS[:3])
    assert not (tmp_path / "once" / "sentencepiece.bpe.model").exists()
    cut(tmp_path / "once", tmp_path / "twice", TEXTS[:1])
    once, twice = opened(tmp_path / "once"), opened(tmp_path / "twice")
    assert twice.get_vocab_size() < once.get_vocab_size()
    assert twice.encode(TEXTS[0]).tokens == once.encode(TEXTS[0]).tokens
    if family.vocabulary == "Unigram" or not family.vocabulary_files:
        return
    (tmp_path / "twice" / "tokenizer.json").unlink()
    (tmp_path / "twice" / "config.json").write_text((folders[family.model_type] / "config.json").read_text())
    with quiet_libraries():
        made = AutoTokenizer.from_pretrained(tmp_path / "twice", local_files_only=True)
    assert all(made(text)["input_ids"] == twice.encode(text).ids for text in TEXTS)


def test_a_merge_stays_with_all_the_pieces_that_it_needs() -> None:
    model = {"vocab": {piece: place for place, piece in enumerate(["a", "b", "c", "ab", "abc", "bc"])}}
    model = {**model, "merges": ["a b", ["ab", "c"], "b c"]}
    assert BytePairs().closed(model, {"abc"}) == {"abc", "ab", "a", "b", "c"}
    made = BytePairs().cut(model, {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4})
    assert made["merges"] == ["a b", ["ab", "c"]]
    assert BytePairs().texts(made)["merges.txt"] == "#version: 0.2\na b\nab c\n"


def test_a_kept_token_without_its_parts_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    bpe = next(family for family in FAMILIES if family.vocabulary == "BPE")
    source = folders[family_named(bpe.model_type).model_type]
    kept = cut(source, tmp_path / "cut", TEXTS[:1])
    ids = token_ids(read_tokenizer(source))
    merged = json.loads((source / "tokenizer.json").read_text())["model"]["merges"]
    part = next(first for first, second in map(tuple, merged) if ids[first + second] in kept and len(first) == 1)
    with pytest.raises(ValueError, match="but a kept token is made of it"):
        rewrite_tokenizer(source, tmp_path / "other", [token for token in kept if token != ids[part]])
