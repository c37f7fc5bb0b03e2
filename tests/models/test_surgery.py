"""Removing units gives what ignoring them gives, at any sizes, again and again; the source stays; nonsense is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import BATCHES, BERTS, KINDS, Batch, assert_same, batch_of, build, difference, kept_of, outputs, silenced
from transformers import BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel

from edgebert.models.pruned import CLASSES, CONFIGS
from edgebert.models.sizes import Shape
from edgebert.models.surgery import Units, encoder_of, everything, layers_of, prune, shape_of

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
PART = {0: Units((0, 2), (1, 5, 20)), 1: Units((3,), tuple(range(24)))}


@every_kind
@settings(max_examples=12)
@given(options=BERTS, batch=BATCHES, draw=st.data())
def test_removing_equals_ignoring_twice_over(kind: Any, options: dict[str, Any], batch: Batch, draw: st.DataObject) -> None:
    model = build(kind, **options)
    for _ in range(2):
        kept = draw.draw(kept_of(shape_of(model)))
        pruned = prune(model, kept)
        assert type(pruned) is CLASSES[kind]
        assert shape_of(pruned) == Shape(
            hidden_size=options["heads"] * options["head_size"],
            head_size=options["head_size"],
            heads=tuple(len(units.heads) for _, units in sorted(kept.items())),
            intermediate_sizes=tuple(len(units.neurons) for _, units in sorted(kept.items())),
        )
        assert_same(outputs(pruned, batch), outputs(silenced(model, kept), batch))
        model = pruned


@every_kind
def test_what_is_removed_is_gone_from_the_weights(kind: Any) -> None:
    model = build(kind)
    pruned = prune(model, {1: Units((1, 2), (0, 7, 9))})
    (layer,) = layers_of(pruned)
    attention = layer.attention
    linear = (attention.self.query, attention.self.key, attention.self.value, attention.output.dense, layer.output.dense)
    assert [tuple(module.weight.shape) for module in linear] == [(16, 32), (16, 32), (16, 32), (32, 16), (32, 3)]
    assert [(module.out_features, module.in_features) for module in linear] == [tuple(m.weight.shape) for m in linear]
    whole = sum(value.numel() for value in model.parameters())
    lost = sum(value.numel() for value in layers_of(model)[1].parameters()) - sum(p.numel() for p in layer.parameters())
    lost += sum(value.numel() for value in layers_of(model)[0].parameters())
    assert sum(value.numel() for value in pruned.parameters()) == whole - lost
    assert difference(outputs(pruned, batch_of([4, 7])), outputs(model, batch_of([4, 7]))) > 1e-2


@every_kind
def test_keeping_everything_changes_nothing(kind: Any) -> None:
    model = build(kind)
    pruned = prune(model, everything(model))
    assert everything(model) == {index: Units((0, 1, 2, 3), tuple(range(24))) for index in (0, 1)}
    assert everything(pruned) == everything(model)
    before, after = model.state_dict(), pruned.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert_same(outputs(pruned, batch_of([3, 8])), outputs(model, batch_of([3, 8])))


@settings(max_examples=40)
@given(options=BERTS, draw=st.data())
def test_indices_of_what_is_left_are_indices_in_the_first_bert(options: dict[str, Any], draw: st.DataObject) -> None:
    model = build(BertModel, **options)
    first = draw.draw(kept_of(shape_of(model)))
    once = prune(model, first)
    second = draw.draw(kept_of(shape_of(once)))
    twice = prune(once, second)
    indices = sorted(first)
    assert list(once.config.source_layers) == indices
    assert [list(heads) for heads in once.config.source_heads] == [list(first[index].heads) for index in indices]
    assert list(twice.config.source_layers) == [indices[index] for index in sorted(second)]
    assert [list(heads) for heads in twice.config.source_heads] == [
        [first[indices[index]].heads[head] for head in second[index].heads] for index in sorted(second)
    ]
    for config in (once.config, twice.config):
        assert config.source_num_hidden_layers == options["layers"]
        assert (config.num_attention_heads, config.intermediate_size) == (options["heads"], options["neurons"])
        assert config.num_hidden_layers == len(config.source_layers) == len(config.layer_heads)
        # The queries of a head that stays are those of the head that it says that it was.
        pruned = twice if config is twice.config else once
        size = options["head_size"]
        for layer, index, heads in zip(layers_of(pruned), config.source_layers, config.source_heads, strict=True):
            found = layer.attention.self.query.weight.reshape(-1, size, model.config.hidden_size)
            source = layers_of(model)[index].attention.self.query.weight.reshape(-1, size, model.config.hidden_size)
            assert torch.equal(found, source[list(heads)])


@every_kind
def test_the_source_and_the_random_state_stay(kind: Any) -> None:
    model = build(kind).train()
    encoder_of(model).embeddings.word_embeddings.weight.requires_grad_(False)
    weights, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config.to_dict())
    torch_state, numpy_state = torch.random.get_rng_state(), repr(np.random.get_state())
    pruned = prune(model, PART)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert repr(np.random.get_state()) == numpy_state
    assert model.training and all(module.training for module in model.modules())
    assert not any(module.training for module in pruned.modules())
    assert all(value.requires_grad for value in pruned.parameters())
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.zero_()
    pruned.config.vocab_size = 3
    assert model.config.to_dict() == config
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert [layer.attention.self.num_attention_heads for layer in layers_of(model)] == [4, 4]


def test_what_the_config_says_of_the_task_stays() -> None:
    model = build(
        BertForSequenceClassification,
        id2label={0: "no", 1: "yes"},
        label2id={"no": 0, "yes": 1},
        problem_type="single_label_classification",
        hidden_act="relu",
        layer_norm_eps=1e-5,
        pad_token_id=3,
        classifier_dropout=0.25,
    )
    config = prune(model, PART).config
    assert isinstance(config, CONFIGS["bert"])
    names = ("id2label", "label2id", "num_labels", "problem_type", "hidden_act", "layer_norm_eps", "pad_token_id", "vocab_size")
    for name in (*names, "classifier_dropout", "max_position_embeddings", "hidden_size"):
        assert getattr(config, name) == getattr(model.config, name), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dtype_and_attention_are_the_sources(dtype: torch.dtype, attention: str) -> None:
    model = build(BertForSequenceClassification, attn_implementation=attention).to(dtype)
    pruned = prune(prune(model, PART), {0: Units((1,), (0, 2))})
    assert {value.dtype for value in pruned.parameters()} == {dtype}
    batch = batch_of([2, 6])
    assert outputs(pruned, batch)[0].dtype == dtype
    assert {pruned.config._attn_implementation, pruned.bert.config._attn_implementation} == {attention}
    assert {layer.attention.self.config._attn_implementation for layer in layers_of(pruned)} == {attention}


@pytest.mark.parametrize("tie", [True, False])
def test_the_output_layer_stays_tied_as_it_was(tie: bool) -> None:
    pruned = prune(build(BertForMaskedLM, tie_word_embeddings=tie), PART)
    assert (pruned.cls.predictions.decoder.weight is pruned.bert.embeddings.word_embeddings.weight) == tie
    assert not encoder_of(pruned).pooler


def test_an_encoder_without_pooler_stays_without() -> None:
    model = build(BertModel, init={"add_pooling_layer": False})
    pruned = prune(prune(model, PART), {1: Units((0,), (3,))})
    assert type(pruned) is CLASSES[BertModel]
    assert pruned.pooler is None
    kept = {1: Units((3,), (3,))}
    assert_same(outputs(pruned, batch_of([2, 5])), outputs(silenced(model, kept), batch_of([2, 5])))


ALL = tuple(range(24))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({}, "no layer is kept"),
        ({2: Units((0,), (0,))}, "layer 2 is not among the model's 2 layers"),
        ({-1: Units((0,), (0,))}, "layer -1 is not among the model's 2 layers"),
        ({0: Units((), ALL)}, "layer 0 keeps no head"),
        ({1: Units((0,), ())}, "layer 1 keeps no FFN neuron"),
        ({0: Units((1, 0), ALL)}, "layer 0: the kept heads are not ascending and distinct"),
        ({0: Units((1, 1), ALL)}, "layer 0: the kept heads are not ascending and distinct"),
        ({0: Units((1,), (4, 3))}, "layer 0: the kept FFN neurons are not ascending and distinct"),
        ({0: Units((0, 4), ALL)}, "layer 0 has 4 heads; head 4 is not one of them"),
        ({0: Units((-1, 3), ALL)}, "layer 0 has 4 heads; head -1 is not one of them"),
        ({0: Units((0,), ALL), 1: Units((0,), (3, 24))}, "layer 1 has 24 FFN neurons; FFN neuron 24 is not one of them"),
        ({0: Units((0,), (-2, 3))}, "layer 0 has 24 FFN neurons; FFN neuron -2 is not one of them"),
    ],
)
def test_a_kept_set_without_sense_is_refused(kept: dict[int, Units], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune(build(BertModel), kept)


def test_sizes_are_checked_against_what_an_earlier_pruning_left() -> None:
    once = prune(build(BertModel), PART)
    with pytest.raises(ValueError, match="layer 0 has 2 heads; head 2 is not one of them"):
        prune(once, {0: Units((0, 2), (1,))})
    with pytest.raises(ValueError, match="layer 0 has 3 FFN neurons; FFN neuron 5 is not one of them"):
        prune(once, {0: Units((0,), (1, 5))})


def test_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="BertForPreTraining cannot be pruned"):
        prune(build(BertForPreTraining), PART)
