"""The embedding tables are cut: answers stay, sources stay, the model saves and loads, nonsense is refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SENTENCES, make_tokenizer
from tiny_bert import KINDS, assert_same
from tiny_bert import build as build_bert
from tokenizers import Tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
)

from edgebert.core.packages import quiet_libraries
from edgebert.models.embeddings import keep_positions, keep_tokens
from edgebert.models.surgery import Units, prune
from edgebert.models.tokenizer_files import rewrite_tokenizer
from edgebert.models.vocabulary import choose_vocabulary, count_tokens, read_tokenizer, special_tokens

TOKENS, POSITIONS = 104, 64
PAD = 5
KEPT = [*range(3, 60, 2), *range(70, 104)]
TEXTS = [*SENTENCES.read_text(encoding="utf-8").splitlines()[:8], "the film was not very good"]

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def build(kind: Any, **options: Any) -> Any:
    """A BERT of two layers, 32 wide, with random weights."""
    fields = {"vocab_size": TOKENS, "max_position_embeddings": POSITIONS, "pad_token_id": PAD}
    return build_bert(kind, neurons=64, **{**fields, **options})


def outputs(model: Any, ids: Sequence[Sequence[int]], pad: int) -> list[torch.Tensor]:
    """Everything that the model says of a padded batch; it finds segments and positions itself."""
    length = max(map(len, ids))
    rows = torch.tensor([[*row, *[pad] * (length - len(row))] for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])
    with torch.no_grad():
        return [value for value in model(input_ids=rows, attention_mask=mask).values() if value is not None]


def table_of(model: Any) -> Any:
    return getattr(model, "bert", model).embeddings


@every_kind
def test_the_kept_tokens_are_answered_as_before(kind: Any) -> None:
    model = build(kind)
    before = copy.deepcopy(model.state_dict())
    cut = keep_tokens(model, KEPT)
    new = {old: index for index, old in enumerate(KEPT)}
    old_ids = [[KEPT[(7 * row + 5 * column) % len(KEPT)] for column in range(4 + 9 * row)] for row in range(4)]
    expected = outputs(model, old_ids, PAD)
    if kind is BertForMaskedLM:
        expected = [expected[0][..., KEPT]]
    assert_same(outputs(cut, [[new[old] for old in row] for row in old_ids], new[PAD]), expected)

    words = table_of(cut).word_embeddings
    assert type(cut) is kind
    assert words.weight.shape == (len(KEPT), 32)
    assert (words.num_embeddings, words.padding_idx) == (len(KEPT), new[PAD])
    assert (cut.config.vocab_size, cut.config.pad_token_id) == (len(KEPT), new[PAD])
    assert cut.config.max_position_embeddings == POSITIONS
    # The source is as it was.
    assert (model.config.vocab_size, model.config.pad_token_id) == (TOKENS, PAD)
    assert table_of(model).word_embeddings.num_embeddings == TOKENS
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    shared = {value.data_ptr() for value in model.parameters()} & {value.data_ptr() for value in cut.parameters()}
    assert not shared


@every_kind
def test_texts_that_are_short_enough_are_answered_as_before(kind: Any) -> None:
    model = build(kind)
    cut = keep_positions(model, 20)
    ids = [[(11 * column + row) % TOKENS for column in range(length)] for row, length in enumerate((3, 12, 20))]
    assert_same(outputs(cut, ids, PAD), outputs(model, ids, PAD))

    assert type(cut) is kind
    positions = table_of(cut).position_embeddings
    assert (positions.num_embeddings, tuple(positions.weight.shape)) == (20, (20, 32))
    assert cut.config.max_position_embeddings == 20
    assert torch.equal(table_of(cut).position_ids, torch.arange(20)[None])
    assert torch.equal(table_of(cut).token_type_ids, torch.zeros(1, 20, dtype=torch.long))
    assert not {"position_ids", "token_type_ids"} & {name.split(".")[-1] for name in cut.state_dict()}
    assert (model.config.max_position_embeddings, table_of(model).position_ids.shape) == (POSITIONS, (1, POSITIONS))
    assert table_of(model).position_embeddings.weight.shape == (POSITIONS, 32)
    with pytest.raises((IndexError, RuntimeError)):  # one token too many
        outputs(cut, [range(21)], PAD)


@every_kind
@pytest.mark.parametrize("tie", [True, False])
def test_a_cut_model_saves_and_loads(kind: Any, tie: bool, tmp_path: Path) -> None:
    model = keep_positions(keep_tokens(build(kind, tie_word_embeddings=tie), KEPT), 20)
    with quiet_libraries():
        model.save_pretrained(tmp_path)
        loaded, report = KINDS[kind].from_pretrained(tmp_path, use_safetensors=True, output_loading_info=True)
    assert (tmp_path / "model.safetensors").is_file()
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = [[4, 9, 30, 2], [1, 2, 3]]
    pad = KEPT.index(PAD)
    assert_same(outputs(loaded.eval(), ids, pad), outputs(model, ids, pad))
    fields = ("vocab_size", "pad_token_id", "max_position_embeddings")
    assert [getattr(loaded.config, name) for name in fields] == [len(KEPT), pad, 20]


@pytest.mark.parametrize("tie", [True, False])
def test_the_output_layer_stays_tied_as_it_was(tie: bool) -> None:
    source = build(BertForMaskedLM, tie_word_embeddings=tie)
    cut = keep_tokens(source, KEPT)
    for model, size in ((source, TOKENS), (cut, len(KEPT))):
        head = model.cls.predictions
        assert (head.decoder.weight is model.bert.embeddings.word_embeddings.weight) == tie
        assert (head.bias is head.decoder.bias) == (source.cls.predictions.bias is source.cls.predictions.decoder.bias)
        assert head.decoder.weight.shape == (size, 32)
        assert head.bias.shape == head.decoder.bias.shape == (size,)
        assert head.decoder.out_features == size
    labels = torch.tensor([[1, 2, 3]])
    assert torch.isfinite(cut(input_ids=labels, labels=labels).loss)


def test_a_real_folder_is_cut_and_answers_as_before(tmp_path: Path) -> None:
    """Tokenizer and model together, with texts, through the Auto classes."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    model = build(BertForSequenceClassification, vocab_size=make_tokenizer(source), pad_token_id=0)
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    used = count_tokens(tokenizer.encode(text).ids for text in TEXTS)
    kept = choose_vocabulary(read_tokenizer(source), used, 1, special=special_tokens(source))
    assert len(kept) < model.config.vocab_size
    with quiet_libraries():
        rewrite_tokenizer(source, target, kept, max_length=48)
        keep_positions(keep_tokens(model, kept), 48).save_pretrained(target)
        before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(target)
        loaded = AutoModelForSequenceClassification.from_pretrained(target).eval()
    assert loaded.config.vocab_size == len(after) == len(kept)
    assert loaded.config.max_position_embeddings == after.model_max_length == 48
    options = {"padding": True, "truncation": True, "return_tensors": "pt"}
    with torch.no_grad():
        expected = model(**before(TEXTS, max_length=48, **options)).logits
        assert_same([loaded(**after(TEXTS, **options)).logits], [expected])
    assert expected.std(dim=0).min() > 1e-2  # the texts differ, so the answers could


