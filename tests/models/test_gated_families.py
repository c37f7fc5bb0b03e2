"""Families of gated FFNs, rotary and relative positions: their variants, names in files, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bert import assert_same, outputs, silenced, summed_loss
from tiny_families import family_named, tiny_batch, tiny_folder, tiny_model

from edgebert.compress.cells import Cell
from edgebert.errors import SourceError
from edgebert.models.embeddings import keep_tokens
from edgebert.models.folder import inspect_model
from edgebert.models.load import load_model, save_model
from edgebert.models.parts import inputs_of, parts_of
from edgebert.models.surgery import Units, everything, prune, shape_of
from edgebert.runtimes import RUNTIMES
from edgebert.stages.base import ModelFacts
from edgebert.stages.prune import Prune, importance
from edgebert.tasks import get_task

TASK = get_task("text-classification")
SENTENCE = "ForSequenceClassification"
KEPT = {1: Units((0, 2), (1, 5, 20)), 2: Units((3,), tuple(range(0, 24, 2)))}
OWN_KEYS = {"share_att_key": False, "position_buckets": -1, "norm_rel_ebd": "none"}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("deberta-v2", OWN_KEYS),
    ("deberta-v2", {**OWN_KEYS, "pos_att_type": ["c2p"], "type_vocab_size": 2, "position_biased_input": True}),
    ("deberta-v2", {"relative_attention": False, "pos_att_type": [], "position_biased_input": True, "norm_rel_ebd": "none"}),
    ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
    ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}),
    ("modernbert", {"classifier_pooling": "mean", "layer_types": ["sliding_attention", "full_attention", "full_attention"]}),
    ("gte", {"type_vocab_size": 0}),
    ("gte", {"type_vocab_size": 2}),
    ("gte", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    ("nomic_bert", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
]


def edited(folder: Path, **changes: Any) -> Path:
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{name}-{next(iter(fields))}" for name, fields in VARIANTS])
def test_every_variant_is_described_loaded_as_it_is_and_cut(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    family, padding = family_named(name), {"padding": 2}
    model = tiny_model(family, layers=3, **options)
    batch = tiny_batch(model, (2, 9, 5), **padding)
    folder = tiny_folder(name, SENTENCE, tmp_path / "whole", layers=3)  # for its tokenizer
    save_model(model, folder)
    inspected = inspect_model(folder)
    assert inspected.has_head(TASK) and inspected.inputs == inputs_of(model)
    loaded = load_model(folder, TASK)
    assert_same(outputs(loaded, batch), outputs(model, batch), 1e-5)
    if "units" in family.lacking(loaded.config.to_dict()):
        return
    pruned = prune(loaded, KEPT)
    assert_same(outputs(pruned, batch), outputs(silenced(loaded, KEPT), batch))
    save_model(pruned, folder)
    assert inspect_model(folder).family is family
    assert_same(outputs(load_model(folder, TASK), batch), outputs(pruned, batch), 1e-6)


def test_segments_are_inputs_where_the_model_has_more_than_one() -> None:
    for name in ("gte", "deberta-v2"):
        of = [inputs_of(tiny_model(family_named(name), type_vocab_size=count)) for count in (0, 1, 2)]
        assert ["token_type_ids" in names for names in of] == [False, False, True]
    model = tiny_model(family_named("gte"), type_vocab_size=2)
    batch = tiny_batch(model, (6, 4))
    other = {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    assert not torch.equal(outputs(model, batch)[0], outputs(model, other)[0])


@pytest.mark.parametrize("name", ["modernbert", "nomic_bert"])
def test_the_importance_of_a_gated_neuron_is_that_of_its_effect_on_the_loss(name: str) -> None:
    model = tiny_model(family_named(name), neurons=6).double()
    batches = [tiny_batch(model, (7,), seed=seed, labels=3) for seed in range(3)]
    heads = [torch.ones(4).double() for _ in range(2)]

    def loss(batch: Any, layer: int, neuron: int, factor: float) -> float:
        neurons = [torch.ones(6).double() for _ in range(2)]
        neurons[layer][neuron] = factor
        with importance.masked(model, heads, neurons), torch.no_grad():
            return float(summed_loss(model, batch))

    found = importance.fisher(model, batches, summed_loss).neurons
    step = 1e-2  # ModernBERT rotates and takes the softmax in FP32
    for layer in range(2):
        slopes = [
            [(loss(batch, layer, i, 1 + step) - loss(batch, layer, i, 1 - step)) / (2 * step) for i in range(6)]
            for batch in batches
        ]
        np.testing.assert_allclose(found[layer], 0.5 * np.square(slopes).mean(axis=0), rtol=0.01, atol=1e-6)
    whole = everything(model)
    for neuron in range(6):  # what is removed is what the mask silences: both halves of the gate
        gone = {**whole, 0: Units(whole[0].heads, tuple(i for i in range(6) if i != neuron))}
        with torch.no_grad():
            without = float(summed_loss(prune(model, gone), batches[0]))
        assert without == pytest.approx(loss(batches[0], 0, neuron, 0.0), rel=1e-5)


def test_a_gated_neuron_costs_three_columns_and_relative_positions_count() -> None:
    plain = shape_of(tiny_model(family_named("bert")))
    gated = shape_of(tiny_model(family_named("modernbert")))
    assert gated.neuron_macs(10) == 1.5 * plain.neuron_macs(10) and gated.head_macs(10) == plain.head_macs(10)
    relative = shape_of(tiny_model(family_named("deberta-v2")))
    assert relative.head_macs(10) - plain.head_macs(10) == 10 * 8 * 2 * (2 * 4)  # two types of 2 * 4 buckets


def test_a_later_layer_of_modernbert_brings_its_norm_when_it_becomes_the_first() -> None:
    model = tiny_model(family_named("modernbert"), layers=3)
    pruned = prune(model, KEPT)
    assert pruned.config.layer_types == ["sliding_attention", "sliding_attention"]
    assert torch.equal(parts_of(pruned)[0].attention_norm.weight, parts_of(model)[1].attention_norm.weight)
    assert not hasattr(parts_of(prune(model, {0: Units((0,), (0,))}))[0].attention_norm, "weight")


@pytest.mark.parametrize("name", ["nomic_bert", "gte"])
def test_tensors_are_read_under_their_former_names_and_those_of_today(name: str, tmp_path: Path) -> None:
    folder = tiny_folder(name, SENTENCE, tmp_path / "former")
    model = load_model(folder, TASK)
    former = load_file(folder / "model.safetensors")
    today = {key: value.clone() for key, value in model.state_dict().items()}
    assert set(former) != set(today) and len(former) < len(today)
    batch = tiny_batch(model, (5, 3))
    wanted = outputs(model, batch)
    save_file(today, folder / "model.safetensors", {"format": "pt"})
    inspect_model(folder)
    assert_same(outputs(load_model(folder, TASK), batch), wanted, 1e-6)
    joined = next(key for key in former if "qkv" in key.lower() and key.endswith("weight"))
    save_file({**former, joined: former[joined][:-1].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=f"{joined} has the shape"):
        inspect_model(folder)


def test_the_bias_of_deberta_3s_language_model_is_cut_with_the_tokens() -> None:
    model = tiny_model(family_named("deberta-v2"), "ForMaskedLM", legacy=False)
    kept = [0, 1, *range(3, 40, 2)]
    cut = keep_tokens(model, kept)
    batch = tiny_batch(model, (4,))
    new = torch.tensor([[2, 5, 7, 9]])
    found = outputs(cut, {**batch, "input_ids": new})
    wanted = outputs(model, {**batch, "input_ids": torch.tensor(kept)[new]})
    assert_same(found, [value[..., kept] for value in wanted])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("deberta-v2", {"share_att_key": "yes"}, "share_att_key is 'yes', not of the type bool"),
        ("deberta-v2", {"embedding_size": 16}, "embedding_size is 16, not hidden_size, which is 32"),
        ("deberta-v2", {"pos_att_type": ["p2p"]}, "pos_att_type has 'p2p', and Transformers knows c2p and p2c"),
        ("deberta-v2", {"conv_kernel_size": 2}, "conv_kernel_size is 2"),
        ("deberta-v2", {"share_att_key": False}, "attention.self.pos_key_proj.weight is missing"),
        ("deberta-v2", {"position_buckets": 5}, "encoder.rel_embeddings.weight has the shape"),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types has 1 items for 2 layers"),
        ("modernbert", {"layer_types": ["full_attention", "none"]}, "layer_types is not a list of"),
        ("modernbert", {"local_attention": 0}, "local_attention is 0"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling is 'max', neither 'cls' nor 'mean'"),
        ("modernbert", {"mlp_bias": True}, "mlp.Wi.bias is missing"),
        ("modernbert", {"norm_eps": 2}, "norm_eps is 2; it has to be above 0 and below 1"),
        (
            "modernbert",
            {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
            "has the rope_type 'yarn'",
        ),
        ("nomic_bert", {"n_embd": 32}, "n_embd is a name of Nomic's own code"),
        ("nomic_bert", {"head_dim": 4}, "head_dim is 4, and 32 in 4 heads make 8"),
        ("nomic_bert", {"rope_parameters": [1]}, "rope_parameters is not a table"),
        ("gte", {"rope_scaling": {"type": "ntk", "factor": 8}}, "rope_scaling stretches the positions"),
        ("gte", {"rope_theta": -1}, "rope_theta is -1; it has to be a number above 0"),
        ("gte", {"rope_parameters": {"rope_theta": 1e4, "factor": 2}}, "rope_parameters has factor"),
        ("gte", {"logn_attention_scale": True}, "logn_attention_scale is true"),
        ("gte", {"hidden_size": 36, "num_attention_heads": 4}, "a head has the size 9"),
    ],
)
def test_what_changes_the_answers_and_is_not_followed_is_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as caught:
        inspect_model(edited(tiny_folder(name, SENTENCE, tmp_path / "model"), **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["nomic_bert", "gte"])
def test_a_task_whose_class_transformers_lacks_is_refused_by_its_name(name: str) -> None:
    family = family_named(name)

    class Answers(type(TASK)):  # type: ignore[misc]
        architecture = "ForQuestionAnswering"

    assert Cell(Answers(), family, RUNTIMES[0]).obstacle == f"Transformers has no {family.class_name}ForQuestionAnswering"
    assert Cell(TASK, family, RUNTIMES[0]).obstacle is None


def test_what_pruning_cannot_do_with_them_is_said_first() -> None:
    stage = Prune.model_validate({"to": {"speedup": 2}, "positions": 16})
    config = {"model_type": "modernbert", "max_position_embeddings": 64}
    fields = family_named("modernbert").with_sizes(config)
    assert stage.faults(ModelFacts(fields, 16, None, {}, ())) == [
        "the positions of ModernBERT cannot be cut, because they are rotations, and have no table; drop what asks for it",
        "a speed-up of ModernBERT cannot be predicted, because only layers like BERT's are timed; "
        "say `to: {macs: ...}` instead",
    ]
    convolved = family_named("deberta-v2").with_sizes({"model_type": "deberta-v2", "conv_kernel_size": 3})
    stage = Prune.model_validate({"to": {"macs": 0.5}})
    assert "a convolution beside its first layer" in stage.faults(ModelFacts(convolved, 16, None, {}, ()))[0]
