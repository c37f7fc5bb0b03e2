"""Trimming: a vocabulary is cut to languages, with or without examples, and what held-out texts lose is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import review_rows
from fake_words import use_fake_words
from pydantic import ValidationError
from stage_runs import make_bench, run
from tokenizers import Tokenizer

from edgebert.models import languages
from edgebert.models.vocabulary import read_tokenizer, token_ids
from edgebert.stages.base import ModelFacts
from edgebert.stages.prune import Prune
from edgebert.stages.prune.settings import VocabularyCut
from edgebert.tasks import get_task


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lists of a few words in the place of wordfreq's."""
    yield from use_fake_words(monkeypatch)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_template: Path) -> Path:
    """The tiny model and its data; do not write into it."""
    return make_bench(tmp_path_factory.mktemp("trim"), model_template)


def test_a_vocabulary_is_cut_to_languages_alone(fake: None, bench: Path, tmp_path: Path) -> None:
    stage = Prune(vocabulary=VocabularyCut(languages=("en", "de"), examples=False))
    (found,) = run(bench, tmp_path / "store", stage)
    before, after = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (bench / "model", found.path))
    words = set(after.get_vocab())
    assert {"film", "soup"} <= words and "awful" not in words
    facts, texts = found.facts, [row["text"] for row in review_rows(24, split="eval")]
    tokens = [[token for token in before.encode(text).tokens if token not in ("[CLS]", "[SEP]")][:30] for text in texts]
    lost = sum(token not in words for text in tokens for token in text)
    assert facts["tokens"] == len(words) < facts["tokens_before"] == before.get_vocab_size()
    assert facts["tokens_removed_share"] == pytest.approx(1 - len(words) / before.get_vocab_size(), abs=1e-6)
    assert facts["held_out_tokens"] == sum(map(len, tokens))
    assert lost and facts["held_out_lost_share"] == pytest.approx(lost / sum(map(len, tokens)), abs=1e-6)
    now = [after.encode(text).tokens[1:-1][:30] for text in texts]
    assert facts["held_out_growth"] == pytest.approx(sum(map(len, now)) / sum(map(len, tokens)), abs=1e-6)
    unknown = sum(text.count("[UNK]") for text in now) / sum(map(len, now))
    assert facts["held_out_unknown_share"] == pytest.approx(unknown, abs=1e-6)
    assert unknown > facts["held_out_unknown_share_before"]
    assert json.loads((found.path / "config.json").read_text())["vocab_size"] == len(words)


def test_examples_stay_beside_languages(fake: None, bench: Path, tmp_path: Path) -> None:
    (found,) = run(bench, tmp_path / "store", Prune(vocabulary=VocabularyCut(languages=("de",))))
    words = token_ids(read_tokenizer(found.path))
    whole = Tokenizer.from_file(str(bench / "model" / "tokenizer.json"))
    assert {token for row in review_rows(48) for token in whole.encode(row["text"]).tokens[:31]} <= set(words)


def test_a_cut_without_languages_has_the_key_that_it_had() -> None:
    assert Prune(vocabulary=VocabularyCut(min_count=2)).parameters()["vocabulary"] == {"min_count": 2}
    cut = VocabularyCut(languages=("en", "de"), examples=False)
    assert Prune(vocabulary=cut).parameters()["vocabulary"] == {
        "min_count": 1,
        "languages": ["en", "de"],
        "examples": False,
    }
    assert "examples" not in Prune(vocabulary=cut).needed() and "wordfreq" in Prune(vocabulary=cut).required_packages()
    assert "wordfreq" not in Prune(vocabulary=VocabularyCut()).required_packages()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": False}, "name them in `languages`"),
        ({"examples": False, "languages": ("de",), "min_count": 2}, "min_count counts tokens of the examples"),
        ({"languages": ("de", "de")}, "names a language twice"),
    ],
)
def test_a_cut_that_contradicts_itself_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VocabularyCut.model_validate(fields)


def test_a_language_without_words_is_refused_before_any_work(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "bert", "num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    facts = ModelFacts(config=config, max_length=32, tokenizer=None, others={})
    stage = Prune(vocabulary=VocabularyCut(languages=("de", "xx")))
    assert stage.faults(facts) == [
        "vocabulary.languages has xx; there are words of ar, de, en, hi. For others, give texts in data.transfer"
    ]
    monkeypatch.setattr("edgebert.stages.prune.faults.is_installed", lambda name: False)
    assert stage.faults(facts) == []
    assert languages.PACKAGE == "wordfreq"


def test_a_vocabulary_stays_where_its_tokens_are_the_questions() -> None:
    config = {"model_type": "bert", "num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8}
    stage = Prune(vocabulary=VocabularyCut())
    for task, refused in (("fill-mask", True), ("text-classification", False)):
        found = stage.faults(ModelFacts(config, 32, None, {}, task=get_task(task)))
        assert any("vocabulary changes which tokens" in fault for fault in found) == refused