def test_a_pruned_model_is_cut_as_well(tmp_path: Path) -> None:
    model = build(BertForSequenceClassification)
    pruned = prune(model, {0: Units((0, 2), tuple(range(0, 64, 2))), 1: Units((1,), (3, 4))})
    cut = keep_positions(keep_tokens(pruned, KEPT), 20)
    with quiet_libraries():
        cut.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="sdpa").eval()
    assert type(loaded) is type(cut) is type(pruned)
    expected = outputs(pruned, [KEPT[:20], KEPT[30:35]], PAD)
    for found in (cut, loaded):
        assert_same(outputs(found, [range(20), range(30, 35)], KEPT.index(PAD)), expected)


def test_dtype_mode_and_frozen_parameters_stay() -> None:
    model = build(BertModel).to(torch.bfloat16).train()
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    cut = keep_positions(keep_tokens(model, KEPT), 20)
    assert cut.training
    assert {value.dtype for value in cut.parameters()} == {torch.bfloat16}
    assert not cut.embeddings.word_embeddings.weight.requires_grad
    assert cut.embeddings.position_embeddings.weight.requires_grad


def test_cutting_draws_no_random_numbers() -> None:
    model = build(BertModel)
    state = torch.random.get_rng_state()
    keep_positions(keep_tokens(model, KEPT), 20)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_other_ids_of_the_config_follow_their_tokens() -> None:
    model = build(BertModel, bos_token_id=7, eos_token_id=[9, 4], sep_token_id=4)
    cut = keep_tokens(model, KEPT)
    assert (cut.config.bos_token_id, cut.config.eos_token_id) == (KEPT.index(7), [KEPT.index(9)])
    assert cut.config.sep_token_id is None
    assert (model.config.bos_token_id, model.config.eos_token_id, model.config.sep_token_id) == (7, [9, 4], 4)


def test_a_model_without_padding_needs_none() -> None:
    cut = keep_tokens(build(BertModel, pad_token_id=None), [8, 9])
    assert cut.config.pad_token_id is None
    assert cut.embeddings.word_embeddings.padding_idx is None


def test_everything_may_be_kept() -> None:
    model = build(BertModel)
    cut = keep_positions(keep_tokens(model, range(TOKENS)), POSITIONS)
    assert cut is not model
    assert cut.config.to_dict() == model.config.to_dict()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in cut.state_dict().items())


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([], "no token is kept"),
        ([PAD, 9, 8], "not ascending and distinct"),
        ([PAD, 8, 8], "not ascending and distinct"),
        ([-1, PAD], "token -1 is not one of them"),
        ([PAD, TOKENS], f"{TOKENS} rows; token {TOKENS} is not one of them"),
        ([6, 7], f"token {PAD}, the padding, is not kept"),
    ],
)
def test_a_kept_set_without_sense_is_refused(kept: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keep_tokens(build(BertModel), kept)


@pytest.mark.parametrize("count", [-1, 0, 2, POSITIONS + 1])
def test_a_number_of_positions_without_sense_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} positions cannot be kept: the model has {POSITIONS}, and needs 3"):
        keep_positions(build(BertModel), count)


@pytest.mark.parametrize("model", [build(BertForPreTraining), torch.nn.Linear(2, 2)], ids=lambda model: type(model).__name__)
def test_other_classes_are_refused(model: Any) -> None:
    for cut in (lambda: keep_tokens(model, [0, PAD]), lambda: keep_positions(model, 8)):
        with pytest.raises(ValueError, match=f"tables of {type(model).__name__} cannot be cut"):
            cut()
