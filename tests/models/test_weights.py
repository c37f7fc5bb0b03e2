"""Weights against config.json: what would be dropped or drawn is named, advice mends it, and the rest is read as it is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from breaks import header
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch
from tiny_families import mix, tiny_batch, tiny_folder, tiny_model

from edgebert.errors import SourceError
from edgebert.models.families.base import Family
from edgebert.models.folder import inspect_model
from edgebert.models.load import copy_tokenizer, load_model, run_model, save_model
from edgebert.models.surgery import Units, prune
from edgebert.models.tensors import encoder_shapes, head_shapes, plain_name, unread
from edgebert.models.weight_files import read_tensors
from edgebert.tasks import get_task

TASK = get_task("text-classification")
Weights = dict[str, Any]
Break = Callable[[Path], object]
QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def weights(change: Callable[[Weights], Weights | None]) -> Break:
    """Changes the tensors of a folder in place, or replaces them."""

    def broken(folder: Path) -> None:
        held = {name: value.copy() for name, value in load_file(folder / "model.safetensors").items()}
        save_file(change(held) or held, folder / "model.safetensors", metadata={"format": "pt"})

    return broken


def renamed(change: Callable[[str], str]) -> Break:
    return weights(lambda held: {change(name): value for name, value in held.items()})


def config(**values: Any) -> Break:
    """Changes values of config.json; ... removes one."""

    def broken(folder: Path) -> None:
        content = {**json.loads((folder / "config.json").read_text()), **values}
        (folder / "config.json").write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))

    return broken


def added(**tensors: Any) -> Break:
    """Adds tensors; `__` in a name is a dot."""
    return weights(lambda held: {**held, **{name.replace("__", "."): np.asarray(value) for name, value in tensors.items()}})


def extra_layer(held: Weights) -> None:
    for name in [name for name in held if ".layer.1." in name]:
        held[name.replace(".layer.1.", ".layer.2.")] = held[name].copy()


def put(name: str, content: str = "{}") -> Break:
    return lambda folder: (folder / name).write_text(content)


def answers(folder: Path) -> torch.Tensor:
    """Logits of a BERT for a few texts."""
    model = load_model(folder, TASK)
    with torch.no_grad():
        return run_model(model, tiny_batch(model, (5, 9, 3), padding=2)).logits


ZEROS = np.zeros((2, 2), np.float32)
REFUSED: dict[str, tuple[Break, str]] = {
    "extra layer": (weights(extra_layer), r"hold 3 layers, but config.json asks for 2 \(num_hidden_layers\)"),
    "fewer layers in config": (config(num_hidden_layers=1), "hold 2 layers, but config.json asks for 1"),
    "adapter inside": (
        added(bert__encoder__layer__0__adapter__down__weight=ZEROS),
        "hold bert.encoder.layer.0.adapter.down.weight",
    ),
    "head of two matrices": (added(classifier__2__weight=ZEROS), "hold classifier.2.weight.*no place"),
    "unknown module": (added(gate__weight=ZEROS), r"hold gate.weight.*would drop it.\n.*save_pretrained\(NEW\)"),
    "INT8 with scales": (added(bert__encoder__layer__0__attention__self__query__SCB=ZEROS), r"bitsandbytes.*query\.SCB"),
    "INT8 without": (
        weights(lambda held: {**held, QUERY: held[QUERY].astype(np.int8)}),
        "are quantised: .*query.weight holds I8",
    ),
    "FP8 scales": (added(bert__pooler__dense__weight_scale=ZEROS), "a quantiser"),
    "quantization_config": (
        config(quantization_config={"load_in_8bit": True}),
        "has quantization_config: the weights are quant",
    ),
    "adapters of PEFT": (added(bert__encoder__layer__0__lora_A__weight=ZEROS), "PEFT.*\n.*merge_and_unload"),
    "masks of torch": (renamed(lambda name: name.replace("classifier.weight", "classifier.weight_orig")), r"prune\.remove"),
    "weight norm": (renamed(lambda name: name.replace("classifier.weight", "classifier.weight_g")), "remove_weight_norm"),
    "one tensor twice": (weights(lambda held: {**held, QUERY[5:]: held[QUERY]}), "are the same tensor of the model"),
    "a norm twice": (added(bert__embeddings__LayerNorm__gamma=np.ones(32, np.float32)), "are the same tensor of the model"),
    "adapter beside": (put("adapter_config.json"), r"holds an adapter \(adapter_config.json\) beside a model"),
    "other weight file": (config(transformers_weights="other.safetensors"), "names another weight file"),
    "layers of their own": (config(per_layer_config={"1": {"hidden_act": "relu"}}), "gives layers settings of their own"),
    "encoder and decoder": (config(is_encoder_decoder=True), "is_encoder_decoder is true"),
    "epsilon that is none": (config(layer_norm_eps=float("nan")), "layer_norm_eps is NaN"),
    "padding beyond the table": (config(pad_token_id=10**6), "pad_token_id is 1000000, but the vocabulary has 104"),
    "heads that do not divide": (config(num_attention_heads=5), "hidden_size is 32, no multiple of num_attention_heads"),
    "sizes of a pruned model": (
        config(layer_heads=True),
        "has layer_heads, which only models of the type edgebert_pruned_bert",
    ),
    "yes for a number": (config(num_hidden_layers=True), "num_hidden_layers is true, not a whole number"),
    **{
        f"{name} of 10^12": (config(**{name: 10**12}), f"{part} has the shape .*asks for .*1000000000000")
        for name, part in (
            ("vocab_size", "word_embeddings.weight"),
            ("max_position_embeddings", "position_embeddings.weight"),
            ("type_vocab_size", "token_type_embeddings.weight"),
            ("hidden_size", "word_embeddings.weight"),
            ("intermediate_size", "intermediate.dense.weight"),
        )
    },
    "config of 5 MiB": (config(note="x" * (5 << 20)), "has more than 4 MiB"),
}


@pytest.mark.parametrize(("broken", "message"), REFUSED.values(), ids=REFUSED)
def test_weights_that_would_be_dropped_or_drawn_are_refused(broken: Break, message: str, model_dir: Path) -> None:
    broken(model_dir)
    with pytest.raises(SourceError) as refused:
        inspect_model(model_dir)
    assert re.search(message, str(refused.value), re.S), refused.value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"base_model.model.{name}",
        lambda name: f"model.{name}",
        lambda name: f"student.net.{name}",
        lambda name: name.replace("bert.encoder.", "bert._orig_mod.encoder."),
        lambda name: re.sub(r"(layer\.\d+)\.", r"\1._checkpoint_wrapped_module.", name),
    ],
)
def test_the_advice_for_wrapped_names_mends_them(wrap: Callable[[str], str], model_dir: Path, model_template: Path) -> None:
    renamed(wrap)(model_dir)
    with pytest.raises(SourceError) as refused:
        inspect_model(model_dir)
    code = re.search(r"(save_file\(.*\)), both of safetensors.torch", str(refused.value.hint))
    assert code, refused.value
    here = code[1].replace('"model.safetensors"', repr(str(model_dir / "model.safetensors")))
    exec(here, {"save_file": save_torch, "load_file": load_torch})
    assert inspect_model(model_dir).has_head(TASK)
    assert torch.equal(answers(model_dir), answers(model_template))


def test_the_advice_for_pruned_heads_gives_the_model_that_they_mean(model_template: Path, tmp_path: Path) -> None:
    everything = tuple(range(64))
    pruned = prune(load_model(model_template, TASK), {0: Units((0, 3), everything), 1: Units((1, 2, 3), everything)})
    save_model(pruned, tmp_path)
    copy_tokenizer(model_template, tmp_path)
    right = answers(tmp_path)
    former = json.loads((model_template / "config.json").read_text()) | {"pruned_heads": {"0": [1, 2], "1": [0]}}
    (tmp_path / "config.json").write_text(json.dumps(former))
    with pytest.raises(SourceError, match="has pruned_heads") as refused:
        inspect_model(tmp_path)
    sizes = json.loads("{" + str(refused.value.hint).partition("write ")[2].partition(", which is how")[0] + "}")
    assert sizes["layer_heads"] == [2, 3]
    del former["pruned_heads"]
    (tmp_path / "config.json").write_text(json.dumps(former | sizes))
    assert inspect_model(tmp_path).has_head(TASK)
    torch.testing.assert_close(answers(tmp_path), right)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source_layers": [0]}, "do not name a source for each of 2 layers"),
        ({"source_heads": [[0, 3], "12"]}, "do not name a source for each of 2 layers"),
        ({"source_heads": 3}, "do not name a source"),
        ({"source_num_hidden_layers": "2"}, "is not a whole number"),
        ({"layer_heads": [2, 10**12]}, "query.weight has the shape .* asks for"),
        ({"attention_head_size": 10**12}, "query.weight has the shape .* asks for"),
    ],
)
def test_a_pruned_model_of_strange_sizes_is_refused(
    changes: dict[str, Any], message: str, model_template: Path, tmp_path: Path
) -> None:
    pruned = prune(load_model(model_template, TASK), {0: Units((0, 3), (1, 2)), 1: Units((1,), (3, 4, 5))})
    save_model(pruned, tmp_path)
    copy_tokenizer(model_template, tmp_path)
    assert inspect_model(tmp_path).has_head(TASK)
    config(**changes)(tmp_path)
    with pytest.raises(SourceError, match=message):
        inspect_model(tmp_path)


def test_pruned_heads_of_weights_that_have_all_heads_are_to_be_removed(model_dir: Path) -> None:
    config(pruned_heads={"0": [1]})(model_dir)
    with pytest.raises(SourceError, match="Remove it: the weights have all heads"):
        inspect_model(model_dir)
    config(pruned_heads={})(model_dir)
    assert inspect_model(model_dir).has_head(TASK)


def in_type(kind: Any) -> Break:
    def broken(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_torch({name: value.to(kind) for name, value in load_torch(file).items()}, file, metadata={"format": "pt"})

    return broken


def sharded(folder: Path) -> None:
    held = load_file(folder / "model.safetensors")
    names = sorted(held)
    for number, part in enumerate((names[:9], names[9:])):
        save_file({name: held[name] for name in part}, folder / f"part-{number}.safetensors", metadata={"format": "pt"})
    place = {name: f"part-{int(index >= 9)}.safetensors" for index, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 10**30}, "weight_map": place}))
    (folder / "model.safetensors").unlink()


READ: dict[str, tuple[Break, float]] = {
    "former names": (
        renamed(lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")),
        0,
    ),
    "names without prefix": (renamed(lambda name: name.removeprefix("bert.")), 0),
    "head of pretraining": (added(cls__seq_relationship__weight=ZEROS, cls__predictions__bias=ZEROS[0]), 0),
    "position_ids": (added(bert__embeddings__position_ids=np.arange(64)[None]), 0),
    "FP64": (in_type(torch.float64), 0),
    "FP16": (in_type(torch.float16), 5e-2),
    "BF16": (in_type(torch.bfloat16), 5e-1),
    "shards, with an absurd size in the index": (sharded, 0),
    "a stale pickle beside": (put("pytorch_model.bin", "not a pickle"), 0),
    "a stale index beside": (put("model.safetensors.index.json", '{"weight_map": {"x": "x.safetensors"}}'), 0),
    "number and names of labels": (config(num_labels=7), 0),
    **{
        f"{name} in config.json": (config(**{name: value}), 0)
        for name, value in {
            "return_dict": False,
            "use_return_dict": False,
            "output_attentions": True,
            "output_hidden_states": True,
            "torchscript": True,
            "chunk_size_feed_forward": 3,
            "use_cache": False,
            "attention_probs_dropout_prob": 0.9,
            "torch_dtype": "float16",
            "dtype": "load",
            "_attn_implementation": "flash_attention_2",
            "attn_implementation": "flash_attention_2",
            "fusion_config": {"patch": True},
            "attribute_map": {"hidden_size": "vocab_size"},
            "temperature": -1,
            "is_decoder": False,
            "forward": None,
        }.items()
    },
}


@pytest.mark.parametrize(("change", "tolerance"), READ.values(), ids=READ)
def test_what_transformers_reads_as_the_same_model_gives_its_answers(
    change: Break, tolerance: float, model_dir: Path, model_template: Path
) -> None:
    change(model_dir)
    assert inspect_model(model_dir).has_head(TASK)
    found, right = answers(model_dir), answers(model_template)
    assert found.dtype == torch.float32
    assert float((found - right).abs().max()) <= tolerance * float(right.abs().max())


def test_weights_beyond_fp32_are_refused(model_dir: Path) -> None:
    in_type(torch.float64)(model_dir)
    weights(lambda held: held[QUERY].fill(1e300))(model_dir)
    with pytest.raises(SourceError, match=f"hold NaN or infinity, first in {QUERY}"):
        load_model(model_dir, TASK)


def test_a_base_encoder_is_a_start_for_finetune_and_no_teacher(encoder_template: Path) -> None:
    folder = inspect_model(encoder_template)
    assert folder.head_fault(TASK) == "the model was not fine-tuned for the task yet."
    assert load_model(encoder_template, TASK, ("a", "b", "c")).config.id2label == {0: "a", 1: "b", 2: "c"}
    with pytest.raises(SourceError, match=r"do not fit its config.json: classifier\.(bias|weight) is missing"):
        load_model(encoder_template, TASK)


def test_a_head_of_another_size_is_replaced_where_a_new_one_is_trained(model_template: Path) -> None:
    new = load_model(model_template, TASK, ("a", "b", "c"))
    assert new.classifier.out_features == 3 and new.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(("family", "head"), mix())
def test_the_tensors_of_a_family_are_those_of_transformers(family: Family, head: str) -> None:
    model = tiny_model(family, head)
    content = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    known = {**dict(encoder_shapes(family, content)), **head_shapes(family, content)}
    held = {plain_name(name, family): tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: shape for name, shape in held.items() if name in known} == known
    others = {name for ending in family.heads for name in head_shapes(family, content, ending)}  # under the same names
    assert all(unread(name, family) or name in others for name in set(held) - set(known))


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_the_head_of_another_task_is_named(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(family, "ForSequenceClassification", tmp_path)
    held = json.loads((folder / "config.json").read_text())
    name = held["architectures"][0].replace("Sequence", "Token")
    config(architectures=[name])(folder)
    with pytest.raises(SourceError, match=r"(pre_classifier|classifier\.dense)\.bias, which a model of its config.json has no"):
        inspect_model(folder)
    config(architectures=...)(folder)
    assert inspect_model(folder).has_head(TASK) and not inspect_model(folder).has_head(get_task("token-classification"))


def entry(shape: list[Any], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "entries",
    [
        {"a": entry([2], 0, 8), "b": entry([2], 4, 12)},
        {"a": entry([2], 0, 8), "b": entry([1], 12, 16)},
        {"a": entry([10**12], 0, 16)},
        {"a": entry([-2, -2], 0, 16)},
        {"a": entry([1] * 100_000 + [4], 0, 16)},
        {"a": entry([4], 0, 16, "F32x")},
        {"a": entry(["4"], 0, 16)},
        {"a": entry([4.0], 0, 16)},
        {"a": 3},
    ],
    ids=["overlap", "gap", "absurd", "negative", "dimensions", "type", "text", "float", "number"],
)
def test_a_header_that_does_not_fit_its_file_is_refused(entries: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(header(entries) + b"\0" * 16)
    with pytest.raises(SourceError, match="is not a whole safetensors file"):
        read_tensors(tmp_path)


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write((1 << 30).to_bytes(8, "little"))
        file.truncate(2 << 30)  # a hole: it takes no disk
    with pytest.raises(SourceError, match="is not a whole safetensors file"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda place: place.update(extra="part-0.safetensors"), "extra is not in part-0.safetensors"),
        (lambda place: place.pop("classifier.bias"), "classifier.bias is in part-1.safetensors, and the index does not say so"),
        (lambda place: place.update({"classifier.bias": "part-0.safetensors"}), "classifier.bias is in part-1.safetensors"),
        (lambda place: place.update({"x": "x" * 5000}), "which is not in the folder"),
        (lambda place: place.update({"x": "loop.safetensors"}), "loop.safetensors, which is not in the folder"),
        (lambda place: place.update({"x": "twice.safetensors"}), "is in part-0.safetensors and in twice.safetensors"),
    ],
    ids=["missing", "unnamed", "elsewhere", "endless name", "loop", "twice"],
)
def test_an_index_that_does_not_fit_the_shards_is_refused(
    change: Callable[[dict[str, str]], object], message: str, model_dir: Path
) -> None:
    sharded(model_dir)
    (model_dir / "loop.safetensors").symlink_to("loop.safetensors")
    shutil.copyfile(model_dir / "part-0.safetensors", model_dir / "twice.safetensors")
    index = model_dir / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))
    with pytest.raises(SourceError, match=message):
        inspect_model(model_dir)


def test_the_folder_of_an_adapter_says_how_to_merge_it(tmp_path: Path) -> None:
    put("adapter_config.json")(tmp_path)
    with pytest.raises(SourceError, match=r"which is not a whole model\.\n.*merge_and_unload"):
        inspect_model(tmp_path)
