"""Tokenizers that cannot be used are refused when the model is read, with what differs; padding moves no answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families import family_named, tiny_folder, tiny_model
from tokenizer_setups import edit
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from edgebert.bundle.write import MODEL_FILES
from edgebert.compress.readable_rows import check_readable
from edgebert.core.packages import quiet_libraries
from edgebert.errors import DataError, InputError, SourceError
from edgebert.measure.bench.read_tokenizer import tokenizer_of
from edgebert.models.folder import ModelFolder, inspect_model, longest_text
from edgebert.models.import_model import check_tokenizer
from edgebert.models.load import run_model
from edgebert.models.matched_tokenizer import MatchedTokenizer, match_tokenizer
from edgebert.models.served_tokenizer import write_served_tokenizer
from edgebert.models.transformers_tokenizer import TransformersTokenizer
from edgebert.runtimes.serving import Serving
from edgebert.tasks import get_task
from edgebert.tasks.base import collate

CLASSIFIER = "ForSequenceClassification"
TASK = get_task("text-classification")
NOTHING = {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
"""A normalizer that leaves nothing of a text."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT."""
    return tiny_folder("bert", CLASSIFIER, tmp_path / "model")


def matched(folder: Path) -> MatchedTokenizer:
    """The comparison of an import."""
    model = inspect_model(folder)
    return match_tokenizer(check_tokenizer(folder / "tokenizer.json", model), model)


def bare(folder: Path, **changes: Any) -> None:
    """Takes the special tokens from around a text."""
    edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    edit(folder / "tokenizer.json", post_processor=None, **changes)


def far_ends(folder: Path) -> None:
    ends = {"sep": ["[SEP]", 3], "cls": ["[CLS]", 99_999]}
    edit(folder / "tokenizer.json", post_processor={"type": "BertProcessing", **ends})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (far_ends, "has token ids up to 99999, but the model's embedding table has"),
        (lambda folder: edit(folder / "config.json", pad_token_id=5000), "pad_token_id is 5000, but"),
        (lambda folder: bare(folder, normalizer=NOTHING), "makes no token of 'The film was good"),
        (lambda folder: edit(folder / "tokenizer_config.json", truncation_side="up"), "Transformers cannot read the tokenizer"),
        (lambda folder: edit(folder / "tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer"), "tokenizer in"),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_refused_when_the_model_is_read(
    change: Callable[[Path], None], message: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(SourceError, match=message):
        matched(folder)


def test_tokens_that_no_file_can_make_are_refused_with_the_first_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder / "tokenizer_config.json", truncation_side="left")
    own = json.loads((folder / "tokenizer.json").read_text())
    monkeypatch.setattr(TransformersTokenizer, "parsed", lambda self: own)
    with pytest.raises(SourceError, match=r"cannot: 'The film was good.*' cut at 12 tokens: token ids \[2, .*by Transformers"):
        matched(folder)


def test_a_text_without_a_token_is_refused_by_its_number_and_a_data_set_by_its_row(folder: Path) -> None:
    bare(folder)
    found = matched(folder)
    assert any("makes no token of some texts, such as ' '" in note for note in found.notes)
    serving = Serving(TASK, ("a", "b"), 16, 0, folder / "tokenizer.json")
    assert len(serving.encode(serving.open_tokenizer(), [{"text": "a film"}])) == 1
    with pytest.raises(InputError, match="Text 2 has no token"):
        serving.encode(serving.open_tokenizer(), [{"text": "a"}, {"text": " "}])
    with pytest.raises(DataError, match=r"data\.eval: row 3 has no token"):
        check_readable([rows([{"text": "a"}, {"text": "b"}, {"text": " "}])], serving, {})


def rows(found: list[dict[str, str]]) -> Any:
    """A data set of these rows."""

    class Fake:
        role, columns = "eval", list(found[0])

        def blocks(self) -> list[list[dict[str, str]]]:
            return [found[:2], found[2:]]

        def rows(self, indices: list[int]) -> list[dict[str, str]]:
            return [found[index] for index in indices]

    return Fake()


