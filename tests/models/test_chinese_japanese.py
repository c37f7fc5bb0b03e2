"""Chinese characters are words of their own, with their places; Japanese words cut by a dictionary are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizer_setups import written
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from edgebert.core.packages import quiet_libraries
from edgebert.core.progress import Silent
from edgebert.core.store import ArtifactStore
from edgebert.data.shipped import shipped_file
from edgebert.errors import SourceError
from edgebert.models.import_model import check_against_transformers, usable_tokenizer
from edgebert.models.matched_tokenizer import match_tokenizer
from edgebert.models.tokenizer_files import rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens
from edgebert.tasks import get_task

CHINESE = shipped_file("shipped://sentences-zh").read_text(encoding="utf-8").splitlines()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MIXED = "我在北京大学用 edgebert 2.0，很快！"


def vocabulary() -> list[str]:
    """As bert-base-chinese's: characters, and pieces of Latin letters and digits."""
    characters = sorted({character for text in [*CHINESE, MIXED] for character in text if not character.isspace()})
    latin = [*"abcdefghijklmnopqrstuvwxyz0123456789", "edge", "##bert"]
    pieces = [*SPECIAL, *characters, *latin, *(f"##{character}" for character in [*characters, *latin[:36]])]
    return list(dict.fromkeys(pieces))


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a Chinese BERT without weights: vocab.txt and tokenizer_config.json."""
    folder = tmp_path_factory.mktemp("chinese")
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary()), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "tokenizer_class": "BertTokenizer"}))
    usable_tokenizer(folder, written(folder, size=len(vocabulary())))
    return folder


def test_a_chinese_model_reads_characters_with_their_places(chinese: Path) -> None:
    model = written(chinese, size=len(vocabulary()))
    tokenizer = usable_tokenizer(chinese, model)
    assert match_tokenizer(tokenizer, model).written is None
    (item,) = get_task("token-classification").encode(tokenizer, [{"text": MIXED}], 48)
    read = [MIXED[start:end] for start, end in item.offsets[1:-1]]
    assert read == [*"我在北京大学用", "edge", "bert", "2", ".", "0", *"，很快！"]
    assert list(item.words[1:-1]) == [*range(7), 7, 7, *range(8, 15)]
    words = {"words": list("北京大学"), "tags": ["B-ORG", "I-ORG", "I-ORG", "I-ORG"]}
    (listed,) = get_task("token-classification").encode(tokenizer, [words], 48)
    assert listed.words == (-1, 0, 1, 2, 3, -1)


def test_a_chinese_vocabulary_is_cut(chinese: Path, tmp_path: Path) -> None:
    """Characters stay whatever their count, as in every WordPiece vocabulary, so that no character becomes unknown."""
    before = Tokenizer.from_file(str(chinese / "tokenizer.json"))
    counts = count_tokens(found.ids for found in before.encode_batch(CHINESE))
    kept = choose_vocabulary(read_tokenizer(chinese), counts, 1, special=special_tokens(chinese))
    rewrite_tokenizer(chinese, tmp_path, kept)
    after = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(kept) == len(vocabulary()) - 2  # edge and ##bert
    for text in CHINESE:
        assert after.encode(text).tokens == before.encode(text).tokens
    assert after.encode("edgebert").tokens == ["[CLS]", "e", *(f"##{letter}" for letter in "dgebert"), "[SEP]"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("mecab", "cuts words with MeCab and its dictionary"),
        ("sudachi", "cuts words with Sudachi and its dictionary"),
        ("jumanpp", r"cuts words with Juman\+\+ and its dictionary"),
        ("basic", r"is a BertJapaneseTokenizer \(word_tokenizer_type: basic\)"),
        (None, r"is a BertJapaneseTokenizer \(word_tokenizer_type: basic\)"),
    ],
)
def test_words_of_a_dictionary_are_refused_by_name(kind: str | None, words: str, chinese: Path, tmp_path: Path) -> None:
    settings = {"tokenizer_class": "BertJapaneseTokenizer", **({"word_tokenizer_type": kind} if kind else {})}
    (tmp_path / "vocab.txt").write_text((chinese / "vocab.txt").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    model = written(tmp_path, size=len(vocabulary()))
    with pytest.raises(SourceError, match=words) as caught:
        check_against_transformers(model, ArtifactStore(tmp_path / "store"), Silent())
    hints = {"mecab": "pip install fugashi unidic-lite", "sudachi": "sudachipy", "jumanpp": "rhoknp"}
    assert hints.get(kind or "", "write tokenizer_class: BertTokenizer") in (caught.value.hint or "")


def test_a_japanese_model_of_characters_is_served(tmp_path: Path) -> None:
    text = "東京タワーへ行きました。"
    pieces = [*SPECIAL, *sorted(set(text + "The film was good, and the soup was not." * 2))]
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    with quiet_libraries():
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(tmp_path)
    model = written(tmp_path, size=len(pieces))
    checked = usable_tokenizer(tmp_path, model)
    made = match_tokenizer(checked, model).written  # one of its own, for the model is given segments
    served = Tokenizer.from_str(made) if made else checked
    assert served.encode(text).tokens == checked.encode(text).tokens == list(text)
