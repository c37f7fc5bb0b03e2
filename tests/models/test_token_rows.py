"""Tokens without a row in the embedding table, and tokenizers that fail in the comparison with Transformers', are told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_families import tiny_folder
from tokenizer_setups import edit

from edgebert.errors import SourceError
from edgebert.models.folder import inspect_model
from edgebert.models.import_model import check_tokenizer
from edgebert.models.matched_tokenizer import MatchedTokenizer, match_tokenizer
from edgebert.models.token_rows import rows_of
from edgebert.models.transformers_tokenizer import TransformersTokenizer

DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT."""
    return tiny_folder("bert", "ForSequenceClassification", tmp_path / "model")


def matched(folder: Path, **config: Any) -> MatchedTokenizer:
    """The comparison of an import, after these changes of tokenizer_config.json."""
    edit(folder / "tokenizer_config.json", **config)
    model = inspect_model(folder)
    return match_tokenizer(check_tokenizer(folder / "tokenizer.json", model), model)


def test_a_model_that_does_not_name_its_rows_has_no_limit() -> None:
    assert (rows_of({"vocab_size": 30}), rows_of({}), rows_of({"vocab_size": None})) == (30, math.inf, math.inf)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"cls_token": "<cls>"}, ("'The film was good, and the soup was not.'", "token '<cls>' with id")),
        ({"sep_token": "<end>"}, ("'The film was good, and the soup was not.'", "token '<end>' with id")),
        (
            {"extra_special_tokens": ["good, and"]},
            ("'The film was good, and the soup was not.'", "token 'good, and' with id"),
        ),
        ({"unk_token": "<oov>"}, ("fails on texts, here or in Transformers: WordPiece error",)),
    ],
    ids=["start", "end", "a word", "unknown"],
)
def test_ordinary_texts_that_transformers_gives_no_answer_to_are_refused(
    config: dict[str, Any], words: tuple[str, ...], folder: Path
) -> None:
    with pytest.raises(SourceError) as refused:
        matched(folder, **config)
    assert all(word in refused.value.message for word in words), refused.value.message
    assert refused.value.hint and "save_pretrained" in refused.value.hint


def test_an_added_token_without_a_row_is_named(folder: Path) -> None:
    assert matched(folder).notes == ()
    found = matched(folder, extra_special_tokens=["<new>"])
    assert any("no row: '<new>'; it gives no answer" in note for note in found.notes)
    cut = matched(folder, extra_special_tokens=["<new>"], truncation_side="left")
    assert cut.written and "<new>" not in cut.written and any("no row: '<new>'" in note for note in cut.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "Sequence", "normalizers": [DOUBLE] * 30}}, "lengthen a text more than 100 times"),
        ({"vocab": {"zzz": 99_999}}, "has token ids up to 99999, but the model's embedding table has"),
        ({"pre_tokenizer": {"type": "nothing"}}, "fails on texts"),
        ({"added_tokens": None}, "fails on texts"),
    ],
)
def test_what_is_written_keeps_to_the_limits_of_every_tokenizer(
    changes: dict[str, Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = json.loads((folder / "tokenizer.json").read_text())
    own["model"]["vocab"] |= changes.pop("vocab", {})
    monkeypatch.setattr(TransformersTokenizer, "parsed", lambda self: {**own, **changes})
    with pytest.raises(SourceError, match=message):
        matched(folder, truncation_side="left")


def test_a_panic_on_a_text_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panic = type("PanicException", (BaseException,), {})

    def fail(*given: Any) -> None:
        raise panic("no such piece.\nmore")

    monkeypatch.setattr(TransformersTokenizer, "encode", fail)
    with pytest.raises(SourceError) as refused:
        matched(folder)
    assert refused.value.message.endswith("in Transformers: no such piece.")