def test_pairs_for_a_model_of_one_segment_are_refused(folder: Path) -> None:
    serving = Serving(TASK, ("a", "b"), 16, 0, folder / "tokenizer.json")
    pairs, alone = rows([{"text": "a", "text_pair": "b"}] * 3), rows([{"text": "a"}] * 3)
    config = {"model_type": "bert", "type_vocab_size": 1}
    check_readable([alone], serving, config)
    check_readable([pairs], serving, {**config, "type_vocab_size": 2})
    check_readable([pairs], serving, {**config, "model_type": "roberta"})
    with pytest.raises(DataError, match="whose tokens are of 2 segments, but the model knows 1"):
        check_readable([pairs], serving, config)


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"model_max_length": 128}, 128),
        ({"max_len": 128}, 128),
        ({"model_max_length": None, "max_len": 40.0}, 40),
        ({"model_max_length": 10**30}, None),
        ({"model_max_length": 1e30}, None),
        ({"model_max_length": "128"}, None),
        ({"model_max_length": True}, None),
        ({"model_max_length": -1}, None),
        ({}, None),
    ],
)
def test_the_longest_text_is_what_transformers_takes_for_it(config: dict[str, Any], longest: int | None) -> None:
    assert longest_text(config) == longest


def test_a_bundle_has_the_served_length_also_where_the_files_name_less_or_nothing(folder: Path) -> None:
    for before in ({"model_max_length": 16, "max_length": 8, "pad_to_multiple_of": 8}, {"tokenizer_class": "BertTokenizer"}):
        (folder / "tokenizer_config.json").write_text(json.dumps(before))
        write_served_tokenizer(folder, 40)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.model_max_length == 40
        assert len(tokenizer("a " * 300, truncation=True)["input_ids"]) == 40
        assert "pad_to_multiple_of" not in json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").unlink()
    write_served_tokenizer(folder, 40)
    made = json.loads((folder / "tokenizer_config.json").read_text())
    assert (made["tokenizer_class"], made["pad_token"], made["model_max_length"]) == ("BertTokenizer", "[PAD]", 40)
    assert "tokenizer_config.json" in MODEL_FILES


def test_bench_asks_a_transformers_folder_as_transformers_reads_it(folder: Path) -> None:
    own = inspect_model(folder)
    assert tokenizer_of(own) == folder / "tokenizer.json"
    edit(folder / "tokenizer_config.json", truncation_side="left")
    written = tokenizer_of(own)
    assert Tokenizer.from_file(str(written)).truncation["direction"] == "left"


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "xlm-roberta"])
def test_a_text_in_a_batch_has_the_answer_that_transformers_gives_to_it(name: str, tmp_path: Path) -> None:
    """Alone it is not padded. Padded on the left, it has another answer: the head reads a token of padding."""
    folder, family = tiny_folder(name, CLASSIFIER, tmp_path / "model"), family_named(name)
    edit(folder / "tokenizer_config.json", padding_side="left")
    found = matched(folder)
    assert any("pads on the left" in note for note in found.notes)
    file = tmp_path / "tokenizer.json"
    file.write_text(found.written or (folder / "tokenizer.json").read_text())
    model: ModelFolder = inspect_model(folder)
    torch_model = tiny_model(
        family, vocabulary=model.config["vocab_size"], longest=64, pad_token_id=model.config["pad_token_id"], seed=3
    )
    texts = ["a film", "the soup was awful, the lamp is bad and the app too", "very good"]

    def answers(batch: Any) -> Any:
        with torch.no_grad():
            return run_model(torch_model, {key: torch.as_tensor(value) for key, value in batch.items()}).logits.numpy()

    serving = Serving(TASK, ("a", "b", "c"), 60, model.config["pad_token_id"], file)
    encoded = serving.encode(serving.open_tokenizer(), [{"text": text} for text in texts])
    ours = answers(collate(encoded, length=max(map(len, encoded)), pad_id=serving.pad_id))
    with quiet_libraries():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    alone = np.concatenate([answers(tokenizer([text], return_tensors="pt")) for text in texts])
    np.testing.assert_allclose(ours, alone, atol=1e-5)
    left = answers(tokenizer(texts, padding=True, return_tensors="pt"))
    assert not np.allclose(left, alone, atol=1e-2)
