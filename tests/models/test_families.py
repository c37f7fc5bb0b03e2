"""Every family: what is written once over the descriptions does for each of them what it does for BERT."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_bert import assert_same, difference, outputs, silenced, summed_loss
from tiny_families import able, mix, tiny_batch, tiny_folder, tiny_model

from edgebert.core.packages import quiet_libraries
from edgebert.errors import StageError
from edgebert.models.capture import captured, observe, width_of
from edgebert.models.embeddings import keep_positions, keep_tokens
from edgebert.models.families import FAMILIES
from edgebert.models.families.base import Family
from edgebert.models.folder import inspect_model
from edgebert.models.load import load_model, run_model, save_model
from edgebert.models.parts import EmbeddingParts, parts_of
from edgebert.models.pruned import CLASSES, HEADS, endings_of
from edgebert.models.sizes import EncoderSizes
from edgebert.models.surgery import Units, everything, prune, shape_of
from edgebert.runtimes import get_runtime
from edgebert.runtimes.target import Target
from edgebert.stages.export import REWRITES, export_model
from edgebert.stages.export.onnx_graph import holding_rewrites
from edgebert.stages.export.serving_form import serving_form
from edgebert.stages.prune import importance
from edgebert.stages.prune.reconstruct import reconstruct
from edgebert.stages.quantize.equalize import equalize_values, smooth_norms
from edgebert.stages.quantize.repair import repairs_of
from edgebert.tasks import TASKS, get_task
from edgebert.tasks.base import Task

TASK = get_task("text-classification")
KEPT = {0: Units((0, 2, 3), (1, 5, 20)), 2: Units((3,), tuple(range(0, 24, 2)))}
FORMS = [("mask",), ("mask", "scale"), ("mask", "qkv"), ("mask", "first_token"), REWRITES[:4], REWRITES]
LAYOUTS = list(
    {repr((f.layer, f.embedding, f.inputs, f.skips_padding, f.rewrites)): f for f in reversed(able("units"))}.values()
)
"""A family for each description of layers and embeddings that can be pruned."""
OF_TOKENS = next(task for task in TASKS if task.reads == "all")
EXPORTED = [
    *((family, TASKS[0], bool(family.rewrites)) for family in LAYOUTS),
    (FAMILIES[0], TASKS[0], False),
    (FAMILIES[0], OF_TOKENS, True),
]
"""(family, task, whether the graph is rewritten) of the exports by torch, which take seconds each."""
REWRITTEN = [family for family in FAMILIES if family.rewrites]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
pruned_family = pytest.mark.parametrize("family", able("units"), ids=lambda family: family.model_type)
pruned_head = pytest.mark.parametrize(("family", "head"), mix("units"))
every_head = pytest.mark.parametrize(("family", "head"), mix())


def batch_of(model: Any, lengths: tuple[int, ...] = (2, 9, 5), **options: Any) -> dict[str, Any]:
    return tiny_batch(model, lengths, padding=2, **options)


@pruned_head
def test_a_pruned_model_is_the_model_without_its_units_and_reloads_by_the_auto_class(
    family: Family, head: str, tmp_path: Path
) -> None:
    model = tiny_model(family, head, layers=3)
    pruned = prune(model, KEPT)
    assert type(pruned) is CLASSES[type(model)]
    sizes = {"heads": (3, 1), "intermediate_sizes": (3, 12)}
    assert shape_of(pruned) == dataclasses.replace(shape_of(model), **sizes)
    batch = batch_of(model)
    assert_same(outputs(pruned, batch), outputs(silenced(model, KEPT), batch))
    assert difference(outputs(pruned, batch), outputs(model, batch)) > 1e-3
    save_model(pruned, tmp_path)
    with quiet_libraries():
        loaded, report = getattr(transformers, HEADS[head]).from_pretrained(
            tmp_path, use_safetensors=True, attn_implementation="eager", output_loading_info=True
        )
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(loaded) is type(pruned) and loaded.config.model_type == family.pruned_type
    pruned.set_attn_implementation("eager")
    for one, other in zip(outputs(loaded.eval(), batch), outputs(pruned, batch), strict=True):
        assert torch.equal(one, other)


@pruned_family
def test_a_model_is_pruned_twice_and_knows_where_its_layers_come_from(family: Family) -> None:
    model = tiny_model(family, layers=3)
    twice = prune(prune(model, KEPT), {1: Units((0,), (2, 11))})
    assert_same(
        outputs(twice, batch_of(model)), outputs(silenced(prune(model, KEPT), {1: Units((0,), (2, 11))}), batch_of(model))
    )
    sizes = EncoderSizes.from_config(twice.config.to_dict())
    assert [(layer.place, layer.heads, layer.intermediate_size) for layer in sizes.layers] == [(2, (3,), 2)]
    assert (sizes.original_layers, sizes.original_heads, sizes.original_intermediate_size) == (3, 4, 24)
    assert not sizes.whole and EncoderSizes.from_config(model.config.to_dict()).whole


@pytest.mark.parametrize("family", able("hidden", "relations"), ids=lambda family: family.model_type)
def test_queries_keys_values_and_hidden_states_are_captured(family: Family) -> None:
    model = tiny_model(family)
    names = ("hidden-0", "query-1", "key-2", "value-2", "hidden-2")
    batch = batch_of(model)
    with torch.no_grad(), captured(model, names) as found:
        run_model(model, batch)
    with torch.no_grad():
        query = parts_of(model)[0].projections["query"](found["hidden-0"])
        assert torch.equal(found["query-1"], query[..., : found["query-1"].shape[-1]])
    assert {name: value.shape[-1] for name, value in found.items()} == {name: width_of(model, name) for name in names}


@pruned_family
def test_what_goes_into_a_module_is_shown_without_padding(family: Family) -> None:
    model, seen = tiny_model(family), {}
    batch = batch_of(model, labels=3)
    observe(model, {"down": parts_of(model)[1].down}, [batch], lambda name, rows: seen.__setitem__(name, rows))
    assert seen["down"].shape == (2 + 9 + 5, 24)


@pruned_family
def test_masks_of_units_do_what_removal_does(family: Family) -> None:
    model = tiny_model(family, layers=3)
    whole, batch = everything(model), batch_of(model, labels=3)
    kept = {index: KEPT.get(index, whole[index]) for index in whole}
    heads = [torch.tensor([float(i in units.heads) for i in range(4)]) for units in kept.values()]
    neurons = [torch.tensor([float(i in units.neurons) for i in range(24)]) for units in kept.values()]
    with importance.masked(model, heads, neurons):
        masked = outputs(model, batch)
    assert_same(masked, outputs(prune(model, kept), batch))
    found = importance.fisher(model, [batch], summed_loss)
    assert all((values >= 0).all() and values.sum() > 0 for values in (*found.heads, *found.neurons))


@pruned_family
def test_reconstruction_brings_a_pruned_model_closer_to_its_teacher(family: Family) -> None:
    model = tiny_model(family, layers=3)
    kept = {index: Units(units.heads[:3], units.neurons[:18]) for index, units in everything(model).items()}
    batches = [tiny_batch(model, [9] * 16, seed=seed) for seed in range(8)]
    plain, fitted = prune(model, kept), prune(model, kept)
    reconstruct(fitted, model, kept, batches)
    wanted = outputs(model, batches[0])
    assert difference(outputs(fitted, batches[0]), wanted) < difference(outputs(plain, batches[0]), wanted)
    same = prune(model, everything(model))
    reconstruct(same, model, everything(model), batches)
    assert_same(outputs(same, batches[0]), wanted, tolerance=1e-3)


@pytest.mark.parametrize(("family", "head"), mix("tokens", "positions"))
def test_tables_are_cut_to_the_kept_tokens_and_positions(family: Family, head: str) -> None:
    model = tiny_model(family, head)
    kept = [0, 1, *range(3, 40, 2)]
    cut = keep_tokens(model, kept)
    assert EmbeddingParts.of(cut).word.num_embeddings == cut.config.vocab_size == len(kept)
    batch = batch_of(model)
    new = torch.randint(2, len(kept), batch["input_ids"].shape, generator=torch.Generator().manual_seed(0))
    new = torch.where(batch["attention_mask"].bool(), new, torch.tensor(cut.config.pad_token_id))
    before = outputs(model, {**batch, "input_ids": torch.tensor(kept)[new]})
    after = outputs(cut, {**batch, "input_ids": new})
    if head == "ForMaskedLM":
        before = [value[..., kept] for value in before]
    assert_same(after, before)

    short = keep_positions(model, 11)
    assert family.longest_input(short.config.to_dict()) == 11
    assert_same(outputs(short, batch), outputs(model, batch))
    with pytest.raises((IndexError, RuntimeError)):
        outputs(short, tiny_batch(model, [12]))
    with pytest.raises(ValueError, match="the model has 32, and needs 3"):
        keep_positions(model, 33)


@pytest.mark.parametrize(
    "family", [family for family in able("tokens") if "pad_token_id" not in family.fixed], ids=lambda family: family.model_type
)
def test_positions_stay_when_the_padding_token_gets_another_id(family: Family, tmp_path: Path) -> None:
    model = tiny_model(family, pad_token_id=4)
    kept = [0, 4, *range(6, 40)]
    cut = keep_tokens(model, kept)
    assert cut.config.pad_token_id == 1
    assert family.longest_input(cut.config.to_dict()) == 32
    new = tiny_batch(cut, (32, 9, 5), seed=3)
    old = {**new, "input_ids": torch.tensor(kept)[new["input_ids"]]}
    assert_same(outputs(cut, new), outputs(model, old))
    save_model(cut, tmp_path)
    assert_same(outputs(load_model(tmp_path, TASK), new), outputs(model, old))


@pytest.mark.parametrize("family", REWRITTEN, ids=lambda family: family.model_type)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    "rewrites", [("mask",), ("mask", "scale"), ("mask", "qkv"), ("mask", "first_token"), REWRITES[:4], REWRITES]
)
def test_rewritten_models_answer_as_their_source(family: Family, layers: int, rewrites: tuple[str, ...]) -> None:
    whole = tiny_model(family, layers=layers)
    pruned = prune(whole, {index: Units((0, 3), (1, 5, 20)) for index in range(layers)})
    rewrites = tuple(rewrite for rewrite in rewrites if rewrite in family.rewrites)
    for model in (whole, pruned):
        before = copy.deepcopy(model.state_dict())
        batch = batch_of(model)
        batch["input_ids"][1, 3] = model.config.pad_token_id  # a padding token that is typed in a text
        assert_same(outputs(serving_form(model, rewrites), batch), outputs(model, batch), tolerance=1e-5)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("family", "head"), [pair for pair in mix() if pair.values[0] in REWRITTEN])
def test_a_form_that_reads_all_tokens_holds_for_every_head(family: Family, head: str) -> None:
    if head == "Model":
        return  # an encoder alone has no head to serve
    model = tiny_model(family, head)
    assert_same(outputs(serving_form(model, ("mask", "scale", "qkv")), batch_of(model)), outputs(model, batch_of(model)), 1e-5)


@pruned_family
def test_equalised_models_compute_the_same(family: Family) -> None:
    model = tiny_model(family)
    batch, wanted = batch_of(model), outputs(model, batch_of(model))
    value = parts_of(model)[0].projections["value"].weight.clone()
    equalize_values(model, [batch])
    assert not torch.equal(parts_of(model)[0].projections["value"].weight, value)
    assert_same(outputs(model, batch), wanted)
    if "norms" not in repairs_of(family):
        return
    norm = parts_of(model)[0].attention_norm.weight.clone()
    smooth_norms(model, [batch])
    assert not torch.equal(parts_of(model)[0].attention_norm.weight, norm)
    assert_same(outputs(model, batch), wanted)
    if family.rewrites:
        assert_same(outputs(serving_form(model, REWRITES), batch), wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "task", "rewritten"), EXPORTED, ids=lambda item: getattr(item, "model_type", getattr(item, "name", str(item)))
)
def test_exported_graphs_have_the_inputs_of_the_family_and_answer_alike(
    family: Family, task: Task, rewritten: bool, tmp_path: Path
) -> None:
    import onnx

    whole = tiny_model(family, task.architecture)
    model = prune(whole, {0: Units((0, 2, 3), (1, 5, 20)), 1: Units((3,), tuple(range(24)))})
    rewrites = holding_rewrites(task, family) if rewritten else ()
    export_model(model, task, tmp_path / "model.onnx", name="it", rewrites=rewrites)
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert tuple(value.name for value in graph.input) == family.inputs
    names = {node.name for node in graph.node}
    down = f"{family.prefix}.{family.layers}.0.{family.layer.down}/MatMul"
    assert down in names, names
    session = get_runtime("onnxruntime").open(tmp_path / "model.onnx", Target(runtime="onnxruntime"))
    batch = batch_of(model)
    found = session.predict({name: value.numpy() for name, value in batch.items()})
    with torch.no_grad():
        wanted = run_model(model, batch)
    for output in task.outputs:
        difference = np.abs(found[output.name] - wanted[output.name].numpy())
        assert difference.max() < 1e-4 * max(1, float(wanted[output.name].abs().max()))


@every_family
def test_a_rewrite_that_would_change_the_answers_is_refused(family: Family, tmp_path: Path) -> None:
    for task in TASKS:
        if task.architecture in endings_of(family) and "first_token" not in holding_rewrites(task, family):
            with pytest.raises(StageError, match="would change the answers"):
                export_model(
                    tiny_model(family, task.architecture), task, tmp_path / "x", name="it", rewrites=("mask", "first_token")
                )


@every_family
def test_folders_are_inspected_and_loaded(family: Family, tmp_path: Path) -> None:
    folder = inspect_model(
        tiny_folder(family.model_type, "ForSequenceClassification", tmp_path / "tuned", labels=("a", "b", "c"))
    )
    assert folder.family is family and folder.has_head(TASK)
    assert folder.labels == ("a", "b", "c")
    assert folder.max_positions == folder.max_length() == 64
    assert set(folder.files()) >= {"tokenizer.json", "model.safetensors"}
    model = load_model(folder.path, TASK)
    assert type(model).__name__ == f"{family.class_name}ForSequenceClassification"


@every_family
def test_a_new_head_is_drawn_for_labels_and_nothing_else_is(family: Family, tmp_path: Path) -> None:
    bare = tiny_folder(family.model_type, "Model", tmp_path / "bare")
    assert not inspect_model(bare).has_head(TASK)
    assert inspect_model(bare).head_fault(TASK) == "the model was not fine-tuned for the task yet."
    with quiet_libraries():
        model = load_model(bare, TASK, ("x", "y", "z"))
    assert model.config.num_labels == 3 and model.config.problem_type == "single_label_classification"
    source = transformers.AutoModel.from_pretrained(bare, attn_implementation="eager").eval()
    assert torch.equal(EmbeddingParts.of(model).word.weight, EmbeddingParts.of(source).word.weight)


@every_family
@pytest.mark.parametrize("head", ["ForTokenClassification", "ForMaskedLM", "ForQuestionAnswering"])
def test_a_model_of_another_task_does_not_pass_as_this_ones(family: Family, head: str, tmp_path: Path) -> None:
    if head in family.classless:
        return
    other = inspect_model(tiny_folder(family.model_type, head, tmp_path / "other"))
    assert not other.has_head(TASK)
    assert other.head_fault(TASK) == (
        f"the model is a {family.class_name}{head}, which was made for another task than text-classification."
    )
